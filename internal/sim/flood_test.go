package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mosix/balancer"
)

// bareRule is the classic rule (load of the target + 1.3 processes below the own, the second-heaviest process, the least loaded node that
// is known) without what Barak, Shiloh and Wheeler (1989) added to it against floods: the loads are those of the moment, nothing is promised,
// nobody remembers what it has sent, nothing holds a process that has just come, and with Unrefused nobody is asked. The same news then sends
// the processes of many nodes to the same ones, and on.
type bareRule struct{ balancer.Mosix }

func newBareRule() bareRule {
	m := balancer.NewMosix()
	m.CostFactor, m.MinResidency, m.MinReady, m.HeavyShare = 0, 0, 0, 0
	m.ReturnHold, m.ReturnNever, m.ReturnMargin = 0, 0, 0
	return bareRule{m}
}

// Decide does not know what it has sent before.
func (r bareRule) Decide(v balancer.View, now time.Duration, rng *rand.Rand) balancer.Decision {
	v.Attempts = nil
	v.Self.Mean = v.Self.Now
	v.Nodes = slices.Clone(v.Nodes)
	for i := range v.Nodes {
		v.Nodes[i].Exported = v.Nodes[i].Load
	}
	slices.SortFunc(v.Nodes, func(a, b balancer.Node) int {
		return cmp.Or(cmp.Compare(a.Exported, b.Exported), cmp.Compare(a.Name, b.Name))
	})
	v.Nodes = v.Nodes[:min(len(v.Nodes), 1)]
	return r.Mosix.Decide(v, now, rng)
}

// unplaced is a policy by which everything begins at home, as it does on agents.
type unplaced struct {
	balancer.Policy
	balancer.Puller
}

func TestClassicRuleFloodsAndDefaultDoesNot(t *testing.T) {
	c := Config{Nodes: 64, Rho: 0.7, Jobs: 3000, Warmup: 0.15, Seed: 12, Lifetime: Exp(8)}
	play := func(name string, c Config) Result {
		r := run(t, c)
		t.Logf("%-8s %.3f moves of each process, %d at most; slowdown %.3f", name, r.MovesPerProcess, r.MostMoves, r.MeanSlowdown)
		return r
	}
	bare := c
	bare.Policy, bare.Brain, bare.Unrefused = "mosix", newBareRule(), true
	if r := play("classic", bare); r.MovesPerProcess <= 2 {
		t.Errorf("the classic rule without refusal moves each process %.3f times, want a flood of more than 2", r.MovesPerProcess)
	}
	c.Policy = "default"
	home := c
	home.Brain = unplaced{balancer.NewDefault(), balancer.NewDefault()}
	if r := play("default, begun at home", home); r.MovesPerProcess > 1 || r.MostMoves > 8 {
		t.Errorf("the default moves each process %.3f times, one of them %d times, where all begin at home; want 1 and 8 at most", r.MovesPerProcess, r.MostMoves)
	}
	if r := play("default", c); r.MovesPerProcess > 0.35 {
		t.Errorf("the default moves each process %.3f times, want 0.35 at most", r.MovesPerProcess)
	}
}
