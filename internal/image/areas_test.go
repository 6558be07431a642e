package image

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"mosix/internal/mem"
	"mosix/internal/pack"
)

func r(start, end mem.Addr) mem.Range { return mem.Range{Start: start, End: end} }

// TestParseMaps reads lines as kernels write them, each by itself.
func TestParseMaps(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       []Area
		vvar       mem.Addr
	}{
		{"text of a file", "55d0a2b3c000-55d0a2b3d000 r-xp 00001000 fd:01 1234 /usr/bin/cat",
			[]Area{{Range: r(0x55d0a2b3c000, 0x55d0a2b3d000), Prot: 5, File: true, Name: "/usr/bin/cat"}}, 0},
		{"padded, as the kernel does", "00400000-00401000 r--p 00000000 08:02 1                          /bin/a",
			[]Area{{Range: r(0x400000, 0x401000), Prot: 1, File: true, Name: "/bin/a"}}, 0},
		{"no name", "7f0000000000-7f0000002000 rw-p 00000000 00:00 0 ",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3}}, 0},
		{"no name, no blank", "7f0000000000-7f0000002000 rw-p 00000000 00:00 0",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3}}, 0},
		{"no access", "7f0000000000-7f0000002000 ---p 00000000 00:00 0 ",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000)}}, 0},
		{"everything", "7f0000000000-7f0000002000 rwxp 00000000 00:00 0 ",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 7}}, 0},
		{"heap", "01a5e000-01a7f000 rw-p 00000000 00:00 0                                  [heap]",
			[]Area{{Range: r(0x1a5e000, 0x1a7f000), Prot: 3, Name: "[heap]"}}, 0},
		{"stack", "7ffc1a2b3000-7ffc1a2d4000 rw-p 00000000 00:00 0                          [stack]",
			[]Area{{Range: r(0x7ffc1a2b3000, 0x7ffc1a2d4000), Prot: 3, GrowsDown: true, Name: "[stack]"}}, 0},
		{"named by the program", "7f0000000000-7f0000002000 rw-p 00000000 00:00 0                          [anon:[stack] of mine]",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3, Name: "[anon:[stack] of mine]"}}, 0},
		{"named as the kernel's", "7f0000000000-7f0000002000 rw-p 00000000 00:00 0                          [anon:vdso]",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3, Name: "[anon:vdso]"}}, 0},
		{"shared anonymous", "7f0000000000-7f0000002000 rw-s 00000000 00:01 2054                       /dev/zero (deleted)",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3, Shared: true, File: true, Name: "/dev/zero (deleted)"}}, 0},
		{"blanks in the name", "7f0000000000-7f0000002000 r--p 00000000 fd:01 77   /home/a b/c  d (deleted)",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 1, File: true, Name: "/home/a b/c  d (deleted)"}}, 0},
		{"blank at the end of the name", "7f0000000000-7f0000002000 r--p 00000000 fd:01 77   /tmp/a ",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 1, File: true, Name: "/tmp/a "}}, 0},
		{"newline in the name", `7f0000000000-7f0000002000 r--p 00000000 fd:01 77   /tmp/a\012[stack]`,
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 1, File: true, Name: `/tmp/a\012[stack]`}}, 0},
		{"file called as the stack", "7f0000000000-7f0000002000 rw-p 00000000 fd:01 77   /tmp/[stack]",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3, File: true, Name: "/tmp/[stack]"}}, 0},
		{"memfd", "7f0000000000-7f0000002000 rw-s 00000000 00:01 5   /memfd:[vdso] (deleted)",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3, Shared: true, File: true, Name: "/memfd:[vdso] (deleted)"}}, 0},
		{"inode of a file, which begins with a zero", "7f0000000000-7f0000002000 rw-p 00000000 00:2d 0123   /tmp/a",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3, File: true, Name: "/tmp/a"}}, 0},
		{"a device without a path", "7f0000000000-7f0000002000 rw-s 00000000 00:0e 12   anon_inode:[vfio-device]",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3, Shared: true, File: true, Name: "[vfio-device]"}}, 0},
		{"the first System V segment", "7f0000000000-7f0000002000 rw-s 00000000 00:01 0   /SYSV00000000 (deleted)",
			[]Area{{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 3, Shared: true, File: true, Name: "/SYSV00000000 (deleted)"}}, 0},
		{"vvar", "7ffc1a3f0000-7ffc1a3f4000 r--p 00000000 00:00 0                          [vvar]", nil, 0x7ffc1a3f0000},
		{"vvar_vclock", "7ffc1a3f4000-7ffc1a3f6000 r--p 00000000 00:00 0                          [vvar_vclock]", nil, 0x7ffc1a3f4000},
		{"vdso", "7ffc1a3f6000-7ffc1a3f8000 r-xp 00000000 00:00 0                          [vdso]", nil, 0x7ffc1a3f6000},
		{"vsyscall", "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]", nil, 0},
		{"empty", "", nil, 0},
		{"no addresses", "rw-p 00000000 00:00 0", nil, 0},
		{"no end", "7f0000000000- rw-p 00000000 00:00 0", nil, 0},
		{"not hexadecimal", "7f000000000g-7f0000002000 rw-p 00000000 00:00 0", nil, 0},
		{"cut off", "7f0000000000-7f0000002000 rw", nil, 0},
		{"more than 64 bits", "17f00000000000000-17f00000000002000 rw-p 00000000 00:00 0", nil, 0},
	} {
		for _, end := range []string{"", "\n"} {
			as, vvar := ParseMaps([]byte(c.line+end), mem.Range{})
			for i := range as { // of TestParseObjects
				if as[i].File != (as[i].Object != Object{}) {
					t.Errorf("%s: %+v", c.name, as[i])
				}
				as[i].Object, as[i].Offset = Object{}, 0
			}
			if !reflect.DeepEqual(as, c.want) || vvar != c.vvar {
				t.Errorf("%s: %q\ngot  %+v, vvar %#x\nwant %+v, vvar %#x", c.name, c.line, as, uint64(vvar), c.want, uint64(c.vvar))
			}
		}
	}
}

