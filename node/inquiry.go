package node

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"mosix/internal/fault"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/procfs"
	"mosix/internal/stub"
)

// ---- whether a guest lives that was granted a long lease and never said that it has it

// An inquiry spares a process the wait for the end of a lease that its guest, which has ended, may never have got: when its host
// is within reach again, the host knows.
type inquiry struct {
	last time.Time
	busy atomic.Bool
}

const (
	inquiryEvery = 500 * time.Millisecond
	inquiryTime  = 3 * time.Second // for the host to answer
)

// opHasGuest is answered with a guestAnswer.
const opHasGuest = "has-guest"

// BeforeGrant is where home counts with the long lease of a guest, which has not got it yet.
var BeforeGrant = fault.Register("home-before-grant")

type guestAnswer struct {
	Op  string `json:"op"`  // the request's: an older agent answers otherwise
	Has bool   `json:"has"` // the guest is there, or has not quite ended
}

// begin asks a's host, if there is something to ask and nobody asks already. It does not wait.
func (q *inquiry) begin(a *away) {
	if time.Since(q.last) < inquiryEvery || !q.busy.CompareAndSwap(false, true) {
		return
	}
	q.last = time.Now()
	seen, ok := a.unconfirmed()
	if !ok {
		q.busy.Store(false)
		return
	}
	done, ok := a.use()
	if !ok {
		q.busy.Store(false)
		return
	}
	a.n.goes(func() {
		defer q.busy.Store(false)
		defer done()
		has, err := a.n.asksForGuest(a.where, a.r.id)
		if err != nil {
			a.n.log.Debug("the host of a guest does not say whether it lives", "process", a.r.id, "host", a.where, "err", err)
			return
		}
		if now, ok := a.unconfirmed(); ok && now == seen && !has {
			a.n.log.Warn("the guest of a process has ended without the lease that was granted to it", "process", a.r.id, "host", a.where)
			atomic.StoreUint64(&a.region.Header().LeaseEnd, uint64(kern.Now(kern.ClockBoottime)))
		}
	})
}

// unconfirmed reports whether the guest, if it lives, has a longer lease than that of its move and has not said so. seen changes
// with each attachment.
func (a *away) unconfirmed() (seen int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen, atomic.LoadUint32(&a.region.Header().State) == stub.StateCommitted && a.conn == nil && a.homing == nil && !a.claimed && time.Now().After(a.within)
}

// asksForGuest asks host whether it has a guest, or one that ends.
func (n *Node) asksForGuest(host id.Node, p id.Process) (has bool, err error) {
	ctx, cancel := context.WithTimeout(n.ctx, inquiryTime)
	defer cancel()
	var a guestAnswer
	err = n.tell(ctx, host, request{Op: opHasGuest, Process: p}, &a)
	if err != nil {
		return false, err
	}
	return a.Has || a.Op != opHasGuest, nil
}

// hasGuest answers a home. Where a guest may run of which this agent knows nothing, none has ended: home lets the process go on when
// it is told so.
func (n *Node) hasGuest(home id.Node, p id.Process) guestAnswer {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.strays = slices.DeleteFunc(n.strays, func(s stray) bool { return !s.isThere() })
	return guestAnswer{Op: opHasGuest, Has: len(n.strays) > 0 || p.Home != home || n.guests[p] != nil || n.leaving[p] > 0}
}

// stray is a process that may be a guest, or keep some, and that this agent knows no more of.
type stray struct {
	pid   int
	start uint64
}

// isThere is true also of one whose first thread has ended: others of it may run.
func (s stray) isThere() bool {
	st, err := procfs.Default.Stat(s.pid)
	return err == nil && st.Start == s.start
}

// leaveAlone notes that process pid could not be taken up. As long as it has not ended no home is told that a guest of its has.
func (n *Node) leaveAlone(pid int) {
	st, err := procfs.Default.Stat(pid)
	if err != nil {
		return // it has ended
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.strays = append(n.strays, stray{pid, st.Start})
}
