package balancer_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"mosix/balancer"
)

func TestByName(t *testing.T) {
	for _, name := range balancer.Names() {
		p, err := balancer.ByName(name)
		if err != nil || p.Name() != name {
			t.Errorf("ByName(%q) = %v, %v", name, p, err)
		}
	}
	if !slices.Contains(balancer.Names(), "none") || !slices.Contains(balancer.Names(), "mosix") {
		t.Errorf("Names() = %v, want none and mosix among them", balancer.Names())
	}
	if _, err := balancer.ByName("mosics"); err == nil || !strings.Contains(err.Error(), "mosix") {
		t.Errorf("ByName of a misspelt name = %v, want an error that names the policies", err)
	}
}

func TestCostsLearn(t *testing.T) {
	tests := []struct {
		name      string
		fixed, bw float64 // truth: seconds, bytes per second
		sizes     []uint64
	}{
		{"as assumed", 0.05, 200 << 20, []uint64{4 << 20, 64 << 20}},
		{"slow network", 0.1, 10 << 20, []uint64{4 << 20, 64 << 20, 256 << 20}},
		{"fast", 0.02, 1 << 30, []uint64{4 << 20, 64 << 20, 256 << 20}},
		{"all of one size", 0.3, 50 << 20, []uint64{64 << 20}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := balancer.DefaultCosts()
			for i := range 200 {
				n := tt.sizes[i%len(tt.sizes)]
				c.Learn(n, time.Duration((tt.fixed+float64(n)/tt.bw)*1e9))
			}
			for _, n := range tt.sizes {
				want := tt.fixed + float64(n)/tt.bw
				if got := c.Of(n).Seconds(); math.Abs(got-want) > 0.1*want {
					t.Errorf("cost of %d MiB = %.3f s, want %.3f s", n>>20, got, want)
				}
			}
		})
	}
}

// Measurements that make no sense must not make moving look free, or impossible.
func TestCostsStaySane(t *testing.T) {
	for name, learn := range map[string]func(c *balancer.Costs){
		"nothing took any time":    func(c *balancer.Costs) { c.Learn(1<<30, 1); c.Learn(0, 1) },
		"the larger was faster":    func(c *balancer.Costs) { c.Learn(1<<30, time.Second); c.Learn(1<<10, 9*time.Second) },
		"an hour":                  func(c *balancer.Costs) { c.Learn(1<<20, time.Hour) },
		"negative":                 func(c *balancer.Costs) { c.Learn(1<<20, -time.Hour) },
		"larger than any computer": func(c *balancer.Costs) { c.Learn(math.MaxUint64, time.Second) },
	} {
		c := balancer.DefaultCosts()
		for range 100 {
			learn(&c)
		}
		if small := c.Of(4 << 10); small < 5*time.Millisecond || small > 6*time.Second {
			t.Errorf("%s: a page costs %s, want between 5 ms and 6 s", name, small)
		}
		if large := c.Of(1 << 30); large < 10*time.Millisecond || large > 2000*time.Second {
			t.Errorf("%s: 1 GiB costs %s, want between 10 ms and 2000 s", name, large)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	c := newCluster(balancer.NewMosix(), 1, half(64)...)
	for _, n := range c.nodes {
		for range 4 {
			c.start(n, 0, 1e6)
		}
	}
	c.run(10 * time.Second)
	v := c.view(c.nodes[0], 1)
	b.ReportAllocs()
	for b.Loop() {
		c.policy.Decide(v, c.now, c.rng)
	}
}
