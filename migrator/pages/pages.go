// Package pages finds, reads and writes the memory of a process that moves. Its one invariant: a page that was written after it
// was last read for the move is found again; where that cannot be known, the whole area is taken again.
package pages

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/pack"
	"mosix/internal/tracer"
)

// Source is the memory of a process that is about to move.
type Source struct {
	PID  int
	Uffd *os.File // nil: no tracking, every Round takes everything (stop-and-copy)
	// Writers, if there is one, is held while pages are looked at and marked anew. The kernel notes a write when it looks the page up
	// for it: who writes by way of the kernel (process_vm_writev, /proc/PID/mem) and is between that and the copying is not seen again.
	Writers sync.Locker
	// Held says that areas are registered by Register alone, while the process is held. To register a range in a process that runs can divide an
	// area that has grown or taken another's place meanwhile, and calls that want one area (mremap) fail then.
	Held    bool
	missed  uint64 // bytes of areas that the last round could not watch for that reason
	pagemap *os.File
	mem     *os.File
	armed   map[mem.Range]image.Area // what was taken for these areas in the last round, and their registration seen to work
	scan    []kern.PageRegion
	buf     []byte
}

// Open prepares to read the memory of p.
func Open(p *tracer.Process) (*Source, error) {
	pm, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.PID))
	if err != nil {
		return nil, fmt.Errorf("open pagemap of %d: %w", p.PID, err)
	}
	return &Source{PID: p.PID, pagemap: pm, mem: p.Mem, armed: map[mem.Range]image.Area{},
		scan: make([]kern.PageRegion, 4096), buf: make([]byte, 0, chunkBytes+64*1024)}, nil
}

// Track makes the held thread t open a userfaultfd for its process, and keeps it here. The process keeps no descriptor.
func (s *Source) Track(t *tracer.Thread) error {
	const cloexecNonblock, userModeOnly = 0x80000 | 0x800, 1
	fd, err := t.Call(abi.SysUserfaultfd, cloexecNonblock)
	if err == nil && abi.IsErr(fd) { // an ordinary user may watch only faults from user mode; kernel writes are counted all the same
		fd, err = t.Call(abi.SysUserfaultfd, cloexecNonblock|userModeOnly)
	}
	if err != nil {
		return err
	}
	if abi.IsErr(fd) {
		return fmt.Errorf("userfaultfd in %d: %w", s.PID, kern.Errno(-fd))
	}
	defer func() { _, _ = t.Call(abi.SysClose, uint64(fd)) }()
	f, err := kern.PidfdGetfd(t.Proc.Pidfd, int(fd), "userfaultfd")
	if err != nil {
		return err
	}
	if err := kern.UffdOpen(f); err != nil {
		f.Close()
		return err
	}
	s.Uffd = f
	return nil
}

// Untrack ends the tracking: the kernel forgets the registrations, and the next Round takes everything.
func (s *Source) Untrack() {
	if s.Uffd != nil {
		s.Uffd.Close()
		s.Uffd = nil
	}
	clear(s.armed)
}

// Close ends it all.
func (s *Source) Close() {
	s.Untrack()
	s.pagemap.Close()
}

// Dirty is what one round found.
type Dirty struct {
	Send []mem.Range // pages to read and send
	Zap  []mem.Range // ranges whose earlier content at the target is void: zero them before Send arrives
}

// Bytes is how much it is.
func (d Dirty) Bytes() uint64 { return mem.Bytes(d.Send) }

