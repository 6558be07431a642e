package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"mosix/balancer"
	"mosix/balancer/load"
	"mosix/gossip"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/procfs"
	"mosix/migrator/eligible"
	"mosix/migrator/ferry"
	"mosix/node/api"
	"mosix/node/metrics"
	"mosix/node/sampler"
)

// balance is this node's measuring and deciding.
type balance struct {
	n       *Node
	policy  balancer.Policy
	sampler *sampler.Sampler
	rng     *rand.Rand

	mu       sync.Mutex
	meter    load.Meter
	snap     sampler.Snapshot
	falls    fall // of free memory
	costs    balancer.Costs
	attempts []balancer.Attempt
	verdicts map[id.Process]verdict
	talks    map[id.Process]*talk
	prices   map[id.Node]*price // of a call between here and there
	pulling  bool               // it has asked for work
	births   births
	gifts    map[id.Node]promised // what idle nodes were offered last
}

// verdict is what eligibility said of a process, kept for a while: asking costs a millisecond.
type verdict struct {
	at  time.Time
	why string
}

func now() time.Duration { return time.Duration(kern.Now(kern.ClockBoottime)) }

func (b *balance) open(n *Node) error {
	b.n, b.costs, b.verdicts = n, balancer.DefaultCosts(), map[id.Process]verdict{}
	b.talks, b.prices = map[id.Process]*talk{}, map[id.Node]*price{}
	b.rng = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	var err error
	if b.policy, err = balancer.ByName(n.conf.Policy); err != nil {
		return err
	}
	if b.sampler, err = sampler.New(sampler.Options{Config: n.conf, Exclude: n.isKeeper, Log: n.log}); err != nil {
		return err
	}
	b.births.open(n.conf.StateDir)
	b.sample()
	return nil
}

// isKeeper reports whether a process is part of our machinery and no load.
func (n *Node) isKeeper(pid int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.guests {
		if t.g.Den.KeeperID == pid {
			return true
		}
	}
	return false
}

func (b *balance) sample() {
	s, err := b.sampler.Sample(now())
	if err != nil {
		b.n.log.Warn("the load could not be measured", "err", err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.snap = s
	b.falls.add(s.MemFree, s.Period, b.meter.PromisedBytes(now()) > 0)
	b.meter.Capacity = load.Capacity{CPUs: s.CPUs, Speed: s.Speed}
	b.meter.Sample(s.Load, now())
}

// run is the agent's period.
func (n *Node) run() {
	defer n.balance.sampler.Close()
	period := time.Duration(n.conf.Period)
	for {
		jitter := time.Duration(rand.Int64N(int64(period) / 5))
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(period - period/10 + jitter):
		}
		n.balance.sample()
		n.decide()
	}
}

// capNoGuests, among the bits that a node says of itself, is set where it takes none.
const capNoGuests = 1

// entry is what this node says of itself.
func (b *balance) entry() gossip.Entry {
	n := b.n
	n.mu.Lock()
	guests, aways := len(n.guests), 0
	for _, r := range n.records {
		if r.away != nil {
			aways++
		}
	}
	n.mu.Unlock()
	var caps uint64
	if what, _ := n.closed(); what != "" {
		caps |= capNoGuests
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	milli := func(v float64) uint32 { return uint32(max(v, 0)*100+0.5) * 10 } // hundredths are enough, and shorter
	memory := uint64(16 << 20)                                                // likewise, where there is enough
	if b.snap.MemTotal < 4<<30 {
		memory = 1 << 20
	}
	return gossip.Entry{Node: n.name, LoadMilli: milli(b.meter.Mean(now())), UpperMilli: milli(b.meter.Exported(now())), CPUMilli: milli(b.snap.CPUs),
		SpeedMilli: milli(b.snap.Speed), MemTotal: (b.snap.MemTotal + memory - 1) / memory * memory, MemFree: b.snap.MemFree / memory * memory, Guests: uint32(guests), Away: uint32(aways),
		ReserveMilli: milli(b.meter.Promised(now())), Caps: caps}
}

func (b *balance) capacity() (cpus, speed float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.snap.CPUs, b.snap.Speed
}

func (b *balance) processes() []sampler.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]sampler.Process(nil), b.snap.Processes...)
}