// TestParseMapsWhole reads a whole file: the kernel's own areas begin at the first of them, and ours is left out.
func TestParseMapsWhole(t *testing.T) {
	const maps = `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
100000000000-100000002000 r-xs 00000000 00:01 9   /memfd:mosix-shadow (deleted)
100000002000-100000500000 rw-s 00002000 00:01 9   /memfd:mosix-shadow (deleted)
7ffd2a1c0000-7ffd2a1e1000 rw-p 00000000 00:00 0   [stack]
7ffd2a1f2000-7ffd2a1f6000 r--p 00000000 00:00 0   [vvar]
7ffd2a1f6000-7ffd2a1f8000 r--p 00000000 00:00 0   [vvar_vclock]
7ffd2a1f8000-7ffd2a1fa000 r-xp 00000000 00:00 0   [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]
`
	as, vvar := ParseMaps([]byte(maps), r(0x100000000000, 0x100000500000))
	var names []string
	for _, a := range as {
		names = append(names, a.Name)
	}
	want := []string{"/usr/bin/dbus-daemon", "/usr/bin/dbus-daemon", "[heap]", "[stack]"}
	if !reflect.DeepEqual(names, want) || vvar != 0x7ffd2a1f2000 {
		t.Errorf("got %q, vvar %#x", names, uint64(vvar))
	}
	if err := CheckAreas(as); err != nil {
		t.Error(err)
	}
}

// TestParseObjects: an area of a file says where in which file it lies, and smaps says what was advised for it.
func TestParseObjects(t *testing.T) {
	as, _ := ParseMaps([]byte(`7f0000000000-7f0000002000 r--s 00003000 fd:01 1234 /tmp/a
Size:                  8 kB
VmFlags: rd mr me ms sd
7f0000002000-7f0000004000 rw-p 00000000 00:00 0
VmFlags: rd wr mr mw me gd nr dc wf dd hg rr lo
100000000000-100000002000 rw-p 00000000 00:01 9   /memfd:mosix-shadow (deleted)
VmFlags: rd dc
7f0000008000-7f0000009000 rw-s 00001000 00:01 99 /memfd:mosix-of:fd00000001:1234 (deleted)
`), r(0x100000000000, 0x100000002000))
	AtHome(as)
	want := []Area{
		{Range: r(0x7f0000000000, 0x7f0000002000), Prot: 1, Shared: true, File: true, Name: "/tmp/a", Object: Object{0xfd00000001, 1234}, Offset: 0x3000, Advice: AdviceKnown},
		{Range: r(0x7f0000002000, 0x7f0000004000), Prot: 3, GrowsDown: true,
			Advice: AdviceKnown | MayWrite | NoReserve | DontFork | WipeOnFork | DontDump | HugePage | Random | Locked},
		{Range: r(0x7f0000008000, 0x7f0000009000), Prot: 3, Shared: true, File: true, Object: Object{0xfd00000001, 1234}, Offset: 0x1000},
	}
	if !reflect.DeepEqual(as, want) {
		t.Errorf("got  %+v\nwant %+v", as, want)
	}
	if !as[0].Fixed() || as[1].Fixed() || as[2].Fixed() {
		t.Error("what can be read only, and is shared, is the object's")
	}
	if o, ok := StandsFor("/memfd:" + StandInName(Object{0xfd00000001, 77}) + " (deleted)"); !ok || o != (Object{0xfd00000001, 77}) {
		t.Errorf("a stand-in's name reads as %v, %v", o, ok)
	}
	for _, name := range []string{"/memfd:mosix-of:0:0 (deleted)", "/memfd:mosix-of: (deleted)", "/memfd:mosix-of:1 (deleted)", "/tmp/mosix-of:1:1", ""} {
		if o, ok := StandsFor(name); ok {
			t.Errorf("%q stands for %v", name, o)
		}
	}
}

