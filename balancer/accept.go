package balancer

import (
	"fmt"
	"math"
	"time"
)

// Memory that a node keeps for itself: a target that would page helps nobody.
const (
	reserveShare = 16       // of its memory one part in so many,
	reserveLeast = 32 << 20 // but at least so many bytes
)

// Stability is how much better a process must fare at the target, as a share of what one process adds to the smaller of the
// two nodes. Below it two nodes that differ only by the noise of their measurements would exchange processes.
const Stability = 0.5

// Accept judges an offer at its target, with what only the target knows: its present load, what it has promised to others,
// its free memory. A node that accepts must enter the promise (load.Meter.Promise) before it judges the next offer.
func Accept(v View, o Offer, _ time.Duration) Answer {
	t := v.Self
	a := Answer{Load: math.Max(t.Exported, t.True), MemFree: t.MemFree - min(t.MemFree, t.MemPromised)}
	if why := noRoom(t, o.Bytes); why != "" {
		a.Why = why
		return a
	}
	if o.Explicit {
		a.OK, a.Why = true, fmt.Sprintf("%s was ordered to %s: %s free", o.Process, t.Name, bytesText(a.MemFree))
		a.Load += t.Capacity().Of(weight(o.Ready))
		return a
	}
	if t.Unfit != "" {
		a.Why = fmt.Sprintf("%s takes no guests: %s", t.Name, t.Unfit)
		return a
	}
	if o.Booked {
		a.OK, a.Why = true, fmt.Sprintf("%s has booked a place for %s", t.Name, o.Process)
		a.There = t.Capacity().Slowdown(t.True + t.Capacity().Of(weight(o.Ready)))
		a.Load += t.Capacity().Of(weight(o.Ready))
		return a
	}
	if o.Relief {
		a.OK, a.Why = true, fmt.Sprintf("%s is short of memory: %s are free here", o.From, bytesText(a.MemFree))
		a.There = t.Capacity().Slowdown(t.True + t.Capacity().Of(weight(o.Ready)))
		a.Load += t.Capacity().Of(weight(o.Ready))
		return a
	}
	source := Node{Name: o.From, CPUs: o.CPUs, Speed: o.Speed}
	present := t.True
	if o.Birth { // it may be over before what a period has measured means anything
		present = t.Now
	}
	g := gain(source, o.Load, t, present, o.Ready)
	a.There = g.there
	if g.value <= g.needed {
		a.Why = fmt.Sprintf("would not help: on %s it has slowdown %.2f, on %s %.2f (load %.2f with what is promised); the difference must exceed %.2f",
			o.From, g.here, t.Name, g.there, present, g.needed)
		return a
	}
	a.OK = true
	a.Why = fmt.Sprintf("helps: on %s it has slowdown %.2f, on %s %.2f (load %.2f with what is promised)", o.From, g.here, t.Name, g.there, present)
	a.Load += t.Capacity().Of(weight(o.Ready))
	return a
}

// gains is what a process would win by a move.
type gains struct {
	here, there float64 // slowdown: seconds per second of work
	value       float64 // here - there
	needed      float64 // value must exceed it
}

// gain compares the source at load n, which counts the process, with the target at load m, which does not yet.
func gain(source Node, n float64, target Node, m, ready float64) gains {
	from, to := source.Capacity(), target.Capacity()
	g := gains{here: from.Slowdown(n), there: to.Slowdown(m + to.Of(weight(ready))), needed: math.Max(from.Of(Stability), to.Of(Stability))}
	g.value = g.here - g.there
	return g
}

// weight is what a process adds to a node, in processes. A candidate that waited a moment for its disk will not always
// wait: it never counts as less than one.
func weight(ready float64) float64 { return math.Max(1, ready) }

// reserve is the memory that a node keeps for itself, bytes.
func reserve(t Node) uint64 { return max(reserveLeast, t.MemTotal/reserveShare) }

// noRoom says why a process of that size would make a node page; "" if it would not, or if the node's memory is not known.
func noRoom(t Node, bytes uint64) string {
	if t.MemTotal == 0 {
		return ""
	}
	reserve := reserve(t)
	free := t.MemFree - min(t.MemFree, t.MemPromised)
	if free >= reserve && bytes <= free-reserve {
		return ""
	}
	return fmt.Sprintf("%s has no room: the process needs %s, %s are free and not promised, of which it keeps %s",
		t.Name, bytesText(bytes), bytesText(free), bytesText(reserve))
}

// bytesText prints a size for people.
func bytesText(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
