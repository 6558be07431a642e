package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"mosix/balancer"
	"mosix/balancer/load"
	"mosix/gossip"
	"mosix/internal/id"
)

// agents gives every node what an agent has: a meter of its load, gossip, and a policy that is asked once per period.
type agents struct{}

func (agents) begin(c *cluster) {
	for i, n := range c.nodes {
		n.rng = rand.New(rand.NewPCG(c.conf.Seed, 1<<32+uint64(i)))
		n.gossip = gossip.New(n.name, n.roster, n.rng, c.gossiping())
		if n.policy = c.conf.Brain; n.policy == nil {
			n.policy, _ = balancer.ByName(c.conf.Policy) // withDefaults has seen that there is one
		}
		n.meter.Capacity = n.capacity
		n.costs = balancer.DefaultCosts()
		c.after(time.Duration(c.rng.Float64()*float64(c.conf.Period)), func() { c.tick(n) })
	}
}

func (c *cluster) gossiping() gossip.Config {
	return gossip.Config{Period: c.conf.Period, Vector: c.conf.Vector}
}

// place lets a job begin where the policy of its home wants it.
func (agents) place(c *cluster, j *job) {
	if p, ok := j.home.policy.(balancer.Placer); ok && !c.conf.AtHome {
		c.place(j, p, nil)
		return
	}
	c.run(j, j.home)
}

// place asks p until it is done with j.
func (c *cluster) place(j *job, p balancer.Placer, told []balancer.Told) {
	n := j.home
	if j.orphaned() {
		c.giveUp(j.id, told, "")
		c.lose(j)
		return
	}
	b := balancer.Birth{Life: time.Duration(n.history.mean() * 1e9), Bytes: j.bytes, Cost: c.conf.RemoteStart}
	v := balancer.View{Self: c.self(n), Nodes: c.others(n), Costs: n.costs, Attempts: n.attempts}
	d := p.Place(v, b, told, n.clock(), n.rng)
	if !d.Done {
		one := n.capacity.Of(1)
		o := balancer.Offer{Process: j.id, From: n.name, Load: v.Self.Now + one, CPUs: n.capacity.CPUs, Speed: n.capacity.Speed, Ready: 1, Bytes: j.bytes, Birth: true}
		c.ask(n, d.Ask, o, func(more []balancer.Told) { c.place(j, p, append(told, more...)) })
		return
	}
	c.giveUp(j.id, told, d.To)
	if d.To == "" {
		c.run(j, n)
		return
	}
	to := c.byName[d.To]
	c.startAt(j, to, func() { c.landed(to, j) })
}

// giveUp gives back the places that were booked for a process, but for the one at to.
func (c *cluster) giveUp(p id.Process, told []balancer.Told, to id.Node) {
	for _, x := range told {
		if x.Answer.OK && x.Node != to {
			c.cancel(c.byName[x.Node], p)
		}
	}
}

// ask lets the nodes names judge an offer of from; each that accepts has booked a place. then is called when all have answered.
func (c *cluster) ask(from *node, names []id.Node, o balancer.Offer, then func([]balancer.Told)) {
	var told []balancer.Told
	answer := func(name id.Node, a balancer.Answer) {
		if told = append(told, balancer.Told{Node: name, Answer: a}); len(told) == len(names) {
			then(told)
		}
	}
	for _, name := range names {
		to := c.byName[name]
		silent := func() { answer(name, balancer.Answer{Why: "no answer"}) }
		c.message(from, to, func() {
			a := balancer.Accept(balancer.View{Self: c.self(to)}, o, to.clock())
			switch {
			case c.conf.Unrefused: // nor is it asked, so it cannot count what is on its way
				a.OK = true
				to.booked++
			case a.OK:
				to.booked++
				to.meter.Promise(o.Process, o.Ready, o.Bytes, to.clock())
			default:
				c.tally.refused++
			}
			c.message(to, from, func() { answer(name, a) }, func() {
				if a.OK { // nobody comes for the place
					c.after(load.Hold, func() { to.free(o.Process) })
				}
				silent()
			})
		}, silent)
	}
}

// cancel gives a booked place up.
func (c *cluster) cancel(to *node, p id.Process) { c.after(c.delay(to, to), func() { to.free(p) }) }

// free drops a booking.
func (n *node) free(p id.Process) {
	n.booked--
	n.meter.Cancel(p)
}

func (c *cluster) landed(to *node, j *job) {
	to.booked--
	to.meter.Arrived(j.id, to.clock())
}

// idle tells others at once.
func (agents) idle(c *cluster, n *node) {
	n.gossip.Update(c.entry(n), n.clock())
	c.send(n)
}

