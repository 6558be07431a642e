package thaw

import (
	"slices"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/region"
	"mosix/internal/tracer"
)

// lateSignals are real-time signals that reached the shadow while it was held. Others of the same number came before them and are
// queued only now, so these have to wait outside: a queue of real-time signals keeps its order.
type lateSignals struct {
	own    map[int][]abi.Siginfo // by thread
	shared []abi.Siginfo
}

// firstRealTime is the first signal that is queued however often it is sent.
const firstRealTime = 32

// takeLate takes them from the kernel's queues. Until all is queued again the record has them, and those that were recorded for the
// guest, or taken by our own stop.
func takeLate(p *tracer.Process, f *image.Family, recorded []region.Signal, stopped []abi.Siginfo) (late lateSignals, err error) {
	whole := *f
	whole.Members = []image.Process{f.Members[0]}
	m := &whole.Members[0]
	m.Pending, m.Threads = slices.Clone(m.Pending), slices.Clone(m.Threads)
	for _, sig := range recorded {
		th := slices.IndexFunc(m.Threads, func(t image.Thread) bool { return int(t.TID) == sig.TID })
		if sig.Info.Code() == abi.SITkill && th >= 0 {
			m.Threads[th].Pending = slices.Concat(m.Threads[th].Pending, []abi.Siginfo{sig.Info})
		} else {
			m.Pending = append(m.Pending, sig.Info)
		}
	}
	m.Pending = append(m.Pending, stopped...)
	var before uint64
	for s := firstRealTime; s <= abi.NSig; s++ {
		if m.Pends(s) {
			before |= abi.SigBit(s)
		}
	}
	waits := func(pid int, shared bool) ([]abi.Siginfo, error) {
		if before == 0 {
			return nil, nil
		}
		infos, err := kern.PeekSiginfo(pid, shared)
		return slices.DeleteFunc(infos, func(si abi.Siginfo) bool {
			return si.Signo() < 1 || si.Signo() > abi.NSig || before&abi.SigBit(si.Signo()) == 0
		}), err
	}
	late.own = map[int][]abi.Siginfo{}
	if late.shared, err = waits(p.PID, true); err != nil {
		return late, err
	}
	m.Pending = append(m.Pending, late.shared...)
	for i := range m.Threads {
		th := &m.Threads[i]
		own, err := waits(int(th.TID), false)
		if err != nil {
			return late, err
		}
		if len(own) > 0 {
			late.own[int(th.TID)] = own
			th.Pending = slices.Concat(th.Pending, own)
		}
	}
	if len(recorded)+len(stopped)+len(late.shared)+len(late.own) == 0 {
		return late, nil
	}
	if err := p.Region.PutRecord(whole.Encode()); err != nil {
		return late, err
	}
	for tid, infos := range late.own {
		t := p.Thread(tid)
		if t == nil {
			return late, tracer.ErrGone
		}
		for _, si := range infos {
			if err := t.TakeSignal(si.Signo()); err != nil {
				return late, err
			}
		}
	}
	for _, si := range late.shared {
		if err := p.Leader().TakeSignal(si.Signo()); err != nil {
			return late, err
		}
	}
	return late, nil
}

// queue puts those of single threads back.
func (s lateSignals) queue(p *tracer.Process) error {
	for tid, infos := range s.own {
		t := p.Thread(tid)
		if t == nil {
			continue // it has ended, and its signals with it
		}
		if err := t.QueueSignals(infos, false); err != nil {
			return err
		}
	}
	return nil
}