// Round finds what must travel. On the first round it arms the writable areas and takes all that exists; on later ones it
// takes what was written since, and whole what is new. With last, nothing is armed any more: the process is held.
//
// Of an area that is a private part of a file only the pages travel that the process has written: the rest is the file's, and
// so is all that a process can only read of a file that it shares. skip names areas that are not looked at.
func (s *Source) Round(areas []image.Area, first bool, skip func(image.Area) bool) (Dirty, error) {
	var d Dirty
	s.missed = 0
	was := s.armed
	s.armed = make(map[mem.Range]image.Area, len(areas))
	for _, a := range areas {
		if skip != nil && skip(a) || a.Fixed() {
			continue
		}
		if s.watches(a) {
			if err := s.tracked(a, was, first, &d); err != nil {
				return d, err
			}
			continue
		}
		if !first {
			d.Zap = append(d.Zap, a.Range)
		}
		if err := s.whole(a, &d); err != nil {
			return d, err
		}
	}
	return d, nil
}

// watches reports whether an area is to be watched. Reserved address space is not: that would cost page tables for all of it.
func (s *Source) watches(a image.Area) bool { return s.Uffd != nil && a.Prot != abi.ProtNone }

// Register lets the areas of the process, which is held, be watched from the next Round on.
func (s *Source) Register(areas []image.Area, skip func(image.Area) bool) {
	for _, a := range areas {
		if s.watches(a) && !a.Fixed() && (skip == nil || !skip(a)) {
			_ = kern.UffdRegister(s.Uffd, a.Range) // one that cannot be watched is taken whole each time
		}
	}
}

// Missed is how many bytes the areas have that the last round could not watch, for they had not been registered.
func (s *Source) Missed() uint64 { return s.missed }

// tracked takes the written pages of an armed area, arming it when it is not.
//
// The areas are those of a look at a process that runs: by the time a range is armed and its pages are taken there may be other
// memory in it than that of the area. So only if the next round sees the same area again, still armed, are the pages that the target
// has put into it those of that area.
func (s *Source) tracked(a image.Area, was map[mem.Range]image.Area, first bool, d *Dirty) error {
	if x, ok := was[a.Range]; ok && a.Stays(x, a.Range) {
		rs, err := s.written(a.Range)
		if err == nil {
			s.armed[a.Range] = a
			for _, r := range rs {
				if empty(a, r) { // given back since the last round
					d.Zap = append(d.Zap, r.Range)
					continue
				}
				d.Send = append(d.Send, r.Range)
			}
			return nil
		}
		if !errors.Is(err, kern.EPERM) {
			return err
		}
		// Another mapping has taken the place of the one that was armed.
	}
	// What is there is taken before the area is armed: arming marks also the pages that nobody has touched, and marks look like
	// pages in swap. Parts may have been armed as parts of another area, so that the scan which arms alone would miss pages.
	var there Dirty
	if err := s.whole(a, &there); err != nil {
		return err
	}
	if !first {
		d.Zap = append(d.Zap, a.Range)
	}
	if !s.Held {
		if err := kern.UffdRegister(s.Uffd, a.Range); err != nil {
			d.Send = append(d.Send, there.Send...) // an area that cannot be watched is taken whole each time
			return nil
		}
	}
	rs, err := s.mark(a.Range)
	if s.Held && errors.Is(err, kern.EPERM) { // it is not registered yet, or not all of it
		s.missed += a.Len()
		d.Send = append(d.Send, there.Send...)
		return nil
	}
	if err != nil {
		return err
	}
	s.armed[a.Range] = a
	for _, r := range rs { // written since there was looked
		if !empty(a, r) {
			there.Send = append(there.Send, r.Range)
		}
	}
	d.Send = append(d.Send, mem.Normalize(there.Send)...)
	return nil
}

// written finds the pages of the armed range that were written since the last look.
func (s *Source) written(in mem.Range) ([]kern.PageRegion, error) {
	near, err := kern.ScanWritten(s.pagemap, in, s.scan)
	if err != nil {
		return nil, err
	}
	const gap = 16 * mem.PageSize // to look at so many pages costs no more than another call
	var out []kern.PageRegion
	for len(near) > 0 {
		r := near[0].Range
		for near = near[1:]; len(near) > 0 && near[0].Start <= r.End+gap; near = near[1:] {
			r.End = near[0].End
		}
		rs, err := s.mark(r)
		if err != nil {
			return nil, err
		}
		out = append(out, rs...)
	}
	return out, nil
}

