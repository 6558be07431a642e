package thaw

import (
	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// piece is a part of a wanted area that the process either has no part of, or in one area.
type piece struct {
	image.Area // as wanted, of this range
	cur        *image.Area
}

// pieces divides the areas want by those that a process has. Both are ascending.
func pieces(cur, want []image.Area) []piece {
	var out []piece
	j := 0
	for _, w := range want {
		at := w.Start
		for j < len(cur) && cur[j].End <= at {
			j++
		}
		for k := j; k < len(cur) && cur[k].Start < w.End; k++ {
			x := w.Intersect(cur[k].Range)
			if x.Start > at {
				out = append(out, piece{w.At(mem.Range{Start: at, End: x.Start}), nil})
			}
			out = append(out, piece{w.At(x), &cur[k]})
			at = x.End
		}
		if at < w.End {
			out = append(out, piece{w.At(mem.Range{Start: at, End: w.End}), nil})
		}
	}
	return out
}

// stays reports whether the memory that the process has at p can become what is wanted there.
func (p *piece) stays() bool {
	return p.cur != nil && p.Stays(*p.cur, p.Range)
}

// unmapCalls takes away what no area of want is at.
func unmapCalls(cur, want []image.Area) []stub.Call {
	var calls []stub.Call
	for _, r := range mem.Subtract(image.Ranges(cur), mem.Normalize(image.Ranges(want))) {
		calls = append(calls, tracer.NewCall(abi.SysMunmap, uint64(r.Start), r.Len()))
	}
	return calls
}

// mapCall makes a, an area of private anonymous memory, with protection prot, in place of whatever is there.
func mapCall(a image.Area, prot uint8) stub.Call {
	flags := uint64(abi.MapPrivate | abi.MapAnonymous | abi.MapFixed)
	if !a.Advice.Has(image.AdviceKnown) || a.Advice.Has(image.NoReserve) {
		flags |= abi.MapNoReserve
	}
	if a.GrowsDown {
		flags |= abi.MapGrowsDown
	}
	return tracer.NewCall(abi.SysMmap, uint64(a.Start), a.Len(), uint64(prot), flags, ^uint64(0), 0)
}

// guardCalls gives advice to install guards, or to remove them.
func guardCalls(guards []mem.Range, advice uint64) (calls []stub.Call) {
	for _, r := range guards {
		calls = append(calls, tracer.NewCall(abi.SysMadvise, uint64(r.Start), r.Len(), advice))
	}
	return calls
}

// open is the protection of a with which pages can be put in.
func open(a image.Area) uint8 {
	switch {
	case a.Prot != abi.ProtNone:
		return a.Prot | abi.ProtWrite
	case a.Shared: // the kernel forces nobody's write into it
		return abi.ProtRead | abi.ProtWrite
	}
	return a.Prot
}

// adviceCalls gives r, which was advised have, the advice want. Not every kernel follows all of it.
func adviceCalls(r mem.Range, have, want image.Advice) []stub.Call {
	if !want.Has(image.AdviceKnown) {
		return nil
	}
	var calls []stub.Call
	say := func(advice uint64) {
		calls = append(calls, tracer.NewCall(abi.SysMadvise, uint64(r.Start), r.Len(), advice))
	}
	for _, x := range []struct {
		bit     image.Advice
		yes, no uint64
	}{
		{image.DontFork, abi.MadvDontFork, abi.MadvDoFork}, {image.WipeOnFork, abi.MadvWipeOnFork, abi.MadvKeepOnFork},
		{image.DontDump, abi.MadvDontDump, abi.MadvDoDump},
	} {
		if (have^want)&x.bit != 0 {
			if want.Has(x.bit) {
				say(x.yes)
			} else {
				say(x.no)
			}
		}
	}
	switch more := want &^ have; {
	case more.Has(image.HugePage):
		say(abi.MadvHugePage)
	case more.Has(image.NoHugePage):
		say(abi.MadvNoHugePage)
	}
	switch {
	case (want &^ have).Has(image.Locked):
		calls = append(calls, tracer.NewCall(abi.SysMlock, uint64(r.Start), r.Len()))
	case (have &^ want).Has(image.Locked):
		calls = append(calls, tracer.NewCall(abi.SysMunlock, uint64(r.Start), r.Len()))
	}
	if (have^want)&(image.Sequential|image.Random) != 0 {
		switch {
		case want.Has(image.Sequential):
			say(abi.MadvSequential)
		case want.Has(image.Random):
			say(abi.MadvRandom)
		default:
			say(abi.MadvNormal)
		}
	}
	return calls
}

// zapCalls empties ranges, so that what is not sent again is zero, or as in the file.
func zapCalls(rs []mem.Range) []stub.Call {
	var calls []stub.Call
	for _, r := range rs {
		calls = append(calls, tracer.NewCall(abi.SysMadvise, uint64(r.Start), r.Len(), abi.MadvDontNeed))
	}
	return calls
}
