package shadow

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/region"
	"mosix/internal/tracer"
)

// Exec executes a program in the shadow, whose only thread tid is. When it succeeds the process runs the program, is a shadow no more,
// and has got the signals that its guest had not: those that are still recorded, and unheard. Otherwise ret is what the guest gets.
func (s *Shadow) Exec(tid id.HomePID, e homeproxy.Exec, unheard []region.Signal) (ret int64, done bool, err error) {
	s.hands.Lock()
	defer s.hands.Unlock()
	sl, err := s.idle(tid)
	if err != nil {
		return homeproxy.Unserved, false, err
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		sl.job = nil
		if !done && len(sl.queue) > 0 {
			next := sl.queue[0]
			sl.queue = sl.queue[1:]
			s.start(sl, next)
		}
	}()
	b, args, ok := e.Lay(s.dataAddr(sl), len(s.Region.SlotData(sl.i)))
	if !ok {
		return homeproxy.Unserved, false, nil
	}
	copy(s.Region.SlotData(sl.i), b)
	err = tracer.Run(func() error {
		p, err := tracer.Open(s.PID, s.Region.Code)
		if err != nil {
			return err
		}
		defer p.Close()
		p.Region = s.Region
		t, err := p.Seize(int(tid))
		if err != nil {
			return err
		}
		idle := t.Mask
		t.Mask = e.Mask
		ret, done, err = t.Exec(args[:5]...)
		if !done {
			t.Mask = idle
			return errors.Join(err, t.Release())
		}
		if err == nil && t.Regs.CS == abi.UserCS64 {
			for _, sig := range append(unheard, s.Region.TakeSignals()...) {
				err = errors.Join(err, t.QueueSignal(sig.Info, sig.Info.Code() != abi.SITkill))
			}
		}
		return errors.Join(err, t.Release())
	})
	return ret, done, err
}

// idle waits until thread tid, which must be the only one, has nothing to do, and keeps it so.
func (s *Shadow) idle(tid id.HomePID) (*slot, error) {
	for late := time.Now().Add(5 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		s.mu.Lock()
		sl := s.slots[tid]
		switch {
		case s.closed || sl == nil:
			s.mu.Unlock()
			return nil, fmt.Errorf("thread %d is not in the shadow of %v", tid, s.Process)
		case tid != id.HomePID(s.PID):
			s.mu.Unlock()
			return nil, fmt.Errorf("thread %d of %v is not its leader", tid, s.Process)
		case sl.job == nil && atomic.LoadUint32(&sl.Done) == atomic.LoadUint32(&sl.Req):
			sl.job = &job{pinned: true}
			s.mu.Unlock()
			return sl, nil
		}
		s.mu.Unlock()
		if time.Now().After(late) {
			return nil, fmt.Errorf("thread %d of %v does not come to rest", tid, s.Process)
		}
	}
}