// mark finds the pages of r that were written, and watches them anew.
func (s *Source) mark(r mem.Range) ([]kern.PageRegion, error) {
	if s.Writers == nil {
		return kern.ScanPages(s.pagemap, r, true, s.scan)
	}
	const piece = 64 << 20 // so that nobody waits long
	var out []kern.PageRegion
	for at := r.Start; at < r.End; at += piece {
		s.Writers.Lock()
		rs, err := kern.ScanPages(s.pagemap, mem.Range{Start: at, End: min(at+piece, r.End)}, true, s.scan)
		s.Writers.Unlock()
		if err != nil {
			return nil, err
		}
		out = append(out, rs...)
	}
	return out, nil
}

// empty reports whether pages of a that count as written hold nothing of the process's own: zeros, or what is in the file.
func empty(a image.Area, r kern.PageRegion) bool {
	if a.Shared {
		return false
	}
	return r.Categories&(kern.PagePresent|kern.PageSwapped) == 0 || r.Categories&(kern.PageZero|kern.PageFile) != 0
}

// Own finds what r, a part of the private area a, holds that is the process's own, in the process whose pagemap is open.
func Own(pagemap *os.File, a image.Area, r mem.Range) ([]mem.Range, error) {
	return own(pagemap, a, r, nil)
}

func own(pagemap *os.File, a image.Area, r mem.Range, buf []kern.PageRegion) ([]mem.Range, error) {
	rs, err := kern.ScanPages(pagemap, r, false, buf)
	if err != nil {
		return nil, err
	}
	var out []mem.Range
	for _, x := range rs {
		if !empty(a, x) {
			out = append(out, x.Range)
		}
	}
	return out, nil
}

// Guards finds the pages of the areas as that fault although their areas may be used, in the process whose pagemap is open.
func Guards(pagemap *os.File, as []image.Area) ([]mem.Range, error) {
	var out []mem.Range
	buf := make([]kern.PageRegion, 256)
	for _, a := range as {
		if a.File && a.Shared {
			continue
		}
		rs, err := kern.ScanGuards(pagemap, a.Range, buf)
		if errors.Is(err, kern.EINVAL) || errors.Is(err, kern.ENOTTY) {
			return nil, nil // this kernel cannot tell; most have no such pages
		}
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			out = append(out, r.Range)
		}
	}
	return out, nil
}

// whole takes everything that an area holds.
func (s *Source) whole(a image.Area, d *Dirty) error {
	if a.Shared {
		d.Send = append(d.Send, a.Range)
		return nil
	}
	rs, err := own(s.pagemap, a, a.Range, s.scan)
	d.Send = append(d.Send, rs...)
	return err
}

// chunkBytes is how much memory travels in one frame, at most.
const chunkBytes = 1 << 20

// maxRuns is how many ranges travel in one frame, at most.
const maxRuns = 1000

// Send reads the ranges rs and hands them to emit in frames of at most about chunkBytes; emit must be done with the frame when
// it returns. It returns the bytes of memory read. Pages that cannot be read (past the end of a file) are left out.
func (s *Source) Send(rs []mem.Range, emit func(frame []byte) error) (uint64, error) {
	var total uint64
	var cur []mem.Range
	var size uint64
	flush := func() error {
		if len(cur) == 0 {
			return nil
		}
		frame, n := s.read(cur, size)
		total += n
		cur, size = cur[:0], 0
		if n == 0 {
			return nil
		}
		return emit(frame)
	}
	for _, r := range rs {
		for r.Start < r.End {
			n := min(r.Len(), chunkBytes-size)
			cur = append(cur, mem.Range{Start: r.Start, End: r.Start + mem.Addr(n)})
			size += n
			r.Start += mem.Addr(n)
			if size >= chunkBytes || len(cur) >= maxRuns {
				if err := flush(); err != nil {
					return total, err
				}
			}
		}
	}
	return total, flush()
}

