// Package mem describes the address space of another process. Its one invariant: an address of another process is an Addr,
// never a pointer and never a uintptr, so that it cannot be dereferenced here by mistake.
package mem

import (
	"fmt"
	"sort"
)

// Page size of every machine mosix runs on (linux/amd64), in bytes.
const (
	PageShift = 12
	PageSize  = 1 << PageShift
)

// Addr is a virtual address in a process, in bytes.
type Addr uint64

// Page returns the start of the page that holds a.
func (a Addr) Page() Addr { return a &^ (PageSize - 1) }

// PageUp returns a rounded up to a page boundary.
func (a Addr) PageUp() Addr { return (a + PageSize - 1) &^ (PageSize - 1) }

// Range is the half-open interval [Start, End) of addresses.
type Range struct{ Start, End Addr }

// Len is the length of r in bytes.
func (r Range) Len() uint64 {
	if r.End <= r.Start {
		return 0
	}
	return uint64(r.End - r.Start)
}

// Contains reports whether a lies in r.
func (r Range) Contains(a Addr) bool { return a >= r.Start && a < r.End }

// Overlaps reports whether r and o share an address.
func (r Range) Overlaps(o Range) bool { return r.Intersect(o).Len() > 0 }

// Intersect returns the part that r and o share; its Len is 0 when there is none.
func (r Range) Intersect(o Range) Range {
	return Range{max(r.Start, o.Start), min(r.End, o.End)}
}

func (r Range) String() string { return fmt.Sprintf("%x-%x", uint64(r.Start), uint64(r.End)) }

// Subtract returns the parts of the ranges in a that no range in b covers, in ascending order. Both lists must be sorted
// and free of overlaps.
func Subtract(a, b []Range) []Range {
	var out []Range
	j := 0
	for _, x := range a {
		at := x.Start
		for j < len(b) && b[j].End <= at {
			j++
		}
		for k := j; k < len(b) && b[k].Start < x.End; k++ {
			if b[k].Start > at {
				out = append(out, Range{at, b[k].Start})
			}
			at = max(at, b[k].End)
		}
		if at < x.End {
			out = append(out, Range{at, x.End})
		}
	}
	return out
}

// Normalize sorts rs, joins those that touch or overlap, and drops empty ones.
func Normalize(rs []Range) []Range {
	sort.Slice(rs, func(i, j int) bool { return rs[i].Start < rs[j].Start })
	out := rs[:0]
	for _, r := range rs {
		if r.Len() == 0 {
			continue
		}
		if n := len(out); n > 0 && r.Start <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Bytes sums the lengths of rs.
func Bytes(rs []Range) uint64 {
	var n uint64
	for _, r := range rs {
		n += r.Len()
	}
	return n
}
