package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"mosix/balancer"
	"mosix/gossip"
	"mosix/internal/id"
)

// agents gives every node what an agent has: a meter of its load, gossip, and a policy that is asked once per period.
type agents struct{}

func (agents) begin(c *cluster) {
	names := make([]id.Node, len(c.nodes))
	for i, n := range c.nodes {
		names[i] = n.name
	}
	roster := gossip.NewList(names...)
	for i, n := range c.nodes {
		n.rng = rand.New(rand.NewPCG(c.conf.Seed, 1<<32+uint64(i)))
		n.gossip = gossip.New(n.name, roster, n.rng, gossip.Config{Period: c.conf.Period, Vector: c.conf.Vector})
		n.policy, _ = balancer.ByName(c.conf.Policy) // withDefaults has seen that there is one
		n.meter.Capacity = n.capacity
		n.costs = balancer.DefaultCosts()
		c.after(time.Duration(c.rng.Float64()*float64(c.conf.Period)), func() { c.tick(n) })
	}
}

// place lets a job begin at its home.
func (agents) place(c *cluster, j *job) { c.run(j, j.home) }

func (agents) idle(*cluster, *node) {}

// tick is a period of one agent: it measures, tells and decides. Periods of different agents are not in step, nor always as long.
func (c *cluster) tick(n *node) {
	n.advance()
	period := c.now - n.sampled
	if period > 0 {
		n.meter.Sample(n.capacity.Of(n.ready/period.Seconds()), c.now)
	}
	n.ready, n.sampled = 0, c.now
	n.gossip.Update(c.entry(n), c.now)
	n.gossip.Tick(c.now)
	c.send(n)
	c.decide(n, period)
	c.after(time.Duration((0.9+0.2*c.rng.Float64())*float64(c.conf.Period)), func() { c.tick(n) })
}

// entry is what a node says of itself.
func (c *cluster) entry(n *node) gossip.Entry {
	milli := func(v float64) uint32 { return uint32(math.Max(v, 0)*1000 + 0.5) }
	return gossip.Entry{LoadMilli: milli(n.meter.Mean(c.now)), UpperMilli: milli(n.meter.Exported(c.now)), CPUMilli: milli(n.capacity.CPUs),
		SpeedMilli: milli(n.capacity.Speed), MemTotal: c.conf.ram(n.i), MemFree: c.free(n), ReserveMilli: milli(n.meter.Promised(c.now))}
}

func (c *cluster) free(n *node) uint64 { return c.conf.ram(n.i) - min(c.conf.ram(n.i), n.memory) }

// send lets what the gossip of n has to say travel.
func (c *cluster) send(n *node) {
	for _, p := range n.gossip.Ready().Send {
		const each = 16 // of so many messages the bytes of one are counted
		if c.tally.messages++; c.tally.messages%each == 0 {
			c.tally.bytes += each * float64(len(p.Msg.Encode())+carrierBytes)
		}
		if c.conf.Loss > 0 && c.rng.Float64() < c.conf.Loss {
			continue
		}
		to := c.byName[p.To]
		c.message(func() {
			to.gossip.Step(n.name, p.Msg, c.now)
			c.send(to)
		})
	}
}

// carrierBytes is what a message of the gossip costs besides: signature, encryption, and the headers of UDP and IP.
const carrierBytes = 64 + 28 + 28

// self is what a node knows of itself.
func (c *cluster) self(n *node) balancer.Node {
	return balancer.Node{Name: n.name, Exported: n.meter.Exported(c.now), CPUs: n.capacity.CPUs, Speed: n.capacity.Speed, MemFree: c.free(n),
		MemTotal: c.conf.ram(n.i), Mean: n.meter.Mean(c.now), True: n.meter.True(c.now), MemPromised: n.meter.PromisedBytes(c.now)}
}

// view is what the policy of n looks at.
func (c *cluster) view(n *node, period time.Duration) balancer.View {
	keep := n.attempts[:0]
	for _, a := range n.attempts {
		if c.now-a.At < 90*time.Second {
			keep = append(keep, a)
		}
	}
	n.attempts = keep
	v := balancer.View{Self: c.self(n), Costs: n.costs, Attempts: n.attempts}
	for _, e := range n.gossip.View(c.now) {
		v.Nodes = append(v.Nodes, balancer.Node{Name: e.Node, Exported: float64(e.UpperMilli) / 1000, Age: e.Age, CPUs: float64(e.CPUMilli) / 1000,
			Speed: float64(e.SpeedMilli) / 1000, MemFree: e.MemFree, MemTotal: e.MemTotal})
	}
	for _, j := range n.jobs {
		here := c.now - j.arrived
		k := balancer.Candidate{Process: j.id, CPU: time.Duration((j.work - n.remains(j)) * 1e9), Ready: j.waited + here,
			ReadyLast: 1, Bytes: j.bytes, Residency: here}
		if period > 0 {
			k.ReadyLast = math.Min(1, float64(here)/float64(period))
		}
		for _, d := range j.gone {
			k.Left = append(k.Left, balancer.Departure{Node: d.from.name, Ago: c.now - d.at})
		}
		v.Processes = append(v.Processes, k)
	}
	return v
}

func (c *cluster) decide(n *node, period time.Duration) {
	if c.conf.Policy == "none" {
		return
	}
	v := c.view(n, period)
	for _, m := range n.policy.Decide(v, c.now, n.rng).Moves {
		c.offer(n, m)
	}
}

// offer asks a target, and moves the job if it accepts.
func (c *cluster) offer(n *node, m balancer.Move) {
	var j *job
	for _, x := range n.jobs {
		if x.id == m.Process {
			j = x
		}
	}
	to := c.byName[m.To]
	at := c.now
	n.attempts = append(n.attempts, balancer.Attempt{Process: m.Process, To: m.To, Ready: m.Offer.Ready, At: at})
	n.meter.Leaving(j.id, m.Offer.Ready, c.now)
	outcome := func(o balancer.Outcome) {
		for i := range n.attempts {
			if n.attempts[i].At == at && n.attempts[i].Process == m.Process {
				n.attempts[i].Outcome = o
			}
		}
		if o == balancer.Moved {
			n.meter.Left(j.id, c.now)
		} else {
			n.meter.Stays(j.id)
		}
	}
	c.message(func() {
		a := balancer.Accept(balancer.View{Self: c.self(to)}, m.Offer, c.now)
		if a.OK {
			to.meter.Promise(j.id, m.Offer.Ready, j.bytes, c.now)
		}
		c.message(func() {
			switch {
			case !a.OK:
				c.tally.refused++
				outcome(balancer.Refused)
			case j.at != n: // it has ended meanwhile
				to.meter.Cancel(j.id)
				outcome(balancer.Failed)
			default:
				took := c.conf.cost(j.bytes)
				c.move(j, to, func() {
					to.meter.Arrived(j.id, c.now)
					n.costs.Learn(j.bytes, took)
					outcome(balancer.Moved)
				})
			}
		})
	})
}
