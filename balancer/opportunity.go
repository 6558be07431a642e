package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Opportunity weighs processor and memory by one measure, the opportunity cost of Amir, Awerbuch, Barak, Borgstrom and Keren (2000, section 3):
// a node costs the sum, over its resources, of N to the power of their utilisation, with N nodes; the processor's utilisation is its load by
// the highest load, which is not known and found by doubling. A process goes where it adds least, if that is less than what it takes away here,
// and if what it gains pays for the move, or memory is short here.
type Opportunity struct{ criterion Default }

var _ Policy = Opportunity{}

// NewOpportunity returns the policy with its usual numbers.
func NewOpportunity() Opportunity { return Opportunity{NewDefault()} }

// Name implements Policy.
func (Opportunity) Name() string { return "opportunity" }

// Decide implements Policy.
func (p Opportunity) Decide(v View, now time.Duration, rng *rand.Rand) Decision {
	c := p.criterion
	pool, targets, why := c.sides(v, now, rng)
	if len(pool) == 0 {
		return Decision{Why: why}
	}
	d := Decision{Why: why}
	n, most := float64(len(v.Nodes)+1), highest(v)
	scarce := v.Self.MemTotal > 0 && v.Self.MemFree < short(v.Self)
	best := 0.0
	for _, x := range pool {
		bytes := float64(x.Bytes)
		here := price(n, v.Self.Mean/most) - price(n, (v.Self.Mean-v.Self.Capacity().Of(1))/most) +
			price(n, used(v.Self)) - price(n, used(v.Self)-share(bytes, v.Self))
		for _, t := range targets {
			there := price(n, (t.load+t.Capacity().Of(1))/most) - price(n, t.load/most) +
				price(n, used(t.Node)+share(bytes, t.Node)) - price(n, used(t.Node))
			if here-there <= best {
				if d.Why == "" {
					d.Why = fmt.Sprintf("%s stays: it costs %.2f here and would cost %.2f on %s", x.Process, here, there, t.Name)
				}
				continue
			}
			m, no := c.judge(v, x, t, v.Self.Mean, now)
			if room := noRoom(t.Node, x.Bytes); no != "" && scarce && room == "" {
				m, no = relief(v, x, t), ""
			}
			if no != "" {
				d.Why = no
				continue
			}
			best = here - there
			m.Reason = fmt.Sprintf("it costs %.2f here and %.2f on %s (%d nodes, highest load %.0f); %s", here, there, t.Name, len(v.Nodes)+1, most, m.Reason)
			d.Moves = []Move{m}
		}
	}
	if len(d.Moves) > 0 {
		d.Why = "one goes at a time"
	}
	return d
}

// highest is the least power of two that no known load exceeds, at least 1.
func highest(v View) float64 {
	most := v.Self.Mean
	for _, n := range v.Nodes {
		most = math.Max(most, n.Exported)
	}
	return math.Exp2(math.Max(0, math.Ceil(math.Log2(math.Max(most, 1)))))
}

// price is the cost of a resource of which the share u is in use.
func price(n, u float64) float64 { return math.Pow(n, math.Min(math.Max(u, 0), 8)) }

// used is the share of a node's memory that is in use or promised; 0 where it is not known.
func used(n Node) float64 {
	if n.MemTotal == 0 {
		return 0
	}
	return 1 - float64(n.MemFree-min(n.MemFree, n.MemPromised))/float64(n.MemTotal)
}

func share(bytes float64, n Node) float64 {
	if n.MemTotal == 0 {
		return 0
	}
	return bytes / float64(n.MemTotal)
}
