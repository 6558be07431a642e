package homeproxy

import (
	"bytes"
	"encoding/binary"

	"mosix/internal/mem"
)

// Exec is a program that a guest wants executed: execve, or execveat.
type Exec struct {
	Dir   int32 // of execveat, or AT_FDCWD
	Path  []byte
	Argv  [][]byte // nil: the pointer is NULL
	Envp  [][]byte
	Flags uint32 // of execveat
	Heard uint64 // the last signal from home that has reached the guest
	Mask  uint64 // of its thread
}

const (
	nrExecve   = 59
	nrExecveat = 322
	atFDCWD    = -100
	maxArgs    = 0x800000 / 8 // more strings than the kernel takes
)

// GatherExec reads the arguments of execve or execveat out of the guest's memory. With errno 0 and ok false they are more than limit
// bytes, and must be given to the kernel at home by the process itself.
func GatherExec(nr uint32, args [6]uint64, m Memory, limit int) (e Exec, errno int, ok bool) {
	e.Dir = atFDCWD
	if nr == nrExecveat {
		e.Dir, e.Flags = int32(args[0]), uint32(args[4])
		copy(args[:], args[1:4])
	}
	left := limit
	if e.Path, errno, ok = readString(m, mem.Addr(args[0]), maxPath, &left); errno != 0 || !ok {
		if errno == 0 && left > 0 {
			errno = enametoolong
		}
		return e, errno, false
	}
	for i, into := range []*[][]byte{&e.Argv, &e.Envp} {
		if args[1+i] == 0 {
			continue
		}
		if *into, errno, ok = readStrings(m, mem.Addr(args[1+i]), &left); errno != 0 || !ok {
			return e, errno, false
		}
	}
	return e, 0, true
}

// readString reads a string that ends with a NUL within most bytes. left is what may still be read in all.
func readString(m Memory, a mem.Addr, most int, left *int) (s []byte, errno int, ok bool) {
	for len(s) < most && *left > 0 {
		b := make([]byte, min(mem.PageSize-int(a&(mem.PageSize-1)), most-len(s)))
		n, err := m.ReadMemory(a, b)
		if err != nil || n == 0 {
			return s, efault, false
		}
		*left -= n
		if i := bytes.IndexByte(b[:n], 0); i >= 0 {
			*left += n - i
			return append(s, b[:i]...), 0, true
		}
		s = append(s, b[:n]...)
		a += mem.Addr(n)
	}
	return s, 0, false
}

func readStrings(m Memory, a mem.Addr, left *int) (out [][]byte, errno int, ok bool) {
	out = [][]byte{}
	for ; len(out) < maxArgs; a += 8 {
		var p [8]byte
		if n, err := m.ReadMemory(a, p[:]); err != nil || n != len(p) {
			return out, efault, false
		}
		at := binary.LittleEndian.Uint64(p[:])
		if at == 0 {
			return out, 0, true
		}
		*left -= 8
		s, errno, ok := readString(m, mem.Addr(at), *left, left)
		if errno != 0 || !ok {
			return out, errno, false
		}
		out = append(out, s)
	}
	return out, 0, false
}

// Request is e as it travels.
func (e Exec) Request() Request {
	count := func(s [][]byte) uint64 {
		if s == nil {
			return ^uint64(0)
		}
		return uint64(len(s))
	}
	join := func(s [][]byte) (b []byte) {
		for _, x := range s {
			b = append(append(b, x...), 0)
		}
		return b
	}
	return Request{Nr: nrExecveat, Args: [6]uint64{uint64(e.Dir), count(e.Argv), count(e.Envp), uint64(e.Flags), e.Heard}, Mask: e.Mask,
		In: []Blob{{Data: e.Path}, {Data: join(e.Argv)}, {Data: join(e.Envp)}}}
}

// ParseExec reads a request that came from a host.
func ParseExec(r Request) (e Exec, ok bool) {
	if r.Nr != nrExecveat || len(r.In) != 3 || bytes.IndexByte(r.In[0].Data, 0) >= 0 {
		return e, false
	}
	e = Exec{Dir: int32(r.Args[0]), Path: r.In[0].Data, Flags: uint32(r.Args[3]), Heard: r.Args[4], Mask: r.Mask}
	for i, into := range []*[][]byte{&e.Argv, &e.Envp} {
		n, b := r.Args[1+i], r.In[1+i].Data
		if n == ^uint64(0) && len(b) == 0 {
			continue
		}
		if uint64(bytes.Count(b, []byte{0})) != n || len(b) > 0 && b[len(b)-1] != 0 {
			return e, false
		}
		*into = [][]byte{}
		for len(b) > 0 {
			j := bytes.IndexByte(b, 0)
			*into = append(*into, b[:j])
			b = b[j+1:]
		}
	}
	return e, true
}

// Lay writes what the call points to, for a process that has it at base, and returns the registers of execveat; ok is false when it
// is more than size bytes.
func (e Exec) Lay(base mem.Addr, size int) (b []byte, args [6]uint64, ok bool) {
	add := func(s []byte) uint64 {
		at := uint64(base) + uint64(len(b))
		b = append(append(b, s...), 0)
		return at
	}
	args = [6]uint64{uint64(int64(e.Dir)), add(e.Path), 0, 0, uint64(e.Flags)}
	var vectors [2][]uint64
	for i, from := range [][][]byte{e.Argv, e.Envp} {
		for _, s := range from {
			vectors[i] = append(vectors[i], add(s))
		}
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	for i, from := range [][][]byte{e.Argv, e.Envp} {
		if from == nil {
			continue
		}
		args[2+i] = uint64(base) + uint64(len(b))
		for _, p := range append(vectors[i], 0) {
			b = binary.LittleEndian.AppendUint64(b, p)
		}
	}
	return b, args, len(b) <= size
}
