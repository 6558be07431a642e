package sim

import (
	"testing"
)

// One cell of the report: the default policy is not far from the better of the two yardsticks that know everything, moves little, and
// is better than the classic rule by far. (docs/balancing.md has the others.)
func TestDefaultIsNearTheYardsticks(t *testing.T) {
	c := Config{Nodes: 64, Rho: 0.8, Jobs: 20000, Warmup: 0.15, Seed: 11}
	play := func(policy string) Result {
		c.Policy = policy
		r := run(t, c)
		t.Logf("%-8s slowdown %.3f, p99 %.2f; %.3f moves and %.3f starts elsewhere of each process, %d at most; %.0f bytes of gossip per second",
			policy, r.MeanSlowdown, r.P99Slowdown, r.MovesPerProcess, r.RemoteStartsPerProcess, r.MostMoves, r.GossipBytesPerNodeSecond)
		return r
	}
	def, classic, best := play("default"), play("mosix"), min(play("jsq").MeanSlowdown, play("oracle").MeanSlowdown)
	if def.MeanSlowdown > 1.03*best {
		t.Errorf("mean slowdown %.3f, want at most 1.03 times %.3f", def.MeanSlowdown, best)
	}
	if classic.MeanSlowdown < 1.5*def.MeanSlowdown {
		t.Errorf("mean slowdown %.3f, %.3f by the classic rule, want it 1.5 times better", def.MeanSlowdown, classic.MeanSlowdown)
	}
	if def.MovesPerProcess > 0.35 {
		t.Errorf("%.3f moves of each process, want 0.35 at most", def.MovesPerProcess)
	}
}
