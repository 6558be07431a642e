package sim

import "time"

// loop is the events that are to come, by time; those of one moment happen in the order in which they were planned.
type loop struct {
	now  time.Duration
	heap []event
	next uint64
}

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// at plans do for the time t, or at once where that is past.
func (l *loop) at(t time.Duration, do func()) {
	l.heap = append(l.heap, event{max(t, l.now), l.next, do})
	l.next++
	h := l.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

// after plans do for d from now on.
func (l *loop) after(d time.Duration, do func()) { l.at(l.now+d, do) }

// step lets the next event happen; it returns false when there is none.
func (l *loop) step() bool {
	if len(l.heap) == 0 {
		return false
	}
	e := l.heap[0]
	last := len(l.heap) - 1
	l.heap[0] = l.heap[last]
	l.heap[last] = event{}
	l.heap = l.heap[:last]
	h := l.heap
	for i := 0; ; {
		least := i
		for k := 2*i + 1; k <= 2*i+2 && k < len(h); k++ {
			if h[k].before(&h[least]) {
				least = k
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	l.now = e.at
	e.do()
	return true
}
