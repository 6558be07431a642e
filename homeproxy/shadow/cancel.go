package shadow

import (
	"errors"
	"sync/atomic"
	"time"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/tracer"
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
	if s.closed || sl == nil || sl.job == nil || sl.job.seq != seq || seq == 0 {
		s.mu.Unlock()
		return nil // it is done, and its result on the way
	}
	s.mu.Unlock()
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
			if err := kern.SetRegs(t.TID, &t.Regs); err != nil {
				return err
			}
			if err := t.Abandon(); err != nil || settled {
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

// cut looks where the held thread stands and, if it is at or in its call, makes the stub publish the raw code. It returns
// false where the thread has not come to its call yet, or is about to publish: look again.
func (s *Shadow) cut(sl *slot, t *tracer.Thread, seq id.Seq) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl.job == nil || sl.job.seq != seq {
		return true
	}
	g := s.Region
	taken, call, end := g.At(g.Code.At.Taken), g.At(g.Code.At.CallSys), g.At(g.Code.At.CallEnd)
	if len(sl.job.pre) > 0 || atomic.LoadUint32(&sl.Done) == atomic.LoadUint32(&sl.Req) {
		return false
	}
	rip, rax := mem.Addr(t.Regs.RIP), int64(t.Regs.RAX)
	switch {
	case rip >= taken && rip <= call: // not begun
		t.Regs.RAX, t.Regs.RIP, t.Regs.OrigRAX = restartNoInt, uint64(end), abi.NoCall
	case rip == end && t.Regs.OrigRAX != abi.NoCall && abi.IsRestart(rax):
		t.Regs.OrigRAX = abi.NoCall // the stub gets the raw code, the kernel does not restart the call
	case rip == end && rax == -int64(kern.EINTR) && t.Regs.OrigRAX != abi.NoCall:
		atomic.StoreUint32(&sl.OutLen, cancelled)
	case rip == end:
	default:
		return false
	}
	return true
}

const restartNoInt = ^uint64(abi.ERestartNoInt - 1)