func (b *balance) describe(s *metrics.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Load, s.Mean, s.Upper = b.snap.Load, b.meter.Mean(now()), b.meter.Exported(now())
	s.Capacity, s.MemTotal, s.MemFree, s.Candidates = b.snap.CPUs*b.snap.Speed, b.snap.MemTotal, b.snap.MemFree, len(b.snap.Processes)
}

// unfit says why the balancer leaves a process alone.
func (b *balance) unfit(f eligible.Facts, newly bool) image.Refusals {
	act := eligible.Activity{Period: time.Duration(b.n.conf.Period), Newly: newly}
	for _, p := range b.processes() {
		if p.PID == f.PID && p.Start == f.Stat.Start {
			act.Ready, act.Last = p.Ready, p.ReadyLast
		}
	}
	b.mu.Lock()
	if b.snap.Period > 0 {
		act.Period = b.snap.Period
	}
	b.mu.Unlock()
	return eligible.Unfit(f, act)
}

// view is what the policy sees.
func (b *balance) view() balancer.View {
	n := b.n
	_, closed := n.closed()
	b.mu.Lock()
	v := balancer.View{Costs: b.costs}
	v.Self = balancer.Node{Name: n.name, Unfit: closed, Exported: b.meter.Exported(now()), CPUs: b.snap.CPUs, Speed: b.snap.Speed, MemFree: b.snap.MemFree,
		MemTotal: b.snap.MemTotal, Mean: b.meter.Mean(now()), True: b.meter.True(now()), Now: b.meter.True(now()), Load: b.meter.True(now()),
		MemPromised: b.meter.PromisedBytes(now()), MemFalls: b.falls.rate()}
	keep := b.attempts[:0]
	for _, a := range b.attempts {
		if now()-a.At < 90*time.Second {
			keep = append(keep, a)
		}
	}
	b.attempts = keep
	v.Attempts = append([]balancer.Attempt(nil), keep...)
	snap := b.snap
	b.mu.Unlock()
	state := map[id.Node]string{}
	for _, m := range n.peer.Members() {
		state[m.Name] = string(m.State)
	}
	for _, e := range n.peer.View() {
		x := balancer.Node{Name: e.Node, Exported: float64(e.UpperMilli) / 1000, Load: float64(e.LoadMilli) / 1000, Age: e.Age, CPUs: float64(e.CPUMilli) / 1000,
			Speed: float64(e.SpeedMilli) / 1000, MemFree: e.MemFree, MemTotal: e.MemTotal}
		if s := state[e.Node]; s != api.NodeAlive {
			x.Unfit = s
		} else if e.Caps&capNoGuests != 0 {
			x.Unfit = "it takes no guests"
		}
		v.Nodes = append(v.Nodes, x)
	}
	for _, p := range snap.Processes {
		c := b.candidate(p)
		if c.Process.Home == n.name && c.Unmovable == "" {
			c.Barred, c.Unmovable = n.barred(&v, c.Process, p.Command)
		}
		v.Processes = append(v.Processes, c)
	}
	return v
}

