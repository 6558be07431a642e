package homeproxy

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"mosix/internal/mem"
)

// flat is memory of a few pages from base on; what lies beyond cannot be read.
type flat struct {
	base mem.Addr
	b    []byte
}

func (f *flat) ReadMemory(a mem.Addr, b []byte) (int, error) {
	if a < f.base || a >= f.base+mem.Addr(len(f.b)) {
		return 0, errFault
	}
	return copy(b, f.b[a-f.base:]), nil
}

func (f *flat) WriteMemory(mem.Addr, []byte) (int, error) { return 0, errFault }

func (f *flat) put(s string) uint64 {
	at := uint64(f.base) + uint64(len(f.b))
	f.b = append(append(f.b, s...), 0)
	return at
}

func (f *flat) vector(ps ...uint64) uint64 {
	for len(f.b)%8 != 0 {
		f.b = append(f.b, 0)
	}
	at := uint64(f.base) + uint64(len(f.b))
	for _, p := range append(ps, 0) {
		f.b = binary.LittleEndian.AppendUint64(f.b, p)
	}
	return at
}

type fault struct{}

func (fault) Error() string { return "no memory there" }

var errFault = fault{}

func TestExecTravels(t *testing.T) {
	m := &flat{base: 0x10ff0}
	path := m.put("/bin/sh")
	argv := m.vector(m.put("sh"), m.put("-c"), m.put(""), m.put(string(bytes.Repeat([]byte{'x'}, 9000))))
	envp := m.vector(m.put("A=b"))
	e, errno, ok := GatherExec(nrExecve, [6]uint64{path, argv, envp}, m, 1<<16)
	if errno != 0 || !ok {
		t.Fatalf("errno %d, %t", errno, ok)
	}
	e.Heard, e.Mask = 7, 9
	got, ok := ParseExec(e.Request())
	if !ok || !reflect.DeepEqual(got.Request(), e.Request()) {
		t.Errorf("home reads %d arguments of %s, want %d of %s", len(got.Argv), got.Path, len(e.Argv), e.Path)
	}
	// What is laid out at home reads the same there.
	b, args, ok := got.Lay(0x40000, 1<<16)
	if !ok || int32(args[0]) != atFDCWD {
		t.Fatalf("%#x, %t", args, ok)
	}
	again, errno, ok := GatherExec(nrExecveat, args, &flat{base: 0x40000, b: b}, 1<<16)
	again.Heard, again.Mask = 7, 9
	if errno != 0 || !ok || !reflect.DeepEqual(again.Request(), e.Request()) {
		t.Errorf("errno %d: it reads %d arguments of %s", errno, len(again.Argv), again.Path)
	}
	if _, _, ok := got.Lay(0x40000, 9000); ok {
		t.Error("more was laid out than there is room for")
	}
}

func TestExecThatCannotTravel(t *testing.T) {
	m := &flat{base: 0x10000}
	path := m.put("/bin/sh")
	long := m.put(string(bytes.Repeat([]byte{'x'}, 5000)))
	argv := m.vector(path, long)
	hole := m.vector(path, 0x99)
	m.b = append(m.b, 'e', 'n', 'd')
	for what, c := range map[string]struct {
		args  [6]uint64
		limit int
		errno int
	}{
		"no path":             {[6]uint64{0x99, argv, 0}, 1 << 16, efault},
		"a path that is long": {[6]uint64{long, argv, 0}, 1 << 16, enametoolong},
		"a path without end":  {[6]uint64{uint64(m.base) + uint64(len(m.b)) - 3, argv, 0}, 1 << 16, efault},
		"no vector":           {[6]uint64{path, 0x99, 0}, 1 << 16, efault},
		"no argument":         {[6]uint64{path, hole, 0}, 1 << 16, efault},
		"too much":            {[6]uint64{path, argv, 0}, 3000, 0},
	} {
		if e, errno, ok := GatherExec(nrExecve, c.args, m, c.limit); ok || errno != c.errno {
			t.Errorf("%s: %+v, errno %d, %t", what, e, errno, ok)
		}
	}
	if e, errno, ok := GatherExec(nrExecve, [6]uint64{path, 0, 0}, m, 1<<16); errno != 0 || !ok || e.Argv != nil || e.Envp != nil {
		t.Errorf("NULL for both vectors: %+v, errno %d, %t", e, errno, ok)
	}
}

func FuzzParseExec(f *testing.F) {
	good := Exec{Dir: 3, Path: []byte("p"), Argv: [][]byte{[]byte("a"), {}}, Envp: nil}.Request()
	f.Add(good.Args[1], good.Args[2], []byte("p"), good.In[1].Data, good.In[2].Data)
	f.Add(uint64(2), uint64(1), []byte(""), []byte("a\x00"), []byte("b"))
	f.Fuzz(func(t *testing.T, argc, envc uint64, path, argv, envp []byte) {
		r := Request{Nr: nrExecveat, Args: [6]uint64{0, argc, envc}, In: []Blob{{Data: path}, {Data: argv}, {Data: envp}}}
		e, ok := ParseExec(r)
		if !ok {
			return
		}
		b, args, fits := e.Lay(0x1000, 1<<20)
		if !fits {
			return
		}
		for _, p := range args[1:4] {
			if p != 0 && (p < 0x1000 || p >= 0x1000+uint64(len(b))) {
				t.Errorf("a pointer leads out: %#x", p)
			}
		}
	})
}
