package balancer

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// HBD is the criterion of Harchol-Balter and Downey (1997, section 5) on gossip alone: a process goes to the node that looks best where
// the CPU time that it has used, times what it wins there, exceeds what the move costs.
type HBD struct{ criterion Default }

var _ Policy = HBD{}

// NewHBD returns the policy with its usual numbers.
func NewHBD() HBD { return HBD{NewDefault()} }

// Name implements Policy.
func (HBD) Name() string { return "hbd" }

// Decide implements Policy.
func (p HBD) Decide(v View, now time.Duration, rng *rand.Rand) Decision {
	d := p.criterion.processors(v, now, rng)
	for i := range d.Moves {
		d.Moves[i].Ask = nil
	}
	if len(d.Moves) > 1 {
		d.Why = fmt.Sprintf("%d go, each to another node", len(d.Moves))
	}
	return d
}
