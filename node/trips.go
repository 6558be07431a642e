package node

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/procfs"
	"mosix/internal/region"
	"mosix/internal/tracer"
	"mosix/internal/transport"
	"mosix/migrator"
	"mosix/migrator/eligible"
	"mosix/migrator/ferry"
	"mosix/migrator/freeze"
	"mosix/node/api"
	"mosix/node/control"
	"mosix/node/metrics"
)

// order is a move that somebody, or the balancer, wants.
type order struct {
	to       id.Node
	cause    string
	strategy string
	asker    eligible.Asker
	auto     bool
	relief   bool    // memory is short where it is
	load     float64 // of the node where it is now, for the target's judgement
	ready    float64 // its tasks that are ready to run, on average; 0: not known
	cpus     float64 // of that node; 0: it is this one
	speed    float64 // of that node
}

// locate gives a process of this home its full name.
func (n *Node) locate(pid id.HomePID) (id.Process, error) {
	start, err := freeze.StartTime(int(pid))
	if err != nil {
		return id.Process{}, fmt.Errorf("process %d: %w", pid, control.ErrNoProcess)
	}
	return id.Process{Home: n.name, PID: pid, Start: start}, nil
}

// carry moves a process of this home to where o wants it: away, home, or by way of home to another node.
func (n *Node) carry(ctx context.Context, p id.Process, o order) (res api.MigrateResult) {
	r := n.record(p)
	res = api.MigrateResult{PID: p.PID, Home: n.name, From: n.name, To: o.to, Strategy: o.strategy, Result: api.ResultFailed, Refusals: image.Refusals{}}
	if res.Strategy == "" {
		res.Strategy = api.Precopy
	}
	n.mu.Lock()
	closing := n.closing
	if r.away != nil {
		res.From = r.away.where
	}
	n.mu.Unlock()
	refuse := func(rs ...image.Refusal) api.MigrateResult {
		res.Result, res.Refusals = api.ResultRefused, rs
		for _, x := range rs {
			n.met.Refused(x.What)
		}
		n.tidy(r)
		return res
	}
	switch {
	case closing:
		return refuse(image.Refusal{What: "shutting-down", Why: "The agent of " + string(n.name) + " is shutting down."})
	case res.From == o.to:
		return refuse(image.Refusal{What: "already-there", Why: fmt.Sprintf("The process runs on %s already.", o.to)})
	case n.isMoving(r):
		return refuse(image.Refusal{What: "moving", Why: "The process is on its way just now; try again in a moment."})
	}
	t0 := time.Now()
	if res.From != n.name {
		n.mu.Lock()
		r.passing, r.leg = o.to != n.name, nil
		n.mu.Unlock()
		rctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, errors.New("its host did not send it home within a minute"))
		err := n.recall(rctx, r, o.cause)
		cancel()
		n.mu.Lock()
		leg := r.leg
		r.passing, r.leg = false, nil
		n.mu.Unlock()
		if err != nil {
			res.Error = err.Error()
			return res
		}
		if leg != nil {
			res.FreezeMS, res.Bytes, res.Rounds, res.Strategy = leg.FreezeMS, leg.Bytes, leg.Rounds, leg.Strategy
			defer func() {
				if o.to != n.name && res.Result != api.ResultMoved { // it got no further than here
					n.remember(r, *leg)
				}
			}()
		}
		if o.to == n.name {
			res.Result, res.TotalMS = api.ResultMoved, ms(time.Since(t0))
			return res
		}
	}
	r.trip.Lock() // a homecoming that has just ended may still hold it
	defer r.trip.Unlock()
	n.mu.Lock()
	elsewhere, locked := r.away != nil, time.Now().Before(r.lockedUntil)
	n.mu.Unlock()
	switch {
	case elsewhere:
		return refuse(image.Refusal{What: "moving", Why: "The process has been sent elsewhere meanwhile; try again in a moment."})
	case locked && o.auto:
		return refuse(image.Refusal{What: "locked", Why: "It came home for a call, and is locked for a while."})
	}
	if !n.claim(r) {
		return refuse(image.Refusal{What: "moving", Why: "The process is on its way just now; try again in a moment."})
	}
	defer func() {
		n.setMoving(r, false)
		n.tidy(r)
	}()
	var others []*record
	var out ferry.Outcome
	var err error
	for try := 0; ; try++ {
		since := ticksNow()
		fs, rs, jerr := n.judge(ctx, int(p.PID), o)
		if jerr != nil {
			res.Error = jerr.Error()
			n.tidy(r)
			return res
		}
		if len(rs) > 0 {
			return refuse(rs...)
		}
		grown, release, refusal := n.gather(ctx, fs[1:])
		if refusal != nil {
			return refuse(*refusal)
		}
		others = grown
		out, err = n.leave(ctx, append([]*record{r}, others...), fs, since, o)
		// What was judged, or copied, has changed meanwhile: one of the family was born, or one of the others has ended.
		changed := errors.Is(err, ferry.ErrNewborn) || errors.Is(err, ferry.ErrWritten) ||
			isThere(p) && slices.ContainsFunc(others, func(x *record) bool { return !isThere(x.id) })
		if out.State != migrator.Stayed || !changed || try == newbornTries || ctx.Err() != nil {
			defer release()
			break
		}
		release()
	}
	res.FreezeMS += ms(out.Stats.Freeze)
	res.TotalMS, res.Rounds = ms(time.Since(t0)), out.Stats.Rounds
	res.Bytes += out.Stats.Bytes
	if out.Stats.Strategy != "" {
		res.Strategy = out.Stats.Strategy
	}
	m := api.Move{PID: p.PID, Home: n.name, From: res.From, To: o.to, Cause: o.cause, Strategy: res.Strategy, Epoch: r.epoch, FreezeMS: res.FreezeMS,
		TotalMS: res.TotalMS, Bytes: res.Bytes, Rounds: res.Rounds}
	var ref *ferry.RefusedError
	switch {
	case out.State == migrator.Gone:
		res.Result = api.ResultMoved
	case errors.As(err, &ref):
		res.Result, res.Refusals = api.ResultRefused, ref.Refusals
		for _, x := range ref.Refusals {
			n.met.Refused(x.What)
		}
		m.Refusals = ref.Refusals
		n.tidy(r)
	default:
		if errors.Is(err, tracer.ErrSpoiled) {
			err = fmt.Errorf("it has executed another program just then, or changed its own code; try again in a moment (%w)", err)
		}
		res.Error, m.Error = err.Error(), err.Error()
		n.tidy(r)
	}
	m.Result = res.Result
	n.moved(r, m, metrics.Out, out.Stats)
	for _, x := range others {
		m.PID, m.Bytes = x.id.PID, 0 // they are counted once
		n.remember(x, m)
	}
	return res
}

