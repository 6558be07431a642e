package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mosix/homeproxy/shadow"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/mem"
	"mosix/internal/pack"
	"mosix/internal/wire"
	"mosix/migrator/ferry"
	"mosix/migrator/thaw"
	"mosix/node/api"
)

// What home does when a guest comes back.

// welcome takes guests back that come together: one, in the usual case.
func (n *Node) welcome(from id.Node, s *ferry.Stream, offer ferry.Offer) {
	all, release, err := n.expected(from, offer)
	if err != nil {
		n.log.Warn("a process that is not away from here, or not free, wants to come home", "process", offer.Process, "from", from, "err", err)
		_ = s.Send(wire.Refuse, offer.Epoch, nil)
		return
	}
	defer release()
	var family []ferry.Returning
	for _, a := range all {
		family = append(family, ferry.Returning{Process: a.r.id, Region: a.region, Clear: a.clear(), Fixed: a.fixed(),
			Beside: a.beside, Room: a.room, Quiet: a.quiet, Resume: a.reopen})
	}
	f, stats, err := ferry.Welcome(&n.env, s, offer, family, func() bool { return claimAll(all) })
	for i, a := range all {
		a.settled()
		r := a.r
		m := api.Move{PID: r.id.PID, Home: n.name, From: from, To: n.name, Cause: offer.Cause, Strategy: stats.Strategy, Epoch: offer.Epoch,
			FreezeMS: ms(stats.Freeze), TotalMS: ms(stats.Total), Bytes: stats.Bytes, Rounds: stats.Rounds, Result: api.ResultMoved}
		if f == nil {
			m.Result, m.Error = api.ResultFailed, err.Error()
			n.log.Warn("a homecoming was given up; the guest goes on where it is", "process", r.id, "from", from, "err", err)
			n.moved(r, m, "home", stats)
			continue
		}
		if err != nil {
			n.log.Error("a process is home, but not all went well", "process", r.id, "err", err)
		}
		n.mu.Lock()
		r.epoch = offer.Epoch
		r.settle(&f.Members[i])
		n.mu.Unlock()
		n.kin.note(r.id, f.Members[i].Away)
		n.moved(r, m, "home", stats)
		n.isHome(a, offer.Cause)
		n.log.Info("came home", "process", r.id, "from", from, "cause", offer.Cause, "freeze", stats.Freeze, "bytes", stats.Bytes)
	}
}

// expected finds those whom an offer to come home names, and keeps them from moving otherwise until release is called.
func (n *Node) expected(from id.Node, offer ferry.Offer) (all []*away, release func(), err error) {
	var undo []func()
	free := func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	defer func() {
		if err != nil {
			free()
		}
	}()
	for _, p := range offer.Family() {
		n.mu.Lock()
		r := n.records[p]
		var a *away
		if r != nil {
			a = r.away
		}
		n.mu.Unlock()
		if a == nil || a.where != from || offer.Epoch <= a.epoch {
			return nil, nil, fmt.Errorf("%v is not there", p)
		}
		if !r.trip.TryLock() {
			return nil, nil, fmt.Errorf("%v is on its way", p)
		}
		undo = append(undo, r.trip.Unlock)
		done, ok := a.use()
		if !ok {
			return nil, nil, fmt.Errorf("%v is away no longer", p)
		}
		undo = append(undo, done)
		n.setMoving(r, true)
		undo = append(undo, func() { n.setMoving(r, false) })
		all = append(all, a)
	}
	return all, free, nil
}

// room prepares the shadow for areas that will come home. Where it cannot, all is done when the guest is held.
func (a *away) room(as []image.Area) {
	calls, err := thaw.Ahead(int(a.r.id.PID), a.region, as)
	if err != nil {
		return
	}
	a.mu.Lock()
	sh := a.sh
	a.mu.Unlock()
	done := make(chan struct{})
	if err := sh.Do(calls, func() { close(done) }); err != nil {
		a.n.log.Debug("no thread of the shadow has time to make room", "process", a.r.id, "err", err)
		return
	}
	select {
	case <-done:
	case <-time.After(time.Second): // it may have been stopped just now
	}
}

// beside puts memory in that comes home while the guest's calls are served.
func (a *away) beside(f func(busy []mem.Range)) {
	a.mu.Lock()
	sh := a.sh
	a.mu.Unlock()
	sh.Beside(f)
}

// quiet ends the service of a guest whose last image has come.
func (a *away) quiet() {
	a.mu.Lock()
	a.homing = make(chan struct{})
	a.seen = 0
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
	}
	sh := a.sh
	a.mu.Unlock()
	sh.Close()
}

// settled lets those go on who have waited for the end of a homecoming.
func (a *away) settled() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.homing != nil {
		close(a.homing)
		a.homing = nil
	}
}

// reopen takes charge of the shadow again after a homecoming that was given up; last is the image that the guest left, if it
// came that far.
func (a *away) reopen(last *image.Family) {
	if last != nil {
		f := *last
		f.Epoch = a.epoch
		a.family = &f
	}
	sh, err := shadow.Open(int(a.r.id.PID), a.region, a.family, a.n.log)
	if err != nil && !isThere(a.r.id) { // it has ended while nobody watched it; its guest hears of that when it attaches
		a.n.log.Info("a process has ended on the way home", "process", a.r.id, "err", err)
		go a.n.isGone(a)
		return
	}
	if err != nil {
		a.n.log.Error("the shadow cannot be served any more", "process", a.r.id, "err", err)
		return
	}
	a.attend(sh)
	a.mu.Lock()
	defer a.mu.Unlock()
	sh.Succeeds(a.sh)
	a.sh = sh
}

// recall asks the host to send a process home, and waits until it is.
func (n *Node) recall(ctx context.Context, r *record, cause string) error {
	n.mu.Lock()
	a := r.away
	n.mu.Unlock()
	if a == nil {
		return nil
	}
	for ask := time.Duration(0); ; {
		a.mu.Lock()
		s := a.conn
		a.mu.Unlock()
		if s != nil {
			w := &pack.Writer{}
			w.String(cause)
			_ = s.Send(wire.Recall, a.epoch, w.B)
			ask = 3 * time.Second
		} else {
			ask = 200 * time.Millisecond
		}
		select {
		case <-a.ended:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%v is still on %s: %w", r.id, a.where, context.Cause(ctx))
		case <-time.After(ask):
		}
	}
}
