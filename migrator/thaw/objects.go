package thaw

import (
	"fmt"
	"os"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// standIn is what a guest that is being made has in place of an object of its home: a memfd of the object's size and, as far as
// the process has it mapped, of its content. Areas are mapped from it as they were from the object; so advice, growth, faults
// behind the end, and what is at last left of a file's memory are the kernel's business as they are at home.
type standIn struct {
	fds    map[*Guest]int // in each guest that has parts of it, until it is complete
	f      *os.File       // the same here
	size   uint64
	sealed bool
}

// standIn finds or makes the stand-in of o, and returns its descriptor in the guest. A family has one for each object.
func (g *Guest) standIn(o image.Object) (*standIn, int, error) {
	l := g.P.Leader()
	s := g.objects[o]
	if s != nil {
		if fd, ok := s.fds[g]; ok {
			return s, fd, nil
		}
		for other, fd := range s.fds { // any of them will do
			got, err := takeFD(l, other.Plan.Process.PID, fd)
			if err == nil {
				s.fds[g] = got
			}
			return s, got, err
		}
	}
	at, b := scratchAt(g.P, 0)
	copy(b, append([]byte(image.StandInName(o)), 0))
	const cloexecSealing = 1 | 2
	fd, err := l.MustCall("memfd_create", abi.SysMemfdCreate, at, cloexecSealing)
	if err != nil {
		return nil, 0, err
	}
	f, err := kern.PidfdGetfd(g.P.Pidfd, int(fd), image.StandInName(o))
	if err != nil {
		return nil, 0, err
	}
	s = &standIn{fds: map[*Guest]int{g: int(fd)}, f: f}
	if g.objects == nil {
		g.objects = map[image.Object]*standIn{}
	}
	g.objects[o] = s
	return s, int(fd), nil
}

// takeFD makes the held thread t take over the descriptor fd of another process of its namespace.
func takeFD(t *tracer.Thread, from id.HomePID, fd int) (int, error) {
	pidfd, err := t.MustCall("pidfd_open", abi.SysPidfdOpen, uint64(from), 0)
	if err != nil {
		return 0, err
	}
	got, err := t.MustCall("pidfd_getfd", abi.SysPidfdGetfd, pidfd, uint64(fd), 0)
	if err != nil {
		return 0, err
	}
	_, err = t.MustCall("close", abi.SysClose, pidfd)
	return int(got), err
}

// File takes the size of an object, and a part of its content.
func (g *Guest) File(o image.Object, size, off uint64, data []byte) error {
	if size > 1<<62 || off > 1<<62 {
		return fmt.Errorf("an object of the guest of %v has %d bytes, and more at %d", g.Plan.Process, size, off)
	}
	s, fd, err := g.standIn(o)
	if err != nil {
		return err
	}
	if size != s.size {
		if err := s.f.Truncate(int64(size)); err != nil {
			return fmt.Errorf("size what stands for an object of the guest of %v: %w", g.Plan.Process, err)
		}
		s.size = size
	}
	// The guest writes it itself, so that it is the guest's cgroup that pays.
	at, b := scratchAt(g.P, 0)
	for len(data) > 0 {
		n := copy(b[:stub.ScratchSize], data)
		put, err := g.P.Leader().MustCall("pwrite64", abi.SysPwrite64, uint64(fd), at, uint64(n), off)
		if err != nil {
			return err
		}
		if int(put) != n {
			return fmt.Errorf("no room for what the guest of %v has of files: %w", g.Plan.Process, kern.ENOMEM)
		}
		data, off = data[n:], off+uint64(n)
	}
	return nil
}

// mapCall makes a in the guest, in place of whatever is there, so that pages can be put in. What only shows a file is mapped
// privately at first: leaveObjects shares it, when its content is complete.
func (g *Guest) mapCall(a image.Area) (stub.Call, error) {
	if !a.File {
		return mapCall(a, open(a)), nil
	}
	s, fd, err := g.standIn(a.Object)
	if err != nil {
		return stub.Call{}, err
	}
	if s.size == 0 { // the source could not tell yet
		if err := g.File(a.Object, a.Offset+a.Len(), 0, nil); err != nil {
			return stub.Call{}, err
		}
	}
	flags, prot := uint64(abi.MapPrivate|abi.MapFixed), uint64(open(a))
	if a.Advice.Has(image.NoReserve) {
		flags |= abi.MapNoReserve
	}
	switch {
	case a.Fixed():
		prot = uint64(a.Prot)
	case a.Shared:
		flags ^= abi.MapPrivate | abi.MapShared
	}
	return tracer.NewCall(abi.SysMmap, uint64(a.Start), a.Len(), prot, flags, uint64(fd), a.Offset), nil
}

// layoutCalls makes the guest's areas those of want; what was there before and is the same memory stays.
func (g *Guest) layoutCalls(want []image.Area) ([]stub.Call, error) {
	calls := unmapCalls(g.areas, want)
	for _, p := range pieces(g.areas, want) {
		switch {
		case !p.stays():
			c, err := g.mapCall(p.Area)
			if err != nil {
				return nil, err
			}
			calls = append(calls, c)
		case p.cur.Prot != p.Prot && p.Fixed():
			calls = append(calls, tracer.NewCall(abi.SysMprotect, uint64(p.Start), p.Len(), uint64(p.Prot)))
		case p.cur.Prot != p.Prot:
			calls = append(calls, tracer.NewCall(abi.SysMprotect, uint64(p.Start), p.Len(), uint64(open(p.Area))))
		}
	}
	return calls, nil
}

// leaveObjects completes the areas: those that show a file the process shares are mapped so, from something that nobody can
// write any more; the advice of the process is followed; the descriptors go.
func (g *Guest) leaveObjects(l *tracer.Thread) error {
	var calls, advice, locks []stub.Call
	for _, a := range g.areas {
		if a.Fixed() {
			s := g.objects[a.Object]
			if !s.sealed {
				if err := kern.SealWrites(s.f); err != nil {
					return err
				}
				s.sealed = true
			}
			calls = append(calls, tracer.NewCall(abi.SysMmap, uint64(a.Start), a.Len(), uint64(a.Prot), abi.MapShared|abi.MapFixed, uint64(s.fds[g]), a.Offset))
		}
		if a.Advice.Has(image.Locked) {
			const onFault = 1
			locks = append(locks, tracer.NewCall(abi.SysMlock2, uint64(a.Start), a.Len(), onFault))
		}
		advice = append(advice, adviceCalls(a.Range, image.AdviceKnown|a.Advice&image.Locked, a.Advice)...)
	}
	calls = append(calls, tracer.NewCall(abi.SysCloseRange, 0, uint64(^uint32(0)), 0))
	if _, err := l.MustBatch("what stands for files", calls); err != nil {
		return err
	}
	if _, err := l.MustBatch("as much locked memory as the process has", locks); err != nil {
		return err
	}
	_, err := l.Batch(advice) // one that this kernel does not know changes nothing that can be seen
	return err
}

func (n *Nest) closeObjects() {
	for _, s := range n.objects {
		s.f.Close()
	}
	n.objects = nil
}

// inObject returns where r, a part of the area a, lies in its object.
func inObject(a image.Area, r mem.Range) mem.Range {
	off := mem.Addr(a.At(r).Offset)
	return mem.Range{Start: off, End: off + mem.Addr(r.Len())}
}
