package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"mosix/balancer"
	"mosix/balancer/load"
	"mosix/gossip"
	"mosix/internal/id"
)

// Kinds of faults.
const (
	Crash = "crash" // nodes end with all that they run and all that began there, and come again
	Cut   = "cut"   // some nodes hear nothing of the others
	Slow  = "slow"  // the links of some nodes are slow
	Skew  = "skew"  // the clocks of the nodes are apart
)

// Fault is something that goes wrong. Of Crash Every is the mean time until it happens to a node, and of the others At is when it begins.
type Fault struct {
	Kind      string
	Every, At time.Duration
	For       time.Duration // how long it lasts; of Skew, how far apart clocks are at most
	Share     float64       // of the nodes, for Cut and Slow
	Factor    float64       // by which a link is slower, for Slow
}

// ParseFaults reads faults that are separated by commas: crash:EVERY:FOR, cut:AT:FOR:SHARE, slow:AT:FOR:SHARE:FACTOR, skew:MOST.
func ParseFaults(s string) ([]Fault, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var out []Fault
	for word := range strings.SplitSeq(s, ",") {
		f, err := parseFault(strings.TrimSpace(word))
		if err != nil {
			return nil, fmt.Errorf("%q: %w: want crash:EVERY:FOR, cut:AT:FOR:SHARE, slow:AT:FOR:SHARE:FACTOR or skew:MOST, such as cut:5m:30s:0.5", word, err)
		}
		out = append(out, f)
	}
	return out, nil
}

func parseFault(s string) (f Fault, err error) {
	part := strings.Split(s, ":")
	f.Kind = part[0]
	want, ok := map[string]int{Crash: 2, Cut: 3, Slow: 4, Skew: 1}[f.Kind]
	if !ok {
		return f, fmt.Errorf("%q is no kind of fault", f.Kind)
	}
	if len(part) != want+1 {
		return f, fmt.Errorf("%d numbers, and %s has %d", len(part)-1, f.Kind, want)
	}
	into := map[string][]any{Crash: {&f.Every, &f.For}, Cut: {&f.At, &f.For, &f.Share}, Slow: {&f.At, &f.For, &f.Share, &f.Factor}, Skew: {&f.For}}
	for i, p := range into[f.Kind] {
		switch p := p.(type) {
		case *time.Duration:
			if *p, err = time.ParseDuration(part[i+1]); err == nil && *p <= 0 {
				err = fmt.Errorf("%s is not after now", part[i+1])
			}
		case *float64:
			if *p, err = strconv.ParseFloat(part[i+1], 64); err == nil && !(*p > 0) {
				err = fmt.Errorf("%s is not above 0", part[i+1])
			}
		}
		if err != nil {
			return f, err
		}
	}
	if f.Share > 1 {
		return f, fmt.Errorf("a share of %g", f.Share)
	}
	return f, nil
}

const (
	detected = 5 * time.Second  // after so long everybody knows that a node is dead, as memberlist finds it out on a network of its own
	lease    = 10 * time.Minute // of a guest that its home does not reach
	unheard  = time.Second      // after so long an answer is not waited for any more
)

// trouble lets what the configuration says go wrong, and owners come and go.
func (c *cluster) trouble() {
	rng := rand.New(rand.NewPCG(c.conf.Seed, 2000)) // of its own: all policies meet the same faults
	for _, f := range c.conf.Faults {
		switch f.Kind {
		case Crash:
			for _, n := range c.nodes {
				c.crashes(n, f, rng)
			}
		case Cut:
			c.sides++
			side, some := c.sides, c.some(f.Share, rng)
			c.during(f, func(on bool) {
				for _, n := range some {
					if n.side = 0; on {
						n.side = side
					}
				}
				if on {
					c.after(lease, func() { c.expire(side) })
				}
			})
		case Slow:
			some := c.some(f.Share, rng)
			c.during(f, func(on bool) {
				for _, n := range some {
					if n.slow = 1; on {
						n.slow = f.Factor
					}
				}
			})
		case Skew:
			for _, n := range c.nodes {
				n.skew = time.Duration(rng.Float64() * float64(f.For))
			}
		}
	}
	if o := c.conf.Owners; o.Away > 0 {
		for _, n := range c.nodes {
			c.ownerComes(n, rng)
		}
	}
}

func exp(mean time.Duration, rng *rand.Rand) time.Duration {
	return time.Duration(rng.ExpFloat64() * float64(mean))
}

