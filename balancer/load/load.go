// Package load turns measurements of a node's run queue into the views that balancing works with. Its one invariant: no view
// ever makes a node look less loaded to others, or more loaded to itself, than its last measurement and its promises say; so
// a wrong view delays a move, but never causes one.
//
// All loads are ready processes per unit of capacity: 1.0 is a node whose every processor of standard speed has exactly
// one task that is running or waiting to run. All times are readings of one monotonic clock, of any origin.
package load

import "math"

// Capacity is what a node can compute.
type Capacity struct {
	CPUs  float64 // processors, or the share of them that a quota leaves; 0 counts as 1
	Speed float64 // of one processor, 1 = standard; 0 counts as 1
}

// Value is the work that the node does in a second, in seconds of a standard processor.
func (c Capacity) Value() float64 { return c.cpus() * c.speed() }

// Alone is the slowdown of a process of one thread that has the node for itself: such a process gains nothing from a
// second processor.
func (c Capacity) Alone() float64 { return 1 / (c.speed() * math.Min(1, c.cpus())) }

// Slowdown is the time that a second of work (of a standard processor) takes where the load, counting the process that
// does the work, is l.
func (c Capacity) Slowdown(l float64) float64 { return math.Max(l, c.Alone()) }

// Of converts a number of ready processes into load.
func (c Capacity) Of(ready float64) float64 { return ready / c.Value() }

func (c Capacity) cpus() float64 {
	if c.CPUs <= 0 {
		return 1
	}
	return c.CPUs
}

func (c Capacity) speed() float64 {
	if c.Speed <= 0 {
		return 1
	}
	return c.Speed
}

// Own is a node's view of its own load: it rises slowly and falls at once, so that a short burst sends nothing away.
type Own struct{ mean float64 }

// Add takes the load of the period that ended and returns the new view.
func (o *Own) Add(l float64) float64 {
	if l = clean(l); l > o.mean {
		o.mean = (5*o.mean + 3*l) / 8
	} else {
		o.mean = l
	}
	return o.mean
}

// Value is the present view.
func (o *Own) Value() float64 { return o.mean }

// Exported is what a node tells others: it rises at once and falls slowly, so that a short pause draws no flood.
type Exported struct{ upper float64 }

// Add takes the load of the period that ended and returns the new view.
func (e *Exported) Add(l float64) float64 {
	if l = clean(l); l >= e.upper {
		e.upper = l
	} else {
		e.upper = (7*e.upper + l) / 8
	}
	return e.upper
}

// Value is the present view.
func (e *Exported) Value() float64 { return e.upper }

// clean keeps a broken measurement from poisoning a filter for ever: NaN would never leave it.
func clean(l float64) float64 {
	if !(l > 0) || math.IsInf(l, 1) {
		return 0
	}
	return l
}
