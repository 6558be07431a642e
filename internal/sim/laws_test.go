package sim

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// run plays a config, or fails the test.
func run(t *testing.T, c Config) Result {
	t.Helper()
	r, err := Run(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func within(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	off := math.Abs(got/want - 1)
	t.Logf("%s: %.4g, want %.4g (%.2f %% off)", what, got, want, 100*off)
	if !(off <= share) {
		t.Errorf("%s: %.4g, want %.4g within %.0f %%", what, got, want, 100*share)
	}
}

// Without balancing each node is an M/PS queue: its mean slowdown is 1/(1-rho), whatever the lifetimes are.
func TestUnbalanced(t *testing.T) {
	for _, rho := range []float64{0.3, 0.5, 0.7, 0.8} {
		for _, life := range []Dist{Exp(8), Pareto{1.5, 1, 100}} {
			r := run(t, Config{Nodes: 16, Rho: rho, Jobs: 400000, Lifetime: life, Policy: "none", Warmup: 0.15, Seed: 1, Period: time.Hour})
			within(t, life.String(), r.MeanSlowdown, 1/(1-rho), 0.03)
		}
	}
}

// erlangC is the probability that all of n processors are busy, with a work of a processors (Erlang 1917).
func erlangC(n int, a float64) float64 {
	b := 1.0 // Erlang's B, by its recursion
	for k := 1; k <= n; k++ {
		b = a * b / (float64(k) + a*b)
	}
	rho := a / float64(n)
	return b / (1 - rho*(1-b))
}

// Perfectly divisible work is bounded by Erlang's formula.
func TestFluid(t *testing.T) {
	for _, n := range []int{4, 16} {
		for _, rho := range []float64{0.7, 0.9} {
			r := run(t, Config{Nodes: n, Rho: rho, Jobs: 600000, Lifetime: Exp(8), Policy: "fluid", Warmup: 0.15, Seed: 1})
			within(t, "slowdown", r.MeanSlowdown, 1+erlangC(n, rho*float64(n))/(float64(n)*(1-rho)), 0.02)
		}
	}
}

// P equal jobs of 300 s on 16 nodes end as an even split would have it, whose jobs spread again when others have ended.
func TestEqualJobs(t *testing.T) {
	for p, want := range map[int]float64{17: 450, 25: 525, 33: 700, 48: 900} {
		r := run(t, Config{Nodes: 16, Jobs: p, Batch: true, Lifetime: Fixed(300), Policy: "oracle", Seed: 1, Fixed: time.Millisecond, Memory: Fixed(1 << 20), RemoteStart: time.Millisecond})
		within(t, "the last end", r.LastEndSeconds, want, 0.01)
	}
}

// The same seed gives the same result, and another one another.
func TestSeeds(t *testing.T) {
	c := Config{Nodes: 16, Jobs: 3000, Policy: "mosix", Seed: 7}
	a, b := run(t, c), run(t, c)
	if a != b {
		t.Errorf("the same seed gives\n%+v\nand\n%+v", a, b)
	}
	c.Seed = 8
	if b := run(t, c); a.MeanSlowdown == b.MeanSlowdown {
		t.Errorf("another seed gives the same slowdown %v", a.MeanSlowdown)
	}
}

// sizesEnv, set to full, has the laws held to in clusters that take minutes to play, too.
const sizesEnv = "LAWS"

// The age law of what nodes know of one another, where each vector has room for all of them (two peers, the newest half, random phases).
// The formulas are asymptotic: from a thousand nodes on, the rule itself, played without any of our code, has younger entries (direct), and
// that is held to besides.
func TestAges(t *testing.T) {
	sizes := []int{16, 64, 256}
	if os.Getenv(sizesEnv) == "full" {
		sizes = append(sizes, 1024, 4096)
	}
	for _, n := range sizes {
		// Nothing computes: the jobs only make the time pass, one in a period.
		r := run(t, Config{Nodes: n, Vector: n, Rho: 0.01, Lifetime: Fixed(0.01 * float64(n)), Jobs: 100 + 16*4000/n, Warmup: 0.5, Policy: "none", Seed: 3})
		within(t, "mean age", r.GossipAgeMean, 0.5*math.Log(float64(n))+0.05, 0.06)
		within(t, "oldest", r.GossipAgeOldest, 1.5*math.Log(float64(n))-1, 0.08)
		if n >= 256 { // below, delays and the jitter of the periods make as much as that
			mean, oldest := direct(n, 20+2000/n)
			within(t, "mean age, played directly", r.GossipAgeMean, mean, 0.06)
			within(t, "oldest, played directly", r.GossipAgeOldest, oldest, 0.06)
		}
	}
}

// direct plays the rule of spreading alone for some periods after it has settled: each node has a phase, sends the newest half of what it
// knows to two others at once, and hears from these how they are. It returns the ages of what a node knows of others, in periods: their mean, and the
// oldest, on average.
func direct(n, periods int) (mean, oldest float64) {
	const settled = 40
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	known := make([][]float64, n) // when what a node knows of another was news
	for i := range known {
		known[i] = make([]float64, n)
	}
	sorted := make([]float64, n)
	views := 0.0
	for p := range settled + periods {
		for i, mine := range known {
			now := float64(p) + (float64(i)+0.5)/float64(n)
			mine[i] = now
			copy(sorted, mine)
			slices.Sort(sorted)
			for range 2 {
				j := (i + 1 + rng.IntN(n-1)) % n
				theirs := known[j]
				for x, at := range mine {
					if at >= sorted[n/2] {
						theirs[x] = max(theirs[x], at)
					}
				}
				theirs[j], mine[j] = now, now
			}
		}
		if p < settled {
			continue
		}
		for i, mine := range known {
			old, sum := 0.0, 0.0
			for x, at := range mine {
				if x != i {
					sum += float64(p+1) - at
					old = max(old, float64(p+1)-at)
				}
			}
			mean, oldest, views = mean+sum/float64(n-1), oldest+old, views+1
		}
	}
	return mean / views, oldest / views
}