// pull asks for work, if the policy wants any, and takes the offer that gains most.
func (c *cluster) pull(n *node, v balancer.View) {
	p, ok := n.policy.(balancer.Puller)
	if !ok || n.pulling {
		return
	}
	ask := p.Pull(v, n.clock(), n.rng)
	var offers []balancer.Move
	answers := 0
	for _, name := range ask {
		n.pulling = true
		from := c.byName[name]
		self := c.self(n)
		answered := func() {
			if answers++; answers == len(ask) {
				n.pulling = false
				c.take(n, offers)
			}
		}
		c.message(n, from, func() {
			m, no := p.Give(c.view(from, c.conf.Period), self, from.clock(), from.rng)
			c.message(from, n, func() {
				if no == "" {
					offers = append(offers, m)
				}
				answered()
			}, answered)
		}, answered)
	}
}

// take lets the best of what was offered to an idle node come.
func (c *cluster) take(n *node, offers []balancer.Move) {
	if len(n.jobs)+n.booked > 0 || len(offers) == 0 {
		return
	}
	best := offers[0]
	for _, m := range offers[1:] {
		if m.Gain > best.Gain {
			best = m
		}
	}
	n.booked++
	n.meter.Promise(best.Process, best.Offer.Ready, best.Offer.Bytes, n.clock())
	from := c.byName[best.Offer.From]
	c.message(n, from, func() {
		for _, j := range from.jobs {
			if j.id == best.Process && !from.isLeaving(j.id) {
				done := c.attempt(from, best)
				c.transfer(j, n, done)
				return
			}
		}
		n.free(best.Process)
	}, func() { n.free(best.Process) })
}

func (n *node) isLeaving(p id.Process) bool {
	for _, a := range n.attempts {
		if a.Process == p && a.Outcome == balancer.Pending {
			return true
		}
	}
	return false
}

// tick is a period of one agent: it measures, tells and decides. Periods of different agents are not in step, nor always as long.
func (c *cluster) tick(n *node) {
	if !n.down {
		c.period(n)
	}
	c.after(time.Duration((0.95+0.1*c.rng.Float64())*float64(c.conf.Period)), func() { c.tick(n) })
}

func (c *cluster) period(n *node) {
	n.advance()
	period := c.now - n.sampled
	if period > 0 {
		n.meter.Sample(n.capacity.Of(n.ready/period.Seconds()), n.clock())
	}
	n.ready, n.sampled = 0, c.now
	n.gossip.Update(c.entry(n), n.clock())
	n.gossip.Tick(n.clock())
	c.send(n)
	if c.conf.Policy != "none" {
		v := c.view(n, period)
		for _, m := range n.policy.Decide(v, n.clock(), n.rng).Moves {
			c.offer(n, m)
		}
		c.pull(n, v)
	}
}

// entry is what a node says of itself.
func (c *cluster) entry(n *node) gossip.Entry {
	milli := func(v float64) uint32 { return uint32(math.Max(v, 0)*100+0.5) * 10 } // as agents do
	const memory = 16 << 20
	var caps uint64
	if n.present {
		caps = noGuests
	}
	return gossip.Entry{Caps: caps, LoadMilli: milli(math.Min(n.meter.Mean(n.clock()), n.atPresent())), UpperMilli: milli(n.meter.Exported(n.clock())), CPUMilli: milli(n.capacity.CPUs),
		SpeedMilli: milli(n.capacity.Speed), MemTotal: c.conf.ram(n.i), MemFree: c.free(n) / memory * memory, ReserveMilli: milli(n.meter.Promised(n.clock()))}
}

// noGuests is set in the entry of a node that takes none, as agents have it.
const noGuests = 1

// atPresent is the load at this moment, with what is booked.
func (n *node) atPresent() float64 { return n.capacity.Of(float64(len(n.jobs) + n.booked)) }

func (c *cluster) free(n *node) uint64 { return c.conf.ram(n.i) - min(c.conf.ram(n.i), n.memory) }

// send lets what the gossip of n has to say travel.
func (c *cluster) send(n *node) {
	for _, p := range n.gossip.Ready().Send {
		const each = 16 // of so many messages the bytes of one, drawn at random, are counted
		if c.tally.rng.IntN(each) == 0 {
			c.tally.bytes += each * float64(len(p.Msg.Encode())+carrierBytes)
		}
		if c.conf.Loss > 0 && c.rng.Float64() < c.conf.Loss {
			continue
		}
		to := c.byName[p.To]
		c.message(n, to, func() {
			if p.Msg.Kind == gossip.KindPush {
				to.gossip.Update(c.entry(to), to.clock())
			}
			to.gossip.Step(n.name, p.Msg, to.clock())
			c.send(to)
		}, nil)
	}
}

