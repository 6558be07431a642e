package load

import (
	"math"
	"time"

	"mosix/internal/id"
)

// Hold is how long a promise, or an announced departure, counts when nothing more is heard of it.
const Hold = 60 * time.Second

// Meter holds the views of one node. Its zero value measures a node of one standard processor.
//
// A process that was accepted counts in full from the acceptance on, although it is measured only from its arrival on: the
// promise shrinks by just the share of the measured period in which the process was here. Departures are the mirror image.
type Meter struct {
	Capacity Capacity

	measured Window
	own      Own
	exported Exported
	in, out  []entry
}

// Window is a measurement: the load averaged over the period (From, To].
type Window struct {
	Load     float64
	From, To time.Duration
}

// entry is one process on its way in or out.
type entry struct {
	process id.Process
	ready   float64 // tasks that are ready to run; 1 for a process of one thread
	bytes   uint64  // memory that it will need here
	since   time.Duration
	crossed bool          // it has arrived, or left
	at      time.Duration // when it did
}

// Sample takes the load of the period that ended at now.
func (m *Meter) Sample(l float64, now time.Duration) {
	m.measured = Window{Load: clean(l), From: m.measured.To, To: now}
	m.own.Add(l)
	m.exported.Add(l)
	m.in = m.prune(m.in, now)
	m.out = m.prune(m.out, now)
}

// Promise records that an incoming process was accepted. A process that was promised before is promised anew, not twice.
func (m *Meter) Promise(p id.Process, ready float64, bytes uint64, now time.Duration) {
	m.in = append(drop(m.in, p), entry{process: p, ready: math.Max(ready, 0), bytes: bytes, since: now})
}

// Holds tells whether a process was promised a place, and still has it.
func (m *Meter) Holds(p id.Process, now time.Duration) bool {
	for _, e := range m.in {
		if e.process == p && !e.crossed && m.live(e, now) {
			return true
		}
	}
	return false
}

// Arrived records that a promised process runs here now. The measurement takes over from the promise.
func (m *Meter) Arrived(p id.Process, now time.Duration) { cross(m.in, p, now) }

// Cancel takes a promise back: the move was aborted.
func (m *Meter) Cancel(p id.Process) { m.in = drop(m.in, p) }

// Leaving records that a process is about to go: from now on it does not count in the node's own view.
func (m *Meter) Leaving(p id.Process, ready float64, now time.Duration) {
	m.out = append(drop(m.out, p), entry{process: p, ready: math.Max(ready, 0), since: now})
}

// Left records that a leaving process runs elsewhere now.
func (m *Meter) Left(p id.Process, now time.Duration) { cross(m.out, p, now) }

// Stays takes a departure back: the move was refused or aborted.
func (m *Meter) Stays(p id.Process) { m.out = drop(m.out, p) }

// Measured is the last measurement.
func (m *Meter) Measured() Window { return m.measured }

// Pending is how many promises are kept.
func (m *Meter) Pending() int { return len(m.in) }

// Promised is the load of processes that were accepted and are not, or not fully, in the last measurement.
func (m *Meter) Promised(now time.Duration) float64 {
	var sum float64
	for _, e := range m.in {
		if m.live(e, now) {
			sum += e.ready * (1 - m.seen(e))
		}
	}
	return m.Capacity.Of(sum)
}

// PromisedBytes is the memory of processes that were accepted and have not arrived.
func (m *Meter) PromisedBytes(now time.Duration) uint64 {
	var sum uint64
	for _, e := range m.in {
		if m.live(e, now) && !e.crossed {
			sum += e.bytes
		}
	}
	return sum
}

// True is the best estimate of the present load: what was measured, with promises and without departures. An offer is
// judged by it.
func (m *Meter) True(now time.Duration) float64 {
	return math.Max(0, m.measured.Load+m.Promised(now)-m.departing(now))
}

// Mean is the node's own view of its load, which rises slowly and falls at once. Incoming processes count when they are
// measured, outgoing ones no longer.
func (m *Meter) Mean(now time.Duration) float64 {
	return math.Max(0, m.own.Value()-m.departing(now))
}

// Exported is what others are told: it rises at once, with every promise, and falls slowly.
func (m *Meter) Exported(now time.Duration) float64 { return m.exported.Value() + m.Promised(now) }

// departing is the load in the last measurement of processes that go or have gone.
func (m *Meter) departing(now time.Duration) float64 {
	var sum float64
	for _, e := range m.out {
		if m.live(e, now) {
			sum += e.ready * (1 - m.seen(e))
		}
	}
	return m.Capacity.Of(sum)
}

// seen is the share of the last measurement that lies after e arrived, or left.
func (m *Meter) seen(e entry) float64 {
	w := m.measured
	if !e.crossed || w.To <= w.From {
		return 0
	}
	return math.Min(1, math.Max(0, float64(w.To-e.at)/float64(w.To-w.From)))
}

// live tells whether e still counts: something that nothing was heard of for Hold does not.
func (m *Meter) live(e entry, now time.Duration) bool { return e.crossed || now-e.since < Hold }

// prune drops what the measurement has taken over, and what has expired.
func (m *Meter) prune(es []entry, now time.Duration) []entry {
	kept := es[:0]
	for _, e := range es {
		if m.live(e, now) && !(e.crossed && e.at <= m.measured.From) {
			kept = append(kept, e)
		}
	}
	return kept
}

func drop(es []entry, p id.Process) []entry {
	for i, e := range es {
		if e.process == p {
			return append(es[:i], es[i+1:]...)
		}
	}
	return es
}

func cross(es []entry, p id.Process, now time.Duration) {
	for i := range es {
		if es[i].process == p && !es[i].crossed {
			es[i].crossed, es[i].at = true, now
		}
	}
}
