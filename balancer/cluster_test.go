package balancer_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mosix/balancer"
	"mosix/balancer/load"
	"mosix/internal/id"
)

// A cluster in one event loop: processor sharing under quotas, news of other nodes that are 0 to 3 periods old, measurements
// with noise, and moves that take time and can be refused. It drives the production policy, Accept and load.Meter.
type cluster struct {
	policy balancer.Policy
	rng    *rand.Rand
	noise  float64       // relative error of a measured load, at most
	maxAge time.Duration // of news
	costs  balancer.Costs
	now    time.Duration
	nodes  []*node
	procs  []*proc
	events []event
	moves  []moved
	begun  []moved // offers made
	log    strings.Builder
}

type node struct {
	name     id.Node
	capacity load.Capacity
	memory   uint64
	lag      float64 // true speed / speed that it believes to have
	meter    load.Meter
	ready    float64 // process seconds since the last sample
	sampled  time.Duration
	history  []export
	heard    map[id.Node]export // from answers to offers
	attempts []balancer.Attempt
}

type export struct {
	at   time.Duration
	load float64
	free uint64
}

type proc struct {
	id        id.Process
	at        *node
	work      float64 // CPU seconds that remain, of a standard processor
	cpu       time.Duration
	ready     time.Duration
	readyThen time.Duration // at the last sample of its node
	arrived   time.Duration
	left      []departure
	bytes     uint64
	unmovable string
	frozen    bool
	ended     time.Duration // 0: runs
	started   time.Duration
	visits    []id.Node
}

type departure struct {
	node id.Node
	at   time.Duration
}

type event struct {
	at time.Duration
	do func()
}

type moved struct {
	at       time.Duration
	process  id.Process
	from, to id.Node
}

func newCluster(policy balancer.Policy, seed uint64, capacities ...load.Capacity) *cluster {
	c := &cluster{
		policy: policy, rng: rand.New(rand.NewPCG(seed, 7)), noise: 0.05, maxAge: 3 * time.Second,
		costs: balancer.Costs{Fixed: 100 * time.Millisecond, Bandwidth: 200 << 20},
	}
	for i, cap := range capacities {
		n := &node{name: id.Node(fmt.Sprintf("n%d", i+1)), capacity: cap, memory: 1 << 30, lag: 1, heard: map[id.Node]export{}}
		n.meter.Capacity = cap
		c.nodes = append(c.nodes, n)
		c.at(time.Duration(c.rng.Float64()*float64(time.Second)), func() { c.tick(n) })
	}
	return c
}

func (c *cluster) at(t time.Duration, do func()) { c.events = append(c.events, event{t, do}) }

// start lets a process begin on a node at a time.
func (c *cluster) start(n *node, at time.Duration, cpuSeconds float64) *proc {
	p := &proc{id: id.Process{Home: n.name, PID: id.HomePID(len(c.procs) + 101)}, work: cpuSeconds, bytes: 8 << 20, started: at}
	c.procs = append(c.procs, p)
	c.at(at, func() {
		p.at, p.arrived, p.visits = n, c.now, []id.Node{n.name}
	})
	return p
}

// running lists the processes that compute on a node.
func (c *cluster) running(n *node) []*proc {
	var ps []*proc
	for _, p := range c.procs {
		if p.at == n && p.ended == 0 && !p.frozen {
			ps = append(ps, p)
		}
	}
	return ps
}

// run carries the cluster on until a time, or until the last process has ended.
func (c *cluster) run(until time.Duration) {
	for {
		slices.SortStableFunc(c.events, func(a, b event) int { return int(a.at - b.at) })
		next := until
		if len(c.events) > 0 {
			next = min(next, c.events[0].at)
		}
		var done *proc
		for _, n := range c.nodes {
			ps := c.running(n)
			for _, p := range ps {
				end := c.now + time.Duration(math.Ceil(p.work/rate(n, len(ps))*1e9))
				if end < next {
					next, done = end, p
				}
			}
		}
		c.advance(next)
		switch {
		case done != nil:
			done.ended, done.work = c.now, 0
		case next == until:
			return
		default:
			e := c.events[0]
			c.events = c.events[1:]
			e.do()
		}
	}
}

// rate is the work per second that each of k processes gets.
func rate(n *node, k int) float64 {
	return n.lag * n.capacity.Speed * math.Min(1, n.capacity.CPUs/float64(k))
}

func (c *cluster) advance(to time.Duration) {
	dt := to - c.now
	for _, n := range c.nodes {
		ps := c.running(n)
		n.ready += float64(len(ps)) * dt.Seconds()
		for _, p := range ps {
			p.work -= rate(n, len(ps)) * dt.Seconds()
			p.cpu += time.Duration(rate(n, len(ps)) / n.lag / n.capacity.Speed * float64(dt))
			p.ready += dt
		}
	}
	c.now = to
}

func (c *cluster) free(n *node) uint64 {
	free := n.memory
	for _, p := range c.procs {
		if p.at == n && p.ended == 0 {
			free -= min(free, p.bytes)
		}
	}
	return free
}

// tick is a period of one node: measure, tell, decide.
func (c *cluster) tick(n *node) {
	dt := (c.now - n.sampled).Seconds()
	measured := n.capacity.Of(n.ready/dt) * (1 + c.noise*(2*c.rng.Float64()-1))
	n.meter.Sample(measured, c.now)
	n.ready, n.sampled = 0, c.now
	c.tell(n)

	d := c.policy.Decide(c.view(n, dt), c.now, c.rng)
	if d.Why == "" {
		panic("a decision without a reason")
	}
	for _, m := range d.Moves {
		c.begin(n, m)
	}
	for _, p := range c.procs {
		if p.at == n {
			p.readyThen = p.ready
		}
	}
	c.at(c.now+time.Duration((0.95+0.1*c.rng.Float64())*float64(time.Second)), func() { c.tick(n) })
}

