package balancer

import (
	"math/rand/v2"
	"time"
)

// None is the policy that moves nothing by itself.
type None struct{}

var _ Policy = None{}

// Name implements Policy.
func (None) Name() string { return "none" }

// Decide implements Policy.
func (None) Decide(View, time.Duration, *rand.Rand) Decision {
	return Decision{Why: "policy none moves nothing by itself"}
}
