package thaw

import (
	"encoding/binary"
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

// takeLate takes them from the kernel's queues. Until they are back there the record has them.
func takeLate(p *tracer.Process, f *image.Family, recorded []region.Signal) (late lateSignals, err error) {
	m := &f.Members[0]
	var before uint64
	note := func(sig int) {
		if sig >= firstRealTime && sig <= abi.NSig {
			before |= abi.SigBit(sig)
		}
	}
	for _, si := range m.Pending {
		note(si.Signo())
	}
	for i := range m.Threads {
		for _, si := range m.Threads[i].Pending {
			note(si.Signo())
		}
	}
	for _, sig := range recorded {
		note(sig.Info.Signo())
	}
	if before == 0 {
		return late, nil
	}
	waits := func(infos []abi.Siginfo) []abi.Siginfo {
		return slices.DeleteFunc(infos, func(si abi.Siginfo) bool {
			return si.Signo() < 1 || si.Signo() > abi.NSig || before&abi.SigBit(si.Signo()) == 0
		})
	}
	shared, err := kern.PeekSiginfo(p.PID, true)
	if err != nil {
		return late, err
	}
	late.shared, late.own = waits(shared), map[int][]abi.Siginfo{}
	whole := *f
	whole.Members = []image.Process{*m}
	w := &whole.Members[0]
	w.Pending = slices.Concat(m.Pending, late.shared)
	w.Threads = slices.Clone(m.Threads)
	n := len(late.shared)
	for i := range w.Threads {
		th := &w.Threads[i]
		own, err := kern.PeekSiginfo(int(th.TID), false)
		if err != nil {
			return late, err
		}
		if own = waits(own); len(own) > 0 {
			late.own[int(th.TID)] = own
			th.Pending = slices.Concat(th.Pending, own)
			n += len(own)
		}
	}
	if n == 0 {
		return late, nil
	}
	if err := p.Region.PutRecord(whole.Encode()); err != nil {
		return late, err
	}
	for tid, infos := range late.own {
		for _, si := range infos {
			if err := take(p.Thread(tid), si.Signo()); err != nil {
				return late, err
			}
		}
	}
	for _, si := range late.shared {
		if err := take(p.Leader(), si.Signo()); err != nil {
			return late, err
		}
	}
	return late, nil
}

// take makes a held thread dequeue one signal.
func take(t *tracer.Thread, sig int) error {
	if t == nil {
		return tracer.ErrGone
	}
	const setOff, zeroOff = 9216, 9216 + 16
	at, b := scratchAt(t.Proc, setOff)
	binary.LittleEndian.PutUint64(b, abi.SigBit(sig))
	clear(b[zeroOff-setOff : zeroOff-setOff+16])
	_, err := t.Call(abi.SysRtSigtimedwait, at, 0, at+zeroOff-setOff, 8)
	return err
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