func (c *cluster) during(f Fault, do func(on bool)) {
	c.at(f.At, func() { do(true) })
	c.at(f.At+f.For, func() { do(false) })
}

// some draws that share of the nodes, one at least.
func (c *cluster) some(share float64, rng *rand.Rand) []*node {
	all := slices.Clone(c.nodes)
	rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	return all[:max(1, min(len(all), int(share*float64(len(all))+0.5)))]
}

// reach tells whether a and b hear each other.
func (c *cluster) reach(a, b *node) bool { return !a.down && !b.down && a.side == b.side }

// ---- crashes

func (c *cluster) crashes(n *node, f Fault, rng *rand.Rand) {
	c.after(exp(f.Every, rng), func() {
		c.crash(n)
		c.after(f.For, func() {
			n.down, n.dead = false, false
			n.roster.change()
			c.crashes(n, f, rng)
		})
	})
}

// crash ends a node, what it runs, and what began there.
func (c *cluster) crash(n *node) {
	n.down = true
	n.boots++
	for _, o := range c.nodes {
		for _, j := range slices.Clone(o.jobs) {
			if o == n || j.home == n {
				c.halt(j)
				c.lose(j)
			}
		}
		if o != n && len(o.jobs) == 0 && !o.down {
			c.driver.idle(c, o)
		}
	}
	if n.gossip != nil { // what an agent knows is in its memory
		n.gossip = gossip.New(n.name, n.roster, n.rng, c.gossiping())
		n.meter, n.attempts, n.ready = load.Meter{Capacity: n.capacity}, nil, 0
	}
	boots := n.boots
	c.after(detected, func() {
		if n.down && n.boots == boots {
			n.dead = true
			n.roster.change()
		}
	})
}

// orphaned tells whether the home of a job has crashed since it began.
func (j *job) orphaned() bool { return j.home.down || j.home.boots != j.boots }

// lose ends a job that computes nowhere, for nothing.
func (c *cluster) lose(j *job) {
	if j.lost {
		return
	}
	j.lost, j.at = true, nil
	if j.n < c.conf.Jobs {
		c.open--
		c.tally.lost++
	}
}

// expire ends the guests that their homes have not reached for a lease, at the end of which side is cut off still.
func (c *cluster) expire(side int) {
	for _, n := range c.nodes {
		for _, j := range slices.Clone(n.jobs) {
			if (n.side == side) != (j.home.side == side) {
				c.halt(j)
				c.lose(j)
			}
		}
	}
}

// roster is the nodes that membership takes for alive.
type roster struct {
	c     *cluster
	alive []id.Node
}

func (r *roster) change() {
	r.alive = r.alive[:0]
	for _, n := range r.c.nodes {
		if !n.dead {
			r.alive = append(r.alive, n.name)
		}
	}
}

// Len implements gossip.Roster.
func (r *roster) Len() int { return len(r.alive) }

// At implements gossip.Roster.
func (r *roster) At(i int) id.Node { return r.alive[i] }

// Has implements gossip.Roster.
func (r *roster) Has(n id.Node) bool {
	x := r.c.byName[n]
	return x != nil && !x.dead
}

// ---- owners

// Owners come to their machines and leave them again; the zero value has nobody come.
type Owners struct {
	Away time.Duration // for how long nobody is at a machine, on average
	Here time.Duration // and somebody is
}

func (c *cluster) ownerComes(n *node, rng *rand.Rand) {
	c.after(exp(c.conf.Owners.Away, rng), func() {
		n.present = true
		c.after(exp(c.conf.Owners.Here, rng), func() {
			n.present = false
			c.ownerComes(n, rng)
		})
		if !n.down {
			c.expel(n)
		}
	})
}

// expel sends the guests of n home, as agents do, and notes how long that took.
func (c *cluster) expel(n *node) {
	began, open := c.now, 0
	for _, j := range slices.Clone(n.jobs) {
		if j.home == n || n.isLeaving(j.id) {
			continue
		}
		open++
		m := balancer.Move{Process: j.id, To: j.home.name, Offer: balancer.Offer{Process: j.id, From: n.name, Ready: 1, Bytes: j.bytes, Explicit: true}}
		j.home.booked++
		done := c.attempt(n, m)
		c.transfer(j, j.home, func(o balancer.Outcome) {
			if done(o); o != balancer.Moved {
				return
			}
			if open--; open == 0 {
				c.tally.left = append(c.tally.left, (c.now - began).Seconds())
			}
		})
	}
}
