package pages

import (
	"os"
	"sort"

	"mosix/internal/kern"
	"mosix/internal/mem"
)

// Shelf keeps what has arrived for a process and cannot be done yet: memory for areas that it does not have, and ranges that
// only the process itself can empty. What is done at last has the effect of everything in the order in which it came.
type Shelf struct {
	zaps  []mem.Range // to be emptied first; ascending, without overlaps
	held  []piece     // to be written then, in this order
	cover []mem.Range // where held has anything; ascending, without overlaps
}

type piece struct {
	mem.Range
	data []byte
}

// Zap notes that rs are to be emptied: what is held for them is void.
func (s *Shelf) Zap(rs []mem.Range) {
	rs = mem.Normalize(append([]mem.Range(nil), rs...))
	s.drop(rs)
	s.zaps = mem.Normalize(append(s.zaps, rs...))
}

// Hold keeps the bytes of r, which the caller does not use any more.
func (s *Shelf) Hold(r mem.Range, data []byte) {
	s.drop([]mem.Range{r})
	s.held = append(s.held, piece{r, data})
	s.cover = mem.Normalize(append(s.cover, r))
}

// Restore keeps bytes of r that the process has had, where nothing newer is held or to be emptied: they are to be written again.
func (s *Shelf) Restore(r mem.Range, data []byte) {
	for _, x := range mem.Subtract(mem.Subtract([]mem.Range{r}, s.zaps), s.cover) {
		s.Hold(x, data[x.Start-r.Start:x.End-r.Start])
	}
}

// Wrote notes that rs, ascending and without overlaps, were written directly: what was to be done there before is void.
func (s *Shelf) Wrote(rs []mem.Range) {
	s.drop(rs)
	if overlaps(s.zaps, rs) {
		s.zaps = mem.Subtract(s.zaps, rs)
	}
}

// Zaps are the ranges to empty before Write.
func (s *Shelf) Zaps() []mem.Range { return s.zaps }

// Bytes is how much memory is held.
func (s *Shelf) Bytes() uint64 { return mem.Bytes(s.cover) }

// Write puts what is held into process pid, whose memory file is m. It returns the pages that could not be written.
func (s *Shelf) Write(pid int, m *os.File) (lost []mem.Addr, err error) {
	for _, p := range s.held {
		n, err := write(pid, m, []mem.Range{p.Range}, p.data)
		if err != nil {
			return lost, err
		}
		lost = append(lost, n...)
	}
	return lost, nil
}

// Within forgets what is held outside of areas, ascending and without overlaps: it was unmapped after it had been sent.
func (s *Shelf) Within(areas []mem.Range) { s.drop(mem.Subtract(s.cover, areas)) }

// drop forgets what is held for rs.
func (s *Shelf) drop(rs []mem.Range) {
	if !overlaps(s.cover, rs) {
		return
	}
	var held []piece
	for _, p := range s.held {
		for _, r := range mem.Subtract([]mem.Range{p.Range}, rs) {
			held = append(held, piece{r, p.data[r.Start-p.Start : r.End-p.Start]})
		}
	}
	s.held, s.cover = held, mem.Subtract(s.cover, rs)
}

// overlaps reports whether a and b, both ascending and without overlaps, have an address in common.
func overlaps(a, b []mem.Range) bool {
	for _, x := range b {
		i := sort.Search(len(a), func(i int) bool { return a[i].End > x.Start })
		if i == len(a) {
			return false
		}
		if a[i].Start < x.End {
			return true
		}
	}
	return false
}

// Put writes a frame into the process pid, whose memory file is m, as far as it has the areas, and holds the rest. The frame
// must not be used again when it returns true.
func (s *Shelf) Put(pid int, m *os.File, rs []mem.Range, data []byte) (kept bool) {
	if n, err := kern.WriteVM(pid, data, rs...); err == nil && n == len(data) {
		s.Wrote(sorted(rs))
		return false
	}
	for _, r := range rs {
		n := int(r.Len())
		if k, err := m.WriteAt(data[:n:n], int64(r.Start)); err == nil && k == n {
			s.Wrote([]mem.Range{r})
		} else {
			s.Hold(r, data[:n:n])
			kept = true
		}
		data = data[n:]
	}
	return kept
}

func sorted(rs []mem.Range) []mem.Range {
	for i := 1; i < len(rs); i++ {
		if rs[i].Start < rs[i-1].End {
			return mem.Normalize(append([]mem.Range(nil), rs...))
		}
	}
	return rs
}