// candidate describes a busy process for the policy.
func (b *balance) candidate(p sampler.Process) balancer.Candidate {
	n := b.n
	c := balancer.Candidate{Process: id.Process{Home: n.name, PID: id.HomePID(p.PID), Start: p.Start}, CPU: p.CPU, Ready: p.Ready,
		ReadyLast: p.ReadyTasks, Bytes: p.RSS, Residency: p.Age}
	n.mu.Lock()
	var guest *tenant
	for _, t := range n.guests {
		if t.g.PID == p.PID {
			guest = t
		}
	}
	r := n.records[c.Process]
	if r != nil {
		for node, at := range r.left {
			c.Left = append(c.Left, balancer.Departure{Node: node, Ago: time.Since(at)})
		}
		c.Written = r.written
		if !r.lastHome.IsZero() {
			c.Residency = time.Since(r.lastHome)
			if c.Residency < talkKept {
				c.Talk = r.talked
			}
		}
		switch {
		case r.moving:
			c.Unmovable = "moving"
		case r.away != nil:
			c.Unmovable = "away"
		case r.pinned:
			c.Unmovable = "it is locked (mosixctl lock)"
		case time.Now().Before(r.lockedUntil):
			c.Unmovable = "it came home for a call, and is locked for a while"
		}
	}
	if n.own.Stay && guest == nil && c.Unmovable == "" {
		c.Unmovable = "this node's processes stay (mosixctl stay)"
	}
	n.mu.Unlock()
	if guest != nil {
		c.Process, c.CPU, c.Residency = guest.g.Process, guest.before+p.CPU, time.Since(guest.came)
		c.Left = append(c.Left, balancer.Departure{Node: guest.g.Process.Home, Ago: c.Residency})
		c.Talk = b.guestTalk(guest, p)
		return c
	}
	if r == nil || r.away == nil {
		talk, why := b.chatter(c.Process, p)
		if why == "" && c.Talk > talkMost {
			why = fmt.Sprintf("away it waited for home %.1f s for each second of computing, %.0f s ago", c.Talk, c.Residency.Seconds())
		}
		if c.Talk = max(c.Talk, talk); c.Unmovable == "" {
			c.Unmovable = why
		}
	}
	if c.Unmovable == "" {
		c.Unmovable = b.eligible(c.Process, p)
	}
	return c
}

// eligible asks whether a process at home may be moved by the balancer; an answer is kept for five seconds.
func (b *balance) eligible(p id.Process, s sampler.Process) string {
	b.mu.Lock()
	v, ok := b.verdicts[p]
	if len(b.verdicts) > 4096 {
		b.verdicts = map[id.Process]verdict{}
	}
	b.mu.Unlock()
	if ok && time.Since(v.at) < 5*time.Second {
		return v.why
	}
	f, err := eligible.Gather(procfs.Default, s.PID, eligible.Options{})
	why := ""
	if err != nil {
		why = err.Error()
	} else if rs := append(eligible.Judge(f, eligible.OwnerOf(f), nil), b.unfit(f, false)...); len(rs) > 0 {
		why = rs[0].Why
	}
	b.mu.Lock()
	b.verdicts[p] = verdict{time.Now(), why}
	b.mu.Unlock()
	return why
}

// decide asks the policy once, and lets what it wants happen.
func (n *Node) decide() {
	b := &n.balance
	b.forgetTalks()
	v := b.view()
	d := b.policy.Decide(v, now(), b.rng)
	n.met.Decided(len(d.Moves) > 0)
	n.log.Debug("decided", "moves", len(d.Moves), "why", d.Why)
	n.decided(v, d)
	for _, m := range d.Moves {
		at := b.note(m)
		n.goes(func() { b.act(n.ctx, m, at) })
	}
	b.bear(v)
	b.pull(v)
}

// random is a source of random numbers for one decision.
func (b *balance) random() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// note takes down that a process is about to leave.
func (b *balance) note(m balancer.Move) (at time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at = now()
	b.attempts = append(b.attempts, balancer.Attempt{Process: m.Process, To: m.To, Ready: m.Offer.Ready, At: at, Outcome: balancer.Pending})
	b.meter.Leaving(m.Process, m.Offer.Ready, at)
	return at
}

