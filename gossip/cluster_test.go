package gossip_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"mosix/gossip"
	"mosix/internal/id"
)

// cluster runs machines on one event queue: each ticks once per period, at a random phase of its own and with jitter, and
// messages take a little while.
type cluster struct {
	rng   *rand.Rand
	conf  gossip.Config
	names []id.Node
	nodes map[id.Node]*gossip.Machine
	now   time.Duration
	queue map[time.Duration][]event // a heap would be faster; a batch for each millisecond is enough
	loss  float64
	sent  int
	bytes int
	down  map[id.Node]bool
}

type event struct {
	to   id.Node
	from id.Node // "" for a tick
	msg  gossip.Message
}

const latency = time.Millisecond

func newCluster(n int, seed uint64, conf gossip.Config) *cluster {
	c := &cluster{
		rng: rand.New(rand.NewPCG(seed, 1)), conf: conf, nodes: make(map[id.Node]*gossip.Machine),
		queue: make(map[time.Duration][]event), down: make(map[id.Node]bool),
	}
	for i := range n {
		c.names = append(c.names, id.Node(fmt.Sprintf("n%03d", i)))
	}
	roster := gossip.NewList(c.names...)
	for i, name := range c.names {
		c.nodes[name] = gossip.New(name, roster, rand.New(rand.NewPCG(seed, uint64(i)+2)), conf)
		c.at(time.Duration(c.rng.IntN(1000))*time.Millisecond, event{to: name})
	}
	return c
}

func (c *cluster) at(when time.Duration, e event) { c.queue[when] = append(c.queue[when], e) }

// run goes on until the time end.
func (c *cluster) run(end time.Duration) {
	for ; c.now < end; c.now += time.Millisecond {
		for len(c.queue[c.now]) > 0 {
			batch := c.queue[c.now]
			delete(c.queue, c.now)
			for _, e := range batch {
				c.handle(e)
			}
		}
	}
}

func (c *cluster) handle(e event) {
	if c.down[e.to] {
		return
	}
	m := c.nodes[e.to]
	if e.from == "" {
		m.Update(gossip.Entry{LoadMilli: 1500}, c.now)
		m.Tick(c.now)
		c.at(c.now+time.Duration(950+c.rng.IntN(100))*time.Millisecond, event{to: e.to})
	} else {
		m.Step(e.from, e.msg, c.now)
	}
	c.flush(e.to)
}

func (c *cluster) flush(from id.Node) {
	for _, p := range c.nodes[from].Ready().Send {
		c.sent++
		c.bytes += len(p.Msg.Encode())
		if c.rng.Float64() >= c.loss {
			c.at(c.now+latency, event{to: p.To, from: from, msg: p.Msg})
		}
	}
}

// ages gives, for each node, the ages in seconds of what all others know of it.
func (c *cluster) ages() map[id.Node][]float64 {
	out := make(map[id.Node][]float64)
	for _, name := range c.names {
		for _, e := range c.nodes[name].View(c.now) {
			out[e.Node] = append(out[e.Node], e.Age.Seconds())
		}
	}
	return out
}

func mean(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s / float64(len(v))
}

func maxOf(v []float64) float64 { return slices.Max(v) }
