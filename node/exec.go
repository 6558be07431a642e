package node

import (
	"fmt"

	"mosix/homeproxy"
	"mosix/internal/id"
	"mosix/internal/pack"
	"mosix/internal/region"
	"mosix/internal/wire"
)

// exec executes a program for a guest, in its shadow. When that succeeds the process is at home, and its guest no more; the guest
// waits in the call meanwhile. Where the process is just on its way home it makes the call there.
func (a *away) exec(tid id.HomePID, seq id.Seq, req homeproxy.Request) error {
	e, ok := homeproxy.ParseExec(req)
	if !ok {
		return fmt.Errorf("thread %d of %v asks for a program in a way that no honest host does", tid, a.r.id)
	}
	if !a.execs.CompareAndSwap(false, true) {
		return nil // asked again: the answer comes
	}
	answer := func(ret int64) {
		a.mu.Lock()
		s := a.conn
		a.mu.Unlock()
		if s != nil {
			toHost{a, s}.Result(tid, seq, homeproxy.Result{Ret: ret})
		}
	}
	go func() {
		defer a.execs.Store(false)
		if !a.r.trip.TryLock() {
			answer(homeproxy.Unserved)
			return
		}
		defer a.r.trip.Unlock()
		done, ok := a.use()
		if !ok {
			return
		}
		defer done()
		var unheard []region.Signal
		for _, u := range a.signals.after(e.Heard) {
			unheard = append(unheard, u.Signal)
		}
		ret, gone, err := a.shadow().Exec(tid, e, unheard)
		if err != nil {
			a.n.log.Warn("a program was not executed as it should", "process", a.r.id, "done", gone, "err", err)
		}
		if !gone {
			answer(ret)
			return
		}
		a.mu.Lock()
		s := a.conn
		a.mu.Unlock()
		if s != nil {
			toHost{a, s}.send(wire.Kill, &pack.Writer{})
		}
		a.n.log.Debug("a guest executes a program: the process is at home", "process", a.r.id)
		a.n.isHome(a, "")
	}()
	return nil
}