// TestSame: the same memory is told from other memory at the same place.
func TestSame(t *testing.T) {
	anon := Area{Range: r(0x1000, 0x9000)}
	file := Area{Range: r(0x1000, 0x9000), File: true, Object: Object{1, 2}, Offset: 0x5000}
	later := Area{Range: r(0x3000, 0x5000), File: true, Object: Object{1, 2}, Offset: 0x7000}
	with := func(a Area, f func(*Area)) Area { f(&a); return a }
	for _, c := range []struct {
		name string
		a, b Area
		want bool
	}{
		{"anonymous", anon, anon, true}, {"part of a file", file, later, true}, {"file and anonymous", file, anon, false},
		{"another part", file, with(later, func(a *Area) { a.Offset += 0x1000 }), false},
		{"another file", file, with(later, func(a *Area) { a.Object.Inode++ }), false},
		{"shared", file, with(later, func(a *Area) { a.Shared = true }), false},
		{"grows", anon, with(anon, func(a *Area) { a.GrowsDown = true }), false},
		{"not reserved", with(anon, func(a *Area) { a.Advice = AdviceKnown }), with(anon, func(a *Area) { a.Advice = AdviceKnown | NoReserve }), false},
		{"nobody knows", anon, with(anon, func(a *Area) { a.Advice = AdviceKnown | NoReserve }), true},
		{"other protection and advice", with(anon, func(a *Area) { a.Prot, a.Advice = 3, AdviceKnown|DontFork }), with(anon, func(a *Area) { a.Advice = AdviceKnown }), true},
	} {
		if got := c.a.Same(c.b, r(0x3000, 0x5000)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestParseMapsOfThisProgram: what the running kernel writes is understood, line by line.
func TestParseMapsOfThisProgram(t *testing.T) {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	as, vvar := ParseMaps(b, mem.Range{})
	if err := CheckAreas(as); err != nil {
		t.Error(err)
	}
	kernels := strings.Count(string(b), "[vvar") + strings.Count(string(b), "[vdso]") + strings.Count(string(b), "[vsyscall]")
	if n := strings.Count(string(b), "\n"); len(as)+kernels != n {
		t.Errorf("%d lines, of which %d are the kernel's, give %d areas", n, kernels, len(as))
	}
	if want := strings.Contains(string(b), "[vdso]"); (vvar != 0) != want {
		t.Errorf("vvar is at %#x, [vdso] is there: %v", uint64(vvar), want)
	}
	a := Find(as, mem.Addr(reflect.ValueOf(TestParseMaps).Pointer()))
	if a == nil || a.Prot != 5 || !a.File || a.Shared || a.Writable() {
		t.Errorf("the code of this test is in %+v", a)
	}
}

// FuzzParseMaps: whatever stands there, nothing panics, no line gives two areas, and the areas travel.
func FuzzParseMaps(f *testing.F) {
	if b, err := os.ReadFile("/proc/self/maps"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("1000-2000 rw-p\n2000-1000 rw-p 0 0 0 [v\n-\n0-0 ----"))
	f.Fuzz(func(t *testing.T, b []byte) {
		as, _ := ParseMaps(b, mem.Range{})
		if n := strings.Count(string(b), "\n") + 1; len(as) > n {
			t.Errorf("%d lines gave %d areas", n, len(as))
		}
		w := &pack.Writer{}
		EncodeAreas(w, as)
		if got := DecodeAreas(pack.NewReader(w.B)); len(got) != len(as) || len(as) > 0 && !reflect.DeepEqual(got, as) {
			t.Errorf("%+v travels as %+v", as, got)
		}
	})
}
