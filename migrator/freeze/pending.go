package freeze

import (
	"bytes"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/tracer"
)

// Pending puts into the image what pends in the held process and will pend where it goes: it must be there before the program
// runs. What stays is ignored, would stop the process, or is read from a signalfd. Nothing is taken away yet.
func Pending(p *tracer.Process, m *image.Process) error {
	fds := SignalFDs(p.PID)
	goes := func(infos []abi.Siginfo, blocked uint64) (out []abi.Siginfo) {
		for _, si := range infos {
			if s := si.Signo(); s > 0 && s <= abi.NSig && Recorded(s, m.Actions[s]) && fds&blocked&abi.SigBit(s) == 0 {
				out = append(out, si)
			}
		}
		return out
	}
	all := ^uint64(0)
	for i := range m.Threads {
		th := &m.Threads[i]
		own, err := kern.PeekSiginfo(p.Held()[i].TID, false)
		if err != nil {
			return err
		}
		th.Pending = append(th.Pending, goes(own, th.Mask)...)
		all &= th.Mask
	}
	shared, err := kern.PeekSiginfo(p.PID, true)
	if err != nil {
		return err
	}
	m.Pending = goes(shared, all)
	return nil
}

// drain takes from the kernel's queues what Pending has found there. The record has it.
func drain(p *tracer.Process, m *image.Process) error {
	for i := range m.Threads {
		t := p.Thread(int(m.Threads[i].TID))
		if t == nil {
			continue
		}
		for _, si := range m.Threads[i].Pending[t.Taken:] {
			if err := take(t, si, false); err != nil {
				return err
			}
		}
	}
	for _, si := range m.Pending {
		if err := take(p.Leader(), si, true); err != nil {
			return err
		}
	}
	return nil
}

// take takes a signal from the kernel's queue that an image has as it was then. A timer that has expired again since says so only now: that
// is one more signal, which goes the way of those that come later.
func take(t *tracer.Thread, si abi.Siginfo, process bool) error {
	now, ok, err := t.TakeSignal(si.Signo())
	if more := now.Overruns() - si.Overruns(); err == nil && ok && now.Code() == abi.SITimer && si.Code() == abi.SITimer && now.TimerID() == si.TimerID() && more > 0 {
		now.SetOverruns(more - 1)
		return t.QueueSignal(now, process)
	}
	return err
}

// Undrain queues again, in the held process, what its record has and its kernel no more: a parking was cut short.
func Undrain(p *tracer.Process, m *image.Process) error {
	missing := func(want, have []abi.Siginfo) (out []abi.Siginfo) {
		for _, si := range want {
			found := false
			for k := range have {
				if found = bytes.Equal(have[k][:], si[:]); found {
					have = append(have[:k:k], have[k+1:]...)
					break
				}
			}
			if !found {
				out = append(out, si)
			}
		}
		return out
	}
	for i := range m.Threads {
		t := p.Thread(int(m.Threads[i].TID))
		if t == nil {
			continue // it has ended meanwhile
		}
		own, err := kern.PeekSiginfo(t.TID, false)
		if err != nil {
			return err
		}
		again := missing(m.Threads[i].Pending, append(own, t.Stash...))
		var shared []abi.Siginfo
		if t == p.Leader() {
			if shared, err = kern.PeekSiginfo(p.PID, true); err != nil {
				return err
			}
			shared = missing(m.Pending, shared)
		}
		if err := t.Requeue(again, shared); err != nil {
			return err
		}
	}
	return nil
}
