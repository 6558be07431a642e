package balancer

import (
	"math/rand/v2"
	"time"
)

// Random goes by the criterion of Default on gossip alone, but to a node that is chosen at random among those on which a process would gain:
// the baseline of Mitzenmacher (2000, section 3) for what the choice of the best is worth when news are old.
type Random struct{ criterion Default }

var _ Policy = Random{}

// NewRandom returns the policy with its usual numbers.
func NewRandom() Random { return Random{NewDefault()} }

// Name implements Policy.
func (Random) Name() string { return "random" }

// Decide implements Policy.
func (p Random) Decide(v View, now time.Duration, rng *rand.Rand) Decision {
	c := p.criterion
	pool, targets, why := c.sides(v, now, rng)
	if len(pool) == 0 {
		return Decision{Why: why}
	}
	rng.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	d := Decision{Why: why}
	for _, t := range targets {
		_, m, no := c.best(v, pool, t, v.Self.Mean, now)
		if no != "" {
			d.Why = no
			continue
		}
		return Decision{Moves: []Move{m}, Why: "one goes at a time"}
	}
	return d
}
