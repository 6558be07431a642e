package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/procfs"
	"mosix/internal/stub"
	"mosix/migrator/eligible"
	"mosix/migrator/thaw"
)

// Families: processes that share memory. They move together, and come home together.

// ---- at a host

// company are the guests that have arrived together.
type company struct{ all []*tenant } // complete before the first is served

// together returns those of t's company that live, each locked for its way home until unlock is called; t alone where it has none.
// It returns nobody when t has ended, or when one of them is on its way already.
func (t *tenant) together() (ts []*tenant, unlock func()) {
	all := []*tenant{t}
	if t.company != nil {
		all = t.company.all
	}
	unlock = func() {
		for _, x := range ts {
			x.trip.Unlock()
		}
	}
	there := false
	for _, x := range all {
		if !x.trip.TryLock() {
			unlock()
			return nil, nil
		}
		select {
		case <-x.done:
			x.trip.Unlock()
		default:
			there = there || x == t
			ts = append(ts, x)
		}
	}
	if !there {
		unlock()
		return nil, nil
	}
	return ts, unlock
}

// ---- at home

// family returns those that moved together with a and are away still, by number, a among them.
func (n *Node) family(a *away) []*away {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*away
	for _, r := range n.records {
		if b := r.away; b != nil && b != a && a.first != (id.Process{}) && b.first == a.first && b.epoch == a.epoch {
			all = append(all, b)
		}
	}
	all = append(all, a)
	slices.SortFunc(all, func(x, y *away) int { return cmp.Compare(x.r.id.PID, y.r.id.PID) })
	return all
}

// lockAll takes the locks of all, in an order that is always the same.
func lockAll(all []*away) (unlock func()) {
	for _, a := range all {
		a.mu.Lock()
	}
	return func() {
		for _, a := range all {
			a.mu.Unlock()
		}
	}
}

// claimAll decides for all of them here, unless one of their guests has attached since its last image came.
func claimAll(all []*away) bool {
	defer lockAll(all)()
	for _, a := range all {
		if a.seen > 0 {
			return false
		}
	}
	for _, a := range all {
		a.claimed = true
	}
	return true
}

// expire decides, when the lease of a's guest is over, that the guest has ended with it, unless it was heard of just now. What that
// means follows from the state in its header. Of a family all run on here, or none does: as long as nobody knows whether they
// run there, the longest lease counts; where one is known to, the others have run there, too.
func (a *away) expire() bool {
	all := a.n.family(a)
	defer lockAll(all)()
	all = slices.DeleteFunc(slices.Clone(all), func(b *away) bool { // one that has ended meanwhile has no page any more
		select {
		case <-b.ended:
			return true
		default:
			return false
		}
	})
	if !slices.Contains(all, a) {
		return false
	}
	over := func(b *away) bool {
		return kern.Now(kern.ClockBoottime) >= int64(atomic.LoadUint64(&b.region.Header().LeaseEnd))
	}
	switch {
	case a.fallen:
		return true
	case a.claimed || !over(a):
		return false
	}
	there := func(b *away) bool { return atomic.LoadUint32(&b.region.Header().State) == stub.StateAway }
	if !there(a) {
		for _, b := range all {
			switch {
			case there(b):
				atomic.StoreUint32(&a.region.Header().State, stub.StateAway)
				a.claimed = true
				return true
			case b.claimed && !b.fallen || !over(b):
				return false
			}
		}
		for _, b := range all {
			b.claimed, b.fallen = true, true
		}
	}
	a.claimed = true
	return true
}

