package thaw

import (
	"fmt"
	"os"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/migrator/pages"
)

// homeLayout makes the areas of a held shadow those of an image. What is the same memory stays where it is. Anonymous memory is
// made; what is a part of an object is taken from an area that shows it, for while its process is away a shadow loses none.
type homeLayout struct {
	p     *tracer.Process
	l     *tracer.Thread
	shelf *pages.Shelf

	cur    []image.Area
	stage  []stub.Call // copies of parts of objects, out of the way
	place  []stub.Call // the areas
	advice []stub.Call
	last   []stub.Call // when the pages are in place: only while a shared area may be written by the process can it be from outside
	room   mem.Addr    // where copies go
	locked []mem.Range
	parts  []image.Area // of want, that were made of several
}

// layOut makes the areas; what was in them before and is not to be lost goes on the shelf.
func (h *homeLayout) layOut(want, known []image.Area) error {
	var err error
	if h.cur, err = areasOf(h.p); err != nil {
		return err
	}
	image.Advise(h.cur, known)
	for _, a := range h.cur {
		if a.Advice.Has(image.Locked) {
			h.locked = append(h.locked, a.Range)
		}
	}
	h.room = h.gap(want)
	h.parts = divided(h.cur, want)
	for _, p := range pieces(h.cur, want) {
		var err error
		switch {
		case p.stays():
			h.keep(&p)
		case p.File:
			err = h.copyObject(&p)
		case p.cur == nil && p.GrowsDown && h.grow(&p):
		default:
			if p.cur != nil {
				err = h.save(*p.cur, p.Range)
			}
			h.place = append(h.place, mapCall(p.Area, p.Prot))
			h.advice = append(h.advice, adviceCalls(p.Range, image.AdviceKnown, p.Advice)...)
		}
		if err != nil {
			return err
		}
	}
	calls := append(h.stage, unmapCalls(h.cur, want)...)
	calls = append(calls, h.place...)
	out, err := h.l.Batch(calls)
	if err != nil {
		return err
	}
	for i, ret := range out {
		if abi.IsErr(ret) && calls[i].Nr != abi.SysAccess {
			return fmt.Errorf("call %d(%#x, %d): %w", calls[i].Nr, calls[i].Args[0], calls[i].Args[1], kern.Errno(-ret))
		}
	}
	_, err = h.l.Batch(h.advice) // what this kernel does not know it did not know before
	return err
}

// keep gives memory that stays its protection and advice.
func (h *homeLayout) keep(p *piece) {
	switch {
	case p.cur.Shared && !p.Writable() && !p.cur.Fixed():
		h.place = append(h.place, tracer.NewCall(abi.SysMprotect, uint64(p.Start), p.Len(), uint64(p.Prot|abi.ProtWrite)))
		h.last = append(h.last, tracer.NewCall(abi.SysMprotect, uint64(p.Start), p.Len(), uint64(p.Prot)))
	case p.cur.Prot != p.Prot:
		h.place = append(h.place, tracer.NewCall(abi.SysMprotect, uint64(p.Start), p.Len(), uint64(p.Prot)))
	}
	h.advice = append(h.advice, adviceCalls(p.Range, p.cur.Advice|image.AdviceKnown, p.Advice)...)
}