// isThere reports whether a process of this node has not ended. One that nobody has waited for yet has.
func isThere(p id.Process) bool {
	st, err := procfs.Default.Stat(int(p.PID))
	return err == nil && st.Start == p.Start && st.State != 'Z' && st.State != 'X'
}

// newbornTries is how often a move is begun anew for a process that makes others while it is copied.
const newbornTries = 4

// judge looks at a process that is at home and at those that would have to move with it, and at what speaks against that. What many
// processes are for an instant, in the middle of starting a program, is given time to pass, and what one of the others was that has
// ended meanwhile speaks against nothing. The balancer moves nobody together with others: it weighs one process at a time.
func (n *Node) judge(ctx context.Context, pid int, o order) (fs []eligible.Facts, rs image.Refusals, err error) {
	target := n.targetOf(ctx, o.to)
	for try := 0; ; try++ {
		if fs, err = gatherFamily(pid); err != nil {
			return fs, nil, err
		}
		if o.auto {
			fs = fs[:1]
			fs[0].Family = nil
		}
		rs = judgeFamily(fs, o.asker, target)
		ended := slices.ContainsFunc(fs[1:], func(f eligible.Facts) bool {
			return !isThere(id.Process{PID: id.HomePID(f.PID), Start: f.Stat.Start})
		})
		if len(rs) == 0 || try == 30 || ctx.Err() != nil || !ended && (len(rs) != 1 || rs[0].What != eligible.SharedSpace) {
			return fs, rs, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ticksNow is the time since the machine was started as /proc counts it.
func ticksNow() uint64 {
	return uint64(kern.Now(kern.ClockBoottime) / (int64(time.Second) / procfs.TicksPerSecond))
}

// leave sends processes that are at home to another node. The first is the one that is wanted there.
func (n *Node) leave(ctx context.Context, rs []*record, fs []eligible.Facts, since uint64, o order) (ferry.Outcome, error) {
	s, err := n.dial(ctx, o.to, transport.ProtoMove)
	if err != nil {
		return ferry.Outcome{State: migrator.Stayed}, err
	}
	defer s.Close()
	offer := n.offer(rs, fs, o)
	env := n.env
	if o.strategy == api.StopAndCopy {
		env.Rounds = 0
	}
	var gone []*away
	var undo []func()
	defer func() {
		for _, f := range undo {
			f()
		}
	}()
	out, err := ferry.Send(&env, s, offer, ferry.Hooks{
		Since: since,
		Used: func(p id.Process, m *image.Process) {
			for _, r := range rs {
				if r.id == p {
					r.charge(m)
				}
			}
		},
		Parked: func(records []*image.Family, regions []*region.Region) error {
			for i, r := range rs {
				a, err := n.depart(r, records[i], regions[i], o.to)
				if err != nil {
					return err
				}
				gone = append(gone, a)
				if done, ok := a.use(); ok { // of the region: also when the move is given up
					undo = append(undo, done)
				}
			}
			return nil
		},
		Unparked: func() {
			for _, a := range gone {
				n.isHome(a, "")
			}
		},
	})
	if out.State == migrator.Stayed {
		return out, err
	}
	if w := out.Stats.Written; len(rs) == 1 && w > 0 { // of several it is not known who wrote
		n.mu.Lock()
		rs[0].written = w
		n.mu.Unlock()
	}
	for _, r := range rs {
		n.log.Info("moved", "process", r.id, "to", o.to, "cause", o.cause, "state", out.State, "freeze", out.Stats.Freeze, "total", out.Stats.Total, "bytes", out.Stats.Bytes)
	}
	return out, err
}

// offer tells another node what would come.
func (n *Node) offer(rs []*record, fs []eligible.Facts, o order) ferry.Offer {
	f, r := &fs[0], rs[0]
	offer := ferry.Offer{Process: r.id, UID: f.Status.UID.Real, Command: strings.Join(f.Command, " "),
		Ready: max(o.ready, 1), VDSO: f.VDSOBuildID, Auto: o.auto, Relief: o.relief, Cause: o.cause, Load: o.load, CPUTime: uint64(cpuOf(f.Stat)) + r.usedAway()}
	n.mu.Lock()
	for i, x := range rs {
		offer.Epoch = max(offer.Epoch, x.epoch+1)
		offer.Threads += uint32(len(fs[i].Threads))
		offer.Bytes += fs[i].Status.VMRSSBytes
		if i > 0 {
			offer.Others = append(offer.Others, x.id)
		}
	}
	n.mu.Unlock()
	if offer.CPUs, offer.Speed = o.cpus, o.speed; o.cpus == 0 {
		offer.CPUs, offer.Speed = n.balance.capacity()
	}
	if len(offer.Command) > 4096 {
		offer.Command = offer.Command[:4096]
	}
	return offer
}

func (n *Node) isMoving(r *record) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return r.moving
}

// tidy forgets the record of a process that has never moved.
func (n *Node) tidy(r *record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.away == nil && r.moves == 0 && !r.moving && !r.pinned && n.records[r.id] == r {
		delete(n.records, r.id)
	}
}

// claim begins a move of the process that r, whose trip the caller holds, is the record of. Somebody who looked at it meanwhile, such as
// to refuse another move, may have tidied r away: then it is put back. It returns false where it has another record by now.
func (n *Node) claim(r *record) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := n.records[r.id]; now != nil && now != r {
		return false
	}
	n.records[r.id], r.moving = r, true
	return true
}

// moved counts and remembers a move of a process of this home. Coming home on the way from one host to another is part of a
// move, and remembered with it.
func (n *Node) moved(r *record, m api.Move, direction string, st ferry.Stats) {
	n.met.MoveDone(metrics.Move{Result: m.Result, Direction: direction, Cause: m.Cause, Freeze: st.Freeze, Total: st.Total, Bytes: st.Bytes, Rounds: st.Rounds})
	if direction == metrics.Home && m.Result == api.ResultMoved {
		n.mu.Lock()
		r.leg = &m
		passing := r.passing
		n.mu.Unlock()
		if passing {
			return
		}
	}
	n.remember(r, m)
}

// remember enters a move into the history.
func (n *Node) remember(r *record, m api.Move) {
	m.EndedUnixMS = time.Now().UnixMilli()
	if m.Refusals == nil {
		m.Refusals = image.Refusals{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if m.Result == api.ResultMoved {
		r.moves++
		r.lastMoved = time.Now()
	}
	defer func() { // without the lock
		n.goes(func() {
			n.event(api.Event{Kind: api.EventMove, PID: m.PID, Home: m.Home, To: m.To, Text: moveText(m)})
		})
	}()
	n.history = append(n.history, control.Move{UID: r.uid, Move: m})
	if len(n.history) > 2000 {
		n.history = append([]control.Move(nil), n.history[1000:]...)
	}
}

// userName is the name of a user id, or its number.
func userName(uid uint32) string {
	if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
		return u.Username
	}
	return strconv.Itoa(int(uid))
}