// agree makes what an earlier agent has left of families one: it may have died between two of them.
func agree(all []found) {
	type key struct {
		uid, pid     uint32
		start, epoch uint64
	}
	states := map[key]map[uint32]bool{}
	of := func(f found) (key, bool) {
		h := f.g.Header()
		return key{f.uid, h.FamilyPID, h.FamilyStart, h.Epoch}, h.FamilyPID != 0 && !thaw.IsGuest(f.uid) && !thaw.IsKeeper(f.uid)
	}
	for _, f := range all {
		if k, ok := of(f); ok {
			if states[k] == nil {
				states[k] = map[uint32]bool{}
			}
			states[k][f.g.Header().State] = true
		}
	}
	for _, f := range all {
		k, ok := of(f)
		if !ok {
			continue
		}
		h, have := f.g.Header(), states[k]
		switch h.State {
		case stub.StateParked, stub.StateCommitted, stub.StateReturning:
			switch {
			case have[stub.StateAway]: // it is known to run there
				h.State = stub.StateAway
			case h.State == stub.StateParked && (have[stub.StateCommitted] || have[stub.StateReturning]):
				h.State = stub.StateCommitted
			}
		}
	}
}

// ---- before a move

// gatherFamily looks at a process that is at home, and at all that share memory with it, also by way of others. The process itself
// comes first.
func gatherFamily(pid int) (fs []eligible.Facts, err error) {
	for range 10 {
		if fs, err = lookAtFamily(pid); !errors.Is(err, errEnded) {
			break
		}
	}
	return fs, err
}

// errEnded says that another than the process asked for has ended: what that one shares may be less now.
var errEnded = errors.New("one of those that share memory has ended while they were looked at; try again")

func lookAtFamily(pid int) ([]eligible.Facts, error) {
	var fs []eligible.Facts
	members := map[int]bool{pid: true}
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		f, err := eligible.Gather(procfs.Default, queue[0], eligible.Options{Thorough: true})
		if errors.Is(err, procfs.ErrGone) && queue[0] != pid {
			return nil, errEnded
		}
		if err != nil {
			return nil, err
		}
		fs = append(fs, f)
		for _, other := range f.Sharers() {
			if !members[other] && len(members) < image.MaxMembers {
				members[other] = true
				queue = append(queue, other)
			}
		}
	}
	for i := range fs {
		fs[i].Family = members
	}
	return fs, nil
}

// judgeFamily judges all of a family. What speaks against one of the others says of whom it is.
func judgeFamily(fs []eligible.Facts, asker eligible.Asker, t *eligible.Target) image.Refusals {
	rs := eligible.Judge(fs[0], asker, t)
	for _, f := range fs[1:] {
		for _, r := range eligible.Judge(f, asker, t) {
			r.Evidence = withWhom(&f) + ": " + r.Evidence
			rs = append(rs, r)
		}
	}
	return rs
}

func withWhom(f *eligible.Facts) string {
	return fmt.Sprintf("process %d (%s), with which it shares memory", f.PID, f.Stat.Comm)
}

// gather locks the others of a family, which are at home, for a move; release unlocks them.
func (n *Node) gather(ctx context.Context, others []eligible.Facts) (rs []*record, release func(), refusal *image.Refusal) {
	release = func() {
		for _, r := range rs {
			n.setMoving(r, false)
			r.trip.Unlock()
			n.tidy(r)
		}
	}
	for i := range others {
		f := &others[i]
		r := n.record(id.Process{Home: n.name, PID: id.HomePID(f.PID), Start: f.Stat.Start})
		if !r.trip.TryLock() {
			release()
			return nil, nil, &image.Refusal{What: "moving", Why: "A process with which it shares memory is on its way just now; try again in a moment.", Evidence: withWhom(f)}
		}
		n.mu.Lock()
		elsewhere := r.away != nil
		n.mu.Unlock()
		if elsewhere || ctx.Err() != nil {
			r.trip.Unlock()
			release()
			return nil, nil, &image.Refusal{What: "moving", Why: "A process with which it shares memory is away; call it home first.", Evidence: withWhom(f)}
		}
		if !n.claim(r) {
			r.trip.Unlock()
			release()
			return nil, nil, &image.Refusal{What: "moving", Why: "A process with which it shares memory is on its way just now; try again in a moment.", Evidence: withWhom(f)}
		}
		rs = append(rs, r)
	}
	return rs, release, nil
}
