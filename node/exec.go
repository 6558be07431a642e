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
	a.mu.Lock()
	again := a.executing == seq
	a.executing = seq
	a.mu.Unlock()
	if again {
		return nil // the answer comes
	}
	go func() {
		ret, gone := a.tryExec(tid, e)
		a.mu.Lock()
		a.executing = 0
		s := a.conn
		a.mu.Unlock()
		switch {
		case gone:
			a.n.log.Debug("a guest executes a program: the process is at home", "process", a.r.id)
		case s != nil:
			toHost{a, s}.Result(tid, seq, homeproxy.Result{Ret: ret})
		}
	}()
	return nil
}

// tryExec returns what execve does, or that the process is at home. All that it holds is free again when the guest is answered.
func (a *away) tryExec(tid id.HomePID, e homeproxy.Exec) (ret int64, gone bool) {
	if !a.r.trip.TryLock() {
		return homeproxy.Unserved, false
	}
	defer a.r.trip.Unlock()
	done, ok := a.use()
	if !ok {
		return homeproxy.Unserved, false
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
	if gone {
		a.mu.Lock()
		s := a.conn
		a.mu.Unlock()
		if s != nil {
			toHost{a, s}.send(wire.Kill, &pack.Writer{})
		}
		a.n.isHome(a, "")
	}
	return ret, gone
}