// read makes one frame: the number of ranges, the ranges, the bytes.
func (s *Source) read(rs []mem.Range, size uint64) ([]byte, uint64) {
	w := pack.Writer{B: s.buf[:0]}
	head := func(rs []mem.Range) {
		w.B = w.B[:0]
		w.U32(uint32(len(rs)))
		for _, r := range rs {
			w.U64(uint64(r.Start))
			w.U64(uint64(r.End))
		}
	}
	head(rs)
	off := len(w.B)
	w.B = slices.Grow(w.B, int(size))[:off+int(size)]
	s.buf = w.B[:0]
	if n, err := kern.ReadVM(s.PID, w.B[off:], rs...); err == nil && uint64(n) == size {
		return w.B, size
	}
	// Somewhere is a page that the process cannot read by itself: page by page, then, past all protections.
	var ok []mem.Range
	var data []byte
	page := make([]byte, mem.PageSize)
	for _, r := range rs {
		for a := r.Start; a < r.End; a += mem.PageSize {
			if n, err := s.mem.ReadAt(page, int64(a)); err != nil || n != len(page) {
				continue
			}
			ok = append(ok, mem.Range{Start: a, End: a + mem.PageSize})
			data = append(data, page...)
		}
	}
	ok = join(ok)
	head(ok)
	w.B = append(w.B, data...)
	s.buf = w.B[:0]
	return w.B, uint64(len(data))
}

// join merges neighbours in an ascending list.
func join(rs []mem.Range) []mem.Range {
	out := rs[:0]
	for _, r := range rs {
		if n := len(out); n > 0 && out[n-1].End == r.Start {
			out[n-1].End = r.End
			continue
		}
		out = append(out, r)
	}
	return out
}

// Parse splits a frame into its ranges and their bytes, and refuses one whose numbers do not fit.
func Parse(frame []byte) ([]mem.Range, []byte, error) {
	r := pack.NewReader(frame)
	n := r.Count(16)
	rs := make([]mem.Range, 0, n)
	var total uint64
	for range n {
		x := mem.Range{Start: mem.Addr(r.U64()), End: mem.Addr(r.U64())}
		if x.End <= x.Start || x.Start%mem.PageSize != 0 || x.End%mem.PageSize != 0 || x.End > 1<<47 || x.Len() > uint64(len(frame)) {
			return nil, nil, fmt.Errorf("a frame of pages names the range %v, which cannot be", x)
		}
		total += x.Len()
		rs = append(rs, x)
	}
	if r.Err() != nil || uint64(len(r.Rest())) < total {
		return nil, nil, fmt.Errorf("a frame of pages announces %d bytes and carries %d", total, len(r.Rest()))
	}
	return rs, r.Rest()[:total], nil
}

// Write puts a frame into the memory of process pid. Where the process may not write by itself, m (/proc/PID/mem) does it; the
// pages that even that cannot write are returned.
func Write(pid int, m *os.File, frame []byte) (lost []mem.Addr, err error) {
	rs, data, err := Parse(frame)
	if err != nil {
		return nil, err
	}
	return write(pid, m, rs, data)
}

func write(pid int, m *os.File, rs []mem.Range, data []byte) (lost []mem.Addr, err error) {
	if n, err := kern.WriteVM(pid, data, rs...); err == nil && n == len(data) {
		return nil, nil
	} else if kern.IsGone(err) {
		return nil, err
	}
	for _, r := range rs {
		n := int(r.Len())
		if k, err := m.WriteAt(data[:n], int64(r.Start)); err != nil || k != n {
			for a := 0; a < n; a += mem.PageSize {
				if _, err := m.WriteAt(data[a:a+mem.PageSize], int64(r.Start)+int64(a)); err != nil {
					lost = append(lost, r.Start+mem.Addr(a))
				}
			}
		}
		data = data[n:]
	}
	return lost, nil
}
