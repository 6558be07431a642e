package shadow

import (
	"sync/atomic"

	"mosix/homeproxy"
	"mosix/internal/id"
	"mosix/internal/mem"
	"mosix/internal/stub"
)

// Do makes calls in the shadow, in a thread that waits for work, whatever they return; done is called when the last has been
// made. It does not wait, and says ErrBusy when every thread is in a call of the guest or the shadow is stopped.
func (s *Shadow) Do(calls []stub.Call, done func()) error {
	if len(calls) == 0 {
		done()
		return nil
	}
	if s.IsStopped() {
		return ErrBusy
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrBusy
	}
	var sl *slot
	for _, x := range s.slots {
		if x.job == nil && (sl == nil || x.tid == id.HomePID(s.Process.PID)) {
			sl = x
		}
	}
	if sl == nil {
		return ErrBusy
	}
	last := calls[len(calls)-1]
	sl.Saved = sl.Ret // the host may not have it yet
	atomic.StoreUint32(&sl.IsSaved, 1)
	s.push(sl, &job{pre: calls[:len(calls)-1], plan: homeproxy.Plan{Nr: uint32(last.Nr), Args: last.Args}, then: func(int64) {
		sl.Ret = sl.Saved
		atomic.StoreUint32(&sl.IsSaved, 0)
		done()
	}})
	return nil
}

// OwnLimits counts the calls by which the process may have set its own limits.
func (s *Shadow) OwnLimits() uint32 { return s.limits.Load() }

// Beside runs f while no call can begin to use more of the process's own memory than the pages busy. What comes for those must
// wait: the guest's page is from before the call has ended, or even begun, and would take its place.
func (s *Shadow) Beside(f func(busy []mem.Range)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.busy())
}

// busy are the pages that calls use at their own address, or have used.
func (s *Shadow) busy() []mem.Range {
	var out []mem.Range
	for a := range s.inPlace {
		out = append(out, mem.Range{Start: a, End: a + mem.PageSize})
	}
	return mem.Normalize(out)
}