// carrierBytes is what a message of the gossip costs besides: signature, encryption, and the headers of UDP and IP.
const carrierBytes = 64 + 28 + 28

// self is what a node knows of itself.
func (c *cluster) self(n *node) balancer.Node {
	unfit := ""
	if n.present {
		unfit = "its owner is there"
	}
	return balancer.Node{Name: n.name, Unfit: unfit, Exported: n.meter.Exported(n.clock()), CPUs: n.capacity.CPUs, Speed: n.capacity.Speed, MemFree: c.free(n),
		MemTotal: c.conf.ram(n.i), Mean: n.meter.Mean(n.clock()), True: n.meter.True(n.clock()), Now: n.atPresent(), Load: n.atPresent(), MemPromised: n.meter.PromisedBytes(n.clock())}
}

// view is what the policy of n looks at.
func (c *cluster) view(n *node, period time.Duration) balancer.View {
	keep := n.attempts[:0]
	for _, a := range n.attempts {
		if n.clock()-a.At < 90*time.Second {
			keep = append(keep, a)
		}
	}
	n.attempts = keep
	v := balancer.View{Self: c.self(n), Nodes: c.others(n), Costs: n.costs, Attempts: n.attempts}
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

// others is what n knows of the other nodes.
// It is good until the next call: policies keep nothing of what they look at.
func (c *cluster) others(n *node) []balancer.Node {
	c.entries = n.gossip.AppendView(c.entries[:0], n.clock())
	out := c.known[:0]
	for i := range c.entries {
		e := &c.entries[i]
		unfit := ""
		switch {
		case e.Caps&noGuests != 0:
			unfit = "it takes no guests"
		case len(c.conf.Faults) > 0 && c.byName[e.Node].dead:
			unfit = "dead"
		}
		out = append(out, balancer.Node{Name: e.Node, Unfit: unfit, Exported: float64(e.UpperMilli) / 1000, Load: float64(e.LoadMilli) / 1000, Age: e.Age,
			CPUs: float64(e.CPUMilli) / 1000, Speed: float64(e.SpeedMilli) / 1000, MemFree: e.MemFree, MemTotal: e.MemTotal})
	}
	c.known = out
	return out
}

// offer asks those whom the policy names, and moves the job to the best that accepts.
func (c *cluster) offer(n *node, m balancer.Move) {
	ask := m.Ask
	if len(ask) == 0 {
		ask = []id.Node{m.To}
	}
	done := c.attempt(n, m)
	c.ask(n, ask, m.Offer, func(told []balancer.Told) {
		best := balancer.Choose(told)
		var j *job
		for _, x := range n.jobs {
			if x.id == m.Process {
				j = x
			}
		}
		keep := id.Node("")
		if best >= 0 && j != nil {
			keep = told[best].Node
		}
		c.giveUp(m.Process, told, keep)
		switch {
		case best < 0:
			done(balancer.Refused)
		case j == nil: // it has ended meanwhile
			done(balancer.Failed)
		default:
			c.transfer(j, c.byName[told[best].Node], done)
		}
	})
}

// attempt enters into n's books that a process is about to leave; done enters what became of it.
func (c *cluster) attempt(n *node, m balancer.Move) (done func(balancer.Outcome)) {
	at := n.clock()
	n.attempts = append(n.attempts, balancer.Attempt{Process: m.Process, To: m.To, Ready: m.Offer.Ready, At: at})
	n.meter.Leaving(m.Process, m.Offer.Ready, at)
	return func(o balancer.Outcome) {
		for i := range n.attempts {
			if n.attempts[i].At == at && n.attempts[i].Process == m.Process {
				n.attempts[i].Outcome = o
			}
		}
		if o == balancer.Moved {
			n.meter.Left(m.Process, n.clock())
		} else {
			n.meter.Stays(m.Process)
		}
	}
}

// transfer moves a job to a node that has booked a place for it.
func (c *cluster) transfer(j *job, to *node, done func(balancer.Outcome)) {
	from, took := j.at, c.cost(j.at, to, j.bytes)
	c.move(j, to, func(arrived bool) {
		if !arrived {
			to.free(j.id)
			done(balancer.Failed)
			return
		}
		c.landed(to, j)
		from.costs.Learn(j.bytes, took)
		done(balancer.Moved)
	})
}

// history is the work of past processes that had a node as their home.
type history struct {
	n   float64
	sum float64
}

// mean is the work that is expected of the next: a second where nothing is known.
func (h *history) mean() float64 { return (1 + h.sum) / (1 + h.n) }
