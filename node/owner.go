package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/owner"
	"mosix/internal/procfs"
	"mosix/node/api"
	"mosix/node/control"
	"mosix/node/sampler"
)

// wishes are what the owner of this machine has ordered. They outlive the agent.
type wishes struct {
	Blocked bool   `json:"blocked"`
	Stay    bool   `json:"stay"`
	Owner   string `json:"owner"` // api.OpHere, api.OpGone or api.OpAuto
}

// ownership is what the node knows of its owner. Node.mu guards it.
type ownership struct {
	wishes
	present bool
	why     string
	source  owner.Source
}

const (
	wishesFile = "wishes.json"
	ownerLooks = 500 * time.Millisecond
	// expelTime is how long guests may begin to go, and expelAgain how long after that those are asked again that could not.
	expelTime  = 30 * time.Second
	expelAgain = 5 * time.Second
)

// openOwner reads what was ordered earlier. With a file that cannot be read the node takes no guests: that is what it may say.
func (n *Node) openOwner() {
	n.own.Owner = api.OpAuto
	n.own.source = owner.Any{}
	if n.conf.Owner == "auto" {
		n.own.source = owner.Any{owner.Sessions{Dir: "/run/systemd/sessions"}, &owner.Devices{Pattern: "/dev/input/event*", Idle: time.Duration(n.conf.OwnerIdle)}}
	}
	path := filepath.Join(n.conf.StateDir, wishesFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var w wishes
	if err == nil {
		err = json.Unmarshal(b, &w)
	}
	if err != nil {
		n.log.Error("what the owner has ordered cannot be read: this node takes no guests until mosixctl unblock", "file", path, "err", err)
		w = wishes{Blocked: true}
	}
	if n.own.wishes = w; w.Owner == "" {
		n.own.Owner = api.OpAuto
	}
}

// order changes a wish and keeps it.
func (n *Node) order(change func(*wishes)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.own.wishes
	change(&w)
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(n.conf.StateDir, wishesFile), append(b, '\n')); err != nil {
		return fmt.Errorf("keep what was ordered: %w", err)
	}
	n.own.wishes = w
	return nil
}

// replaceFile writes a file that is there as a whole, or as it was.
func replaceFile(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// closed says why this node takes no guests, in a word for programs and in words; "" if it does.
func (n *Node) closed() (what, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closing:
		return "shutting-down", "it is shutting down"
	case n.own.Blocked:
		return "blocked", "it is blocked (mosixctl block)"
	case n.own.present:
		return "owner", "its owner is at the machine"
	}
	return "", ""
}

// Owner implements control.Backend.
func (n *Node) Owner(ctx context.Context, asker control.Asker, req api.OwnerRequest) (api.OwnerState, error) {
	t0 := time.Now()
	var moved int
	var left []api.Left
	var err error
	switch req.Op {
	case api.OpShow:
	case api.OpBlock, api.OpUnblock:
		err = n.order(func(w *wishes) { w.Blocked = req.Op == api.OpBlock })
	case api.OpStay, api.OpNoStay:
		err = n.order(func(w *wishes) { w.Stay = req.Op == api.OpStay })
	case api.OpHere, api.OpGone, api.OpAuto:
		if err = n.order(func(w *wishes) { w.Owner = req.Op }); err == nil {
			n.lookForOwner()
		}
	case api.OpSetSpeed:
		err = n.setSpeed(req.Speed)
	case api.OpLock, api.OpUnlock:
		err = n.pin(asker, req.PID, req.Op == api.OpLock)
	case api.OpExpel:
		moved, left = n.expel(ctx, causeCommand, tripsAtOnce)
	case api.OpBring:
		moved, left = n.bring(ctx, causeCommand, tripsAtOnce, time.Minute)
	default:
		err = fmt.Errorf("op %q: %w", req.Op, control.ErrInvalid)
	}
	if err != nil {
		return api.OwnerState{}, err
	}
	if req.Op != api.OpShow {
		text := "by command: " + req.Op
		switch {
		case req.PID != 0:
			text += fmt.Sprintf(" %d", req.PID)
		case req.Op == api.OpSetSpeed:
			text += fmt.Sprintf(" %g", req.Speed)
		case moved+len(left) > 0:
			text += fmt.Sprintf(", %d moved, %d left, in %.1f s", moved, len(left), time.Since(t0).Seconds())
		}
		n.event(api.Event{Kind: api.EventOwner, PID: req.PID, Text: text})
	}
	st := n.ownerState()
	st.Moved, st.Left, st.TookMS = moved, left, ms(time.Since(t0))
	return st, nil
}

