package ferry

import (
	"fmt"
	"os"

	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
)

// commons is the memory that processes share, or may share. What somebody else writes there while it is copied is not noted with
// the process that is looked at: a child may have come and gone meanwhile. And at home some of it may wait on the shelf for one
// member of a family, older than what was sent for another. So it travels once, when all are held.
type commons struct {
	sent map[image.Object][]mem.Range // nil as long as they run
}

// held says that nobody can write there any more.
func (c *commons) held() { c.sent = map[image.Object][]mem.Range{} }

// has reports whether a is such memory.
func (c *commons) has(a image.Area) bool { return a.File && a.Shared && !a.Fixed() }

// last lists what of the areas as is to be sent now: what no other member has sent. data says which parts of a range hold
// anything; without it all of them do.
func (c *commons) last(as []image.Area, data func(a image.Area, r mem.Range) []mem.Range) (out []mem.Range) {
	if c.sent == nil {
		return nil
	}
	for _, a := range as {
		if !c.has(a) {
			continue
		}
		in := mem.Range{Start: mem.Addr(a.Offset), End: mem.Addr(a.Offset + a.Len())}
		for _, r := range mem.Subtract([]mem.Range{in}, c.sent[a.Object]) {
			parts := []mem.Range{r}
			if data != nil {
				parts = data(a, r)
			}
			for _, p := range parts {
				start := a.Start + (p.Start - in.Start)
				out = append(out, mem.Range{Start: start, End: start + mem.Addr(p.Len())})
			}
		}
		c.sent[a.Object] = mem.Normalize(append(c.sent[a.Object], in))
	}
	return out
}

// dataOf finds what of a part of an object, which process pid has as area a, was ever written: the rest is zeros.
func dataOf(pid int) func(a image.Area, r mem.Range) []mem.Range {
	return func(a image.Area, r mem.Range) (out []mem.Range) {
		f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, uint64(a.Start), uint64(a.End)))
		if err != nil {
			return []mem.Range{r} // a segment of System V, or an area that has changed just now
		}
		defer f.Close()
		for at := r.Start; at < r.End; {
			from, to, ok, err := kern.NextData(f, int64(at))
			if err != nil {
				return []mem.Range{r}
			}
			if !ok || mem.Addr(from) >= r.End {
				return out
			}
			part := mem.Range{Start: mem.Addr(from).Page(), End: min(mem.Addr(to).PageUp(), r.End)}
			out = append(out, part)
			at = part.End
		}
		return out
	}
}
