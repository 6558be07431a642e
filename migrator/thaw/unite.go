package thaw

import (
	"fmt"
	"os"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/migrator/pages"
)

// What a program has made by one mmap is one area to the kernel, and calls such as mremap want one. Where the process had other areas before,
// with pages of their own, the kernel cannot join them to one again: each keeps where its pages are found (anon_vma).

// divided lists the areas of want that were put together of several parts, and so may not be one.
func divided(cur, want []image.Area) (out []image.Area) {
	for i, ps := 0, pieces(cur, want); i < len(ps); {
		n, stays := i, false
		a := image.Find(want, ps[i].Start)
		for ; n < len(ps) && ps[n].Start < a.End; n++ {
			stays = stays || ps[n].stays()
		}
		if n-i > 1 && stays && !a.File && !a.Shared && !a.GrowsDown && !a.Advice.Has(image.Locked) {
			out = append(out, *a)
		}
		i = n
	}
	return out
}

// unite makes those of the areas, which are private memory of the held process, one area each that the kernel keeps in several parts: they are
// mapped anew, and their pages carried over. Who asks had them made of the parts.
func unite(p *tracer.Process, l *tracer.Thread, areas []image.Area) error {
	if len(areas) == 0 {
		return nil
	}
	cur, err := areasOf(p)
	if err != nil {
		return err
	}
	pm, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.PID))
	if err != nil {
		return fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	defer pm.Close()
	for _, a := range areas {
		c := image.Find(cur, a.Start)
		if c == nil || c.Start > a.Start || c.End >= a.End {
			continue // it is one
		}
		if err := remap(p, l, pm, a, c.Prot); err != nil {
			return fmt.Errorf("make %v one area again: %w", a.Range, err)
		}
	}
	return nil
}

// remap maps a anew, with what it holds.
func remap(p *tracer.Process, l *tracer.Thread, pm *os.File, a image.Area, prot uint8) error {
	rs, err := pages.Own(pm, a, a.Range)
	if err != nil {
		return err
	}
	const rw = abi.ProtRead | abi.ProtWrite
	spare, err := l.MustCall("mmap", abi.SysMmap, 0, a.Len(), rw, abi.MapPrivate|abi.MapAnonymous|abi.MapNoReserve, ^uint64(0), 0)
	if err != nil {
		return err
	}
	there := mem.Addr(spare)
	if err := carry(p, rs, a.Start, there); err != nil {
		return err
	}
	calls := []stub.Call{mapCall(a, rw)}
	if _, err := l.MustBatch("map an area anew", calls); err != nil {
		return err
	}
	back := make([]mem.Range, len(rs))
	for i, r := range rs {
		back[i] = mem.Range{Start: r.Start - a.Start + there, End: r.End - a.Start + there}
	}
	if err := carry(p, back, there, a.Start); err != nil {
		return err
	}
	calls = append(calls[:0], tracer.NewCall(abi.SysMunmap, uint64(there), a.Len()), tracer.NewCall(abi.SysMprotect, uint64(a.Start), a.Len(), uint64(prot)))
	if _, err := l.MustBatch("end mapping an area anew", calls); err != nil {
		return err
	}
	_, err = l.Batch(adviceCalls(a.Range, image.AdviceKnown, a.Advice)) // what this kernel does not know it did not know before
	return err
}

// carry copies the pages rs, which lie behind from, to behind to.
func carry(p *tracer.Process, rs []mem.Range, from, to mem.Addr) error {
	b := make([]byte, 1<<20)
	for _, r := range rs {
		for at := r.Start; at < r.End; {
			n := min(int(r.End-at), len(b))
			if _, err := p.Mem.ReadAt(b[:n], int64(at)); err != nil {
				return err
			}
			if _, err := p.Mem.WriteAt(b[:n], int64(at-from+to)); err != nil {
				return err
			}
			at += mem.Addr(n)
		}
	}
	return nil
}
