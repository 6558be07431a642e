package shadow

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/migrator/freeze"
)

// cancelled, in a slot's OutLen, says that an EINTR there is the work of Cancel.
const cancelled = 1

// Cancel gives call seq of a thread a definite outcome now: its result, if it has one, else the raw code that says how it is
// made again. The outcome goes the way of every result.
func (s *Shadow) Cancel(tid id.HomePID, seq id.Seq) error {
	s.hands.Lock()
	defer s.hands.Unlock()
	s.mu.Lock()
	sl := s.slots[tid]
	if sl != nil && !s.closed {
		for i, j := range sl.queue { // behind a call of this agent's own: nothing has happened
			if j.seq == seq && seq != 0 {
				sl.queue = append(sl.queue[:i:i], sl.queue[i+1:]...)
				s.answer(sl, j, -abi.ERestartNoInt)
				s.mu.Unlock()
				return nil
			}
		}
	}
	if sl != nil && sl.job != nil && sl.job.leads != nil && sl.job.leads.seq == seq {
		sl.job.leads.dropped = true
		s.mu.Unlock()
		return nil
	}
	if s.closed || sl == nil || sl.job == nil || sl.job.seq != seq || seq == 0 {
		s.mu.Unlock()
		return nil // it is done, and its result on the way
	}
	ends := s.endsBySelf(sl.job)
	s.mu.Unlock()
	if ends {
		return nil // with its whole result
	}
	err := tracer.Run(func() error {
		p, err := tracer.Open(s.PID, s.Region.Code)
		if err != nil {
			return err
		}
		defer p.Close()
		p.Region = s.Region
		for try := 0; ; try++ {
			t, err := p.Seize(int(tid))
			if err != nil {
				return err
			}
			settled := s.cut(sl, t, seq)
			// A signal that our stop has taken from the queue goes back into it.
			if err := t.Release(); err != nil || settled || try > 5000 {
				return err
			}
			time.Sleep(min(time.Duration(try+1)*20*time.Microsecond, time.Millisecond))
		}
	})
	if errors.Is(err, tracer.ErrGone) {
		return nil
	}
	return err
}

// endsBySelf reports whether a call copies between regular files, which gives and takes all of it soon: a stop would cut it short, as no
// file does.
func (s *Shadow) endsBySelf(j *job) bool {
	const sendfile, copyFileRange, much, regular = 40, 326, 64 << 20, 0x8000
	fds, n := [2]uint64{j.args[0], j.args[1]}, j.args[3]
	switch j.nr {
	case sendfile:
	case copyFileRange:
		fds, n = [2]uint64{j.args[0], j.args[2]}, j.args[4]
	default:
		return false
	}
	for _, fd := range fds {
		if f, err := kern.Cached(fmt.Sprintf("/proc/%d/fd/%d", s.PID, int32(fd))); err != nil || f.Mode&modeType != regular {
			return false
		}
	}
	return n <= much
}

// cut looks where the held thread stands and, if it is at, in or just behind its call, publishes the outcome and sends the
// thread back into the loop. It returns false where the thread has not come to its call yet: look again.
func (s *Shadow) cut(sl *slot, t *tracer.Thread, seq id.Seq) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl.job == nil || sl.job.seq != seq {
		return true
	}
	g := s.Region
	taken, call, end := g.At(g.Code.At.Taken), g.At(g.Code.At.CallSys), g.At(g.Code.At.CallEnd)
	rip, rax, inCall := mem.Addr(t.Regs.RIP), int64(t.Regs.RAX), t.Regs.OrigRAX != abi.NoCall
	idle := atomic.LoadUint32(&sl.State) == stub.SlotIdle // the request was not seen, and is not before we let the thread go
	ours := rip >= g.At(g.Code.At.Loop) && rip < g.At(g.Code.At.Recorder)-8
	if idle && !ours {
		return false
	}
	if len(sl.job.pre) > 0 || atomic.LoadUint32(&sl.Done) == atomic.LoadUint32(&sl.Req) {
		return false
	}
	if sl.job.birth != nil { // it does not wait, and half of it may be done
		return false
	}
	switch {
	case idle, rip >= taken && rip <= call: // not begun
		sl.Ret = -abi.ERestartNoInt
	case rip <= end+markSize && rip >= end && inCall && rax == -int64(kern.EINTR):
		sl.Ret = rax
		atomic.StoreUint32(&sl.OutLen, cancelled)
	case rip >= end && ours && !t.Halted && s.records(t):
		s.forgive(sl, rax)
		return true // it records the signals that came before its result, and publishes it then
	case rip <= end+markSize && rip >= end: // the result is still in its register
		sl.Ret = rax
		s.forgive(sl, rax)
	case rip > end && ours: // about to publish
	default:
		return false
	}
	// Published here and now: the process may be stopped, and the stub with it.
	t.Regs.RIP, t.Regs.OrigRAX = uint64(g.At(g.Code.At.Loop)), abi.NoCall
	atomic.StoreUint32(&sl.Done, atomic.LoadUint32(&sl.Req))
	s.ring()
	return true
}

// forgive takes from a socket what is noted there when our stop has ended recvmmsg, which is about to return rax.
func (s *Shadow) forgive(sl *slot, rax int64) {
	if sl.job.nr != abi.SysRecvmmsg || !freeze.Shortened(rax, sl.job.args) {
		return
	}
	fd := int(int32(sl.job.args[0]))
	if e, err := freeze.Forgive(s.pidfd, fd); err == nil && e != 0 {
		s.log.Warn("an error of a socket was read in the program's place", "process", s.Process, "fd", fd, "error", int(e))
	}
}

// records reports whether signals wait for the held thread t, or for the whole process, that the recorder takes between two calls.
// The guest must have them before it has a result that came after them.
func (s *Shadow) records(t *tracer.Thread) bool {
	if len(t.Stash) > 0 {
		return true
	}
	for _, shared := range []bool{false, true} {
		infos, _ := kern.PeekSiginfo(t.TID, shared) // a thread that is gone has none
		for _, si := range infos {
			if sig := si.Signo(); sig > 0 && sig <= abi.NSig && freeze.Recorded(sig, s.actions[sig]) && s.slots[id.HomePID(t.TID)].Idle&abi.SigBit(sig) == 0 {
				return true
			}
		}
	}
	return false
}

// markSize is the length of the no-op between the call and the instruction that stores its result.
const markSize = 8