// copyObject puts a part of an object at p: a copy of areas that show it.
func (h *homeLayout) copyObject(p *piece) error {
	if p.cur != nil {
		if err := h.save(*p.cur, p.Range); err != nil {
			return err
		}
	}
	in := inObject(p.Area, p.Range)
	missing := []mem.Range{in}
	for i := range h.cur {
		c := &h.cur[i]
		if c.Object != p.Object || c.Shared != p.Shared {
			continue
		}
		have := inObject(*c, c.Range)
		for _, m := range missing {
			x := m.Intersect(have)
			if x.Len() == 0 {
				continue
			}
			src := mem.Range{Start: c.Start + (x.Start - have.Start), End: c.Start + (x.End - have.Start)}
			if err := h.save(*c, src); err != nil { // the pages of its own go with the copy
				return err
			}
			dst := mem.Range{Start: p.Start + (x.Start - in.Start), End: p.Start + (x.End - in.Start)}
			n := src.Len()
			h.stage = append(h.stage, tracer.NewCall(abi.SysMremap, uint64(src.Start), n, n, abi.MremapMayMove|abi.MremapFixed|abi.MremapDontUnmap, uint64(h.room)))
			h.place = append(h.place, tracer.NewCall(abi.SysMremap, uint64(h.room), n, n, abi.MremapMayMove|abi.MremapFixed, uint64(dst.Start)))
			h.place = append(h.place, zapCalls([]mem.Range{dst})...)
			prot := p.Prot
			if p.Shared && !p.Writable() && !c.Fixed() {
				prot |= abi.ProtWrite
				h.last = append(h.last, tracer.NewCall(abi.SysMprotect, uint64(dst.Start), n, uint64(p.Prot)))
			}
			h.place = append(h.place, tracer.NewCall(abi.SysMprotect, uint64(dst.Start), n, uint64(prot)))
			h.advice = append(h.advice, adviceCalls(dst, c.Advice|image.AdviceKnown, p.Advice)...)
			h.room += mem.Addr(n)
		}
		missing = mem.Subtract(missing, []mem.Range{have})
	}
	if len(missing) > 0 {
		return fmt.Errorf("the guest has %v of a file, %v, that its shadow does not have", p.Range, missing)
	}
	return nil
}

// grow makes a stack longer downward, as a stack grows: by being touched. Made by mmap its new part would stay a part.
func (h *homeLayout) grow(p *piece) bool {
	for _, c := range h.cur { // what stands closer below keeps the kernel from growing it
		if c.End <= p.Start && p.Start-c.End < stackGap {
			return false
		}
	}
	above := image.Find(h.cur, p.End)
	if above == nil || above.Start != p.End || !above.GrowsDown || above.File {
		return false
	}
	h.place = append(h.place, tracer.NewCall(abi.SysAccess, uint64(p.Start), 0)) // an address of nothing, which the kernel reads
	return true
}

// stackGap is how far a stack stays away from what is below it (256 pages).
const stackGap = 1 << 20

// save puts on the shelf what r, a part of the area c of the shadow, holds that is the process's own.
func (h *homeLayout) save(c image.Area, r mem.Range) error {
	if c.Shared {
		return nil // it is the object's
	}
	pm, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", h.p.PID))
	if err != nil {
		return fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	defer pm.Close()
	rs, err := pages.Own(pm, c, r)
	if err != nil {
		return err
	}
	for _, x := range rs {
		b := make([]byte, x.Len())
		if _, err := h.p.Mem.ReadAt(b, int64(x.Start)); err != nil {
			return fmt.Errorf("read %v, which is to be mapped anew: %w", x, err)
		}
		h.shelf.Restore(x, b)
	}
	return nil
}

// empty empties ranges, also of memory that is locked.
func (h *homeLayout) empty(rs []mem.Range) error {
	calls := zapCalls(mem.Subtract(rs, h.locked))
	for _, r := range rs {
		for _, l := range h.locked {
			if x := r.Intersect(l); x.Len() > 0 {
				calls = append(calls, tracer.NewCall(abi.SysMadvise, uint64(x.Start), x.Len(), abi.MadvDontNeedLocked))
			}
		}
	}
	_, err := h.l.Batch(calls)
	return err
}

func (h *homeLayout) finish() error {
	_, err := h.l.MustBatch("protect shared areas", h.last)
	return err
}

// gap finds room for as much as all areas are long, away from them.
func (h *homeLayout) gap(want []image.Area) mem.Addr {
	ours := h.p.Region.Range()
	all := mem.Normalize(append(append(image.Ranges(h.cur), image.Ranges(want)...), ours))
	var need mem.Addr
	for _, a := range want {
		if a.File {
			need += mem.Addr(a.Len())
		}
	}
	at := ours.End
	for _, r := range all {
		if r.End <= at {
			continue
		}
		if r.Start >= at+need+1<<20 {
			break
		}
		at = r.End
	}
	return at
}