func (n *Node) ownerState() api.OwnerState {
	_, speed := n.balance.capacity()
	n.mu.Lock()
	defer n.mu.Unlock()
	st := api.OwnerState{Node: n.name, Blocked: n.own.Blocked, Stay: n.own.Stay, Speed: speed, Owner: n.own.Owner, Present: n.own.present, Why: n.own.why, Guests: len(n.guests)}
	for _, r := range n.records {
		if r.away != nil {
			st.Away++
		}
	}
	return st
}

func (n *Node) setSpeed(v float64) error {
	if err := sampler.SetSpeed(n.conf.StateDir, v); err != nil {
		return fmt.Errorf("%w: %w", err, control.ErrInvalid)
	}
	if v == 0 {
		var err error
		if v, err = sampler.Speed(n.conf.StateDir); err != nil {
			n.log.Warn("the speed of this node is not kept", "err", err)
		}
	}
	n.balance.sampler.SetSpeed(v)
	n.balance.sample()
	return nil
}

// pin has the balancer leave a process where it is, or lets it move it again.
func (n *Node) pin(asker control.Asker, pid id.HomePID, yes bool) error {
	p, err := n.locate(pid)
	if err != nil {
		return err
	}
	st, err := procfs.Default.Status(int(pid))
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, control.ErrNoProcess)
	}
	if !asker.Root() && st.UID.Real != asker.UID {
		return fmt.Errorf("process %d belongs to another user: %w; ask that user, or root", pid, control.ErrForbidden)
	}
	r := n.record(p)
	n.mu.Lock()
	n.records[p], r.pinned = r, yes
	n.mu.Unlock()
	n.tidy(r)
	return nil
}

// trips makes the journeys of all, so many at once, and waits for those that have begun. When ctx ends no further one begins.
func trips[T any](ctx context.Context, all []T, atOnce int, name func(T) id.Process, trip func(context.Context, T) error) (moved int, left []api.Left) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	room := make(chan struct{}, max(atOnce, 1))
	for _, x := range all {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			err := context.Cause(ctx)
			if err == nil {
				err = trip(ctx, x)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				moved++
				return
			}
			left = append(left, api.Left{PID: name(x).PID, Home: name(x).Home, Why: err.Error()})
		})
	}
	wg.Wait()
	return moved, left
}

// tripsAtOnce is how many guests leave, or processes come, at once by a command: more would only share the network.
const tripsAtOnce = 8

// expel sends all guests home, so many at once, and waits until they have gone.
func (n *Node) expel(ctx context.Context, cause string, atOnce int) (moved int, left []api.Left) {
	n.mu.Lock()
	ts := slices.Collect(maps.Values(n.guests))
	n.mu.Unlock()
	return trips(ctx, ts, atOnce, func(t *tenant) id.Process { return t.g.Process }, func(ctx context.Context, t *tenant) error {
		return n.sendHomeAtLast(ctx, t, cause)
	})
}