func (c *cluster) tell(n *node) {
	n.history = append(n.history, export{c.now, n.meter.Exported(c.now), c.free(n)})
}

// self is what a node knows of itself.
func (c *cluster) self(n *node) balancer.Node {
	return balancer.Node{
		Name: n.name, Exported: n.meter.Exported(c.now), CPUs: n.capacity.CPUs, Speed: n.capacity.Speed, MemFree: c.free(n),
		MemTotal: n.memory, Mean: n.meter.Mean(c.now), True: n.meter.True(c.now), MemPromised: n.meter.PromisedBytes(c.now),
	}
}

func (c *cluster) view(n *node, dt float64) balancer.View {
	v := balancer.View{Self: c.self(n), Costs: c.costs, Attempts: n.attempts}
	for _, o := range c.nodes {
		if o == n {
			continue
		}
		then := max(0, c.now-time.Duration(c.rng.Float64()*float64(c.maxAge)))
		news := export{at: then, free: o.memory}
		for _, e := range o.history {
			if e.at <= then {
				news.load, news.free = e.load, e.free
			}
		}
		if h, ok := n.heard[o.name]; ok && h.at > news.at {
			news = h
		}
		v.Nodes = append(v.Nodes, balancer.Node{
			Name: o.name, Exported: news.load, Age: c.now - news.at, CPUs: o.capacity.CPUs, Speed: o.capacity.Speed,
			MemFree: news.free, MemTotal: o.memory,
		})
	}
	for _, p := range c.procs {
		if p.at != n || p.ended != 0 || p.frozen {
			continue
		}
		k := balancer.Candidate{
			Process: p.id, CPU: p.cpu, Ready: p.ready, ReadyLast: (p.ready - p.readyThen).Seconds() / dt, Bytes: p.bytes,
			Residency: c.now - p.arrived, Unmovable: p.unmovable,
		}
		for _, l := range p.left {
			k.Left = append(k.Left, balancer.Departure{Node: l.node, Ago: c.now - l.at})
		}
		v.Processes = append(v.Processes, k)
	}
	return v
}

// begin carries a move out: the offer travels, is answered, memory is copied while the process runs, and it crosses.
func (c *cluster) begin(from *node, m balancer.Move) {
	p := c.procs[slices.IndexFunc(c.procs, func(p *proc) bool { return p.id == m.Process })]
	to := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == m.To })]
	if p.at != from || to == from || m.Reason == "" {
		panic(fmt.Sprintf("nonsensical move %+v from %s", m, from.name))
	}
	c.begun = append(c.begun, moved{c.now, p.id, from.name, to.name})
	attempt := len(from.attempts)
	from.attempts = append(from.attempts, balancer.Attempt{Process: p.id, To: to.name, Ready: m.Offer.Ready, At: c.now})
	from.meter.Leaving(p.id, m.Offer.Ready, c.now)
	fmt.Fprintf(&c.log, "%5.1f  %s → %s  %s: %s\n", c.now.Seconds(), from.name, to.name, p.id, m.Reason)

	c.at(c.now+time.Duration((2+18*c.rng.Float64())*1e6), func() {
		a := balancer.Accept(balancer.View{Self: c.self(to)}, m.Offer, c.now)
		from.heard[to.name] = export{c.now, a.Load, a.MemFree}
		if !a.OK {
			fmt.Fprintf(&c.log, "%5.1f  %s refuses %s: %s\n", c.now.Seconds(), to.name, p.id, a.Why)
			from.attempts[attempt].Outcome = balancer.Refused
			from.meter.Stays(p.id)
			return
		}
		to.meter.Promise(p.id, m.Offer.Ready, p.bytes, c.now)
		c.tell(to)
		copied := time.Duration(float64(c.costs.Of(p.bytes)) * (0.5 + c.rng.Float64()))
		c.at(c.now+copied, func() {
			if p.ended != 0 {
				from.attempts[attempt].Outcome = balancer.Failed
				from.meter.Stays(p.id)
				to.meter.Cancel(p.id)
				return
			}
			p.frozen = true
			c.at(c.now+20*time.Millisecond, func() {
				p.frozen, p.at, p.readyThen, p.arrived = false, to, p.ready, c.now
				p.left = append(p.left, departure{from.name, c.now})
				p.visits = append(p.visits, to.name)
				from.meter.Left(p.id, c.now)
				to.meter.Arrived(p.id, c.now)
				from.attempts[attempt].Outcome = balancer.Moved
				c.moves = append(c.moves, moved{c.now, p.id, from.name, to.name})
			})
		})
	})
}

// counts is the number of processes that run on each node.
func (c *cluster) counts() []int {
	var out []int
	for _, n := range c.nodes {
		out = append(out, len(c.running(n)))
	}
	return out
}

// backAndForth lists the processes that were on a node twice.
func (c *cluster) backAndForth() []string {
	var out []string
	for _, p := range c.procs {
		for i, v := range p.visits {
			if slices.Contains(p.visits[:i], v) {
				out = append(out, fmt.Sprintf("%s %v", p.id, p.visits))
				break
			}
		}
	}
	return out
}

func half(n int) []load.Capacity {
	return slices.Repeat([]load.Capacity{{CPUs: 0.5, Speed: 1}}, n)
}