// act carries a decision out.
func (b *balance) act(ctx context.Context, m balancer.Move, at time.Duration) (result string) {
	n := b.n
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if len(m.Ask) > 0 {
		to, err := b.consult(ctx, m)
		if err != nil {
			n.log.Debug("nobody takes it", "process", m.Process, "asked", m.Ask, "err", err)
			b.outcome(m, at, api.ResultRefused, 0, 0)
			return api.ResultRefused
		}
		m.To = to
	}
	n.log.Info("the balancer moves", "process", m.Process, "to", m.To, "reason", m.Reason)
	t0 := time.Now()
	var bytes uint64
	if m.Process.Home == n.name {
		f, err := eligible.Gather(procfs.Default, int(m.Process.PID), eligible.Options{})
		if err == nil {
			res := n.carry(ctx, m.Process, order{to: m.To, cause: causeBalancer, asker: eligible.OwnerOf(f), auto: true, relief: m.Offer.Relief, load: m.Offer.Load, ready: m.Offer.Ready})
			result, bytes = res.Result, res.Bytes
			if result != api.ResultMoved {
				n.log.Info("it did not move", "process", m.Process, "to", m.To, "result", result, "refusals", res.Refusals.String(), "err", res.Error)
			}
		}
	} else {
		result = n.passOn(ctx, m)
	}
	b.outcome(m, at, result, bytes, time.Since(t0))
	return result
}

// outcome takes down what came of a move.
func (b *balance) outcome(m balancer.Move, at time.Duration, result string, bytes uint64, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := balancer.Failed
	switch result {
	case api.ResultMoved:
		out = balancer.Moved
		b.meter.Left(m.Process, now())
		if bytes > 0 {
			b.costs.Learn(bytes, took)
		}
	case api.ResultRefused:
		out = balancer.Refused
		b.meter.Stays(m.Process)
	default:
		b.meter.Stays(m.Process)
	}
	for i := range b.attempts {
		if b.attempts[i].At == at && b.attempts[i].Process == m.Process {
			b.attempts[i].Outcome, b.attempts[i].To = out, m.To
		}
	}
}

// accept judges an offer, and reserves the place.
func (b *balance) accept(from id.Node, o ferry.Offer) (bool, string) {
	offer := balancer.Offer{Process: o.Process, From: from, Load: o.Load, CPUs: o.CPUs, Speed: o.Speed, Ready: o.Ready, Bytes: o.Bytes, Explicit: o.Explicit, Relief: o.Relief}
	b.mu.Lock()
	offer.Booked = b.meter.Holds(o.Process, now())
	b.mu.Unlock()
	a := b.book(offer)
	return a.OK, a.Why
}

// book judges an offer, and books a place where it says yes. A place that the process has already is its own.
func (b *balance) book(o balancer.Offer) balancer.Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.meter.Cancel(o.Process)
	const most = 256 // places: whoever asks for more than that has something else in mind
	if b.meter.Pending() >= most {
		return balancer.Answer{Why: fmt.Sprintf("%d processes are on their way to %s already; try again in a moment", most, b.n.name)}
	}
	v := balancer.View{Costs: b.costs}
	v.Self = balancer.Node{Name: b.n.name, Exported: b.meter.Exported(now()), CPUs: b.snap.CPUs, Speed: b.snap.Speed, MemFree: b.snap.MemFree,
		MemTotal: b.snap.MemTotal, Mean: b.meter.Mean(now()), True: b.meter.True(now()), Now: b.meter.True(now()), MemPromised: b.meter.PromisedBytes(now())}
	a := balancer.Accept(v, o, now())
	if a.OK {
		b.meter.Promise(o.Process, o.Ready, o.Bytes, now())
	}
	return a
}

// landed ends a reservation.
func (b *balance) landed(o ferry.Offer, arrived bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if arrived {
		b.meter.Arrived(o.Process, now())
	} else {
		b.meter.Cancel(o.Process)
	}
}

// best finds the node on which a process would do best.
func (b *balance) best(p id.Process) (id.Node, string) {
	v := b.view()
	c := balancer.Candidate{Process: p, ReadyLast: 1}
	for _, x := range v.Processes {
		if x.Process == p {
			c = x
		}
	}
	to, why := balancer.Best(v, c)
	return to.Name, why
}