// sendHomeAtLast is sendHome for a guest that may be on its way already, by another command or with others of its family.
func (n *Node) sendHomeAtLast(ctx context.Context, t *tenant, cause string) error {
	err := n.sendHome(t, cause)
	for late := time.Now().Add(20 * time.Second); errors.Is(err, errOnItsWay) && time.Now().Before(late) && ctx.Err() == nil; err = n.sendHome(t, cause) {
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// bring has all processes of this node come home, so many at once, and waits for them, for each so long at most.
func (n *Node) bring(ctx context.Context, cause string, atOnce int, each time.Duration) (moved int, left []api.Left) {
	n.mu.Lock()
	var rs []*record
	for _, r := range n.records {
		if r.away != nil {
			rs = append(rs, r)
		}
	}
	n.mu.Unlock()
	return trips(ctx, rs, atOnce, func(r *record) id.Process { return r.id }, func(ctx context.Context, r *record) error {
		ctx, cancel := context.WithTimeoutCause(ctx, each, fmt.Errorf("its host did not send it home within %v", each))
		defer cancel()
		return n.recall(ctx, r, cause)
	})
}

// watchOwner lets guests go when somebody comes back to the machine.
func (n *Node) watchOwner() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(ownerLooks):
		}
		n.lookForOwner()
		n.mu.Lock()
		clear := !n.own.present || len(n.guests) == 0 || n.closing
		n.mu.Unlock()
		if clear {
			continue
		}
		t0 := time.Now()
		n.idleGuests(true)
		ctx, cancel := context.WithTimeout(n.ctx, expelTime)
		moved, left := n.expel(ctx, api.CauseOwner, tripsAtOnce)
		cancel()
		n.met.OwnerReturned(moved, len(left), time.Since(t0))
		n.event(api.Event{Kind: api.EventOwner, Text: fmt.Sprintf("the owner is back: %d guests went in %.2f s, %d are left", moved, time.Since(t0).Seconds(), len(left))})
		n.log.Info("the owner is back, and guests leave", "went", moved, "left", len(left), "took", time.Since(t0))
		if len(left) > 0 { // their homes are out of reach, say: nothing is won by asking at once
			select {
			case <-n.ctx.Done():
			case <-time.After(expelAgain):
			}
		}
	}
}

// lookForOwner finds out whether somebody is at the machine.
func (n *Node) lookForOwner() {
	yes, why := n.own.source.Present(time.Now())
	n.mu.Lock()
	switch n.own.Owner {
	case api.OpHere:
		yes, why = true, "by command"
	case api.OpGone:
		yes, why = false, "by command"
	}
	was := n.own.present
	n.own.present, n.own.why = yes, why
	n.mu.Unlock()
	switch {
	case yes && !was:
		n.event(api.Event{Kind: api.EventOwner, Text: "somebody is at the machine: " + why})
	case was && !yes:
		n.event(api.Event{Kind: api.EventOwner, Text: "nobody is at the machine any more"})
		n.idleGuests(false) // those that could not go
	}
}

// idleGuests lets guests have only what nobody else wants of the processors, until they are gone, or the owner is.
func (n *Node) idleGuests(yes bool) {
	n.mu.Lock()
	var pids []int
	for _, t := range n.guests {
		pids = append(pids, t.g.PID)
	}
	n.mu.Unlock()
	for _, pid := range pids {
		if err := kern.IdleProcess(pid, yes); err != nil && !kern.IsGone(err) {
			n.log.Debug("a guest keeps its priority", "pid", pid, "err", err)
		}
	}
}

// Events implements control.Backend.
func (n *Node) Events(_ context.Context, asker control.Asker, since uint64) (api.Events, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out api.Events
	for _, e := range n.events.list {
		if e.Seq <= since {
			continue
		}
		if !asker.Root() {
			e.Inputs = nil // all processes are among them
		}
		out.Events = append(out.Events, e)
	}
	return out, nil
}

// WhyNot implements control.Backend.
func (n *Node) WhyNot(ctx context.Context, asker control.Asker, pid id.HomePID) (control.WhyNot, error) {
	e, err := n.Explain(ctx, asker, pid, "")
	if err != nil {
		return control.WhyNot{}, err
	}
	p, err := n.locate(pid)
	if err != nil {
		return control.WhyNot{}, err
	}
	v := n.balance.view()
	w := control.WhyNot{Explanation: e, Policy: n.balance.policy.Name(), Inputs: n.inputs(v)}
	m, would, why := balancer.WhyNot(n.balance.policy, v, p, now(), n.balance.random())
	if !asker.Root() {
		w.Inputs = nil
	}
	w.Would, w.To, w.Why, w.Began = would, m.To, why, n.balance.births.told(p)
	return w, nil
}
