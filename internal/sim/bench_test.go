package sim

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkMinute plays clusters with the default policy; a second of the clock on the wall is so many simulated ones.
func BenchmarkMinute(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n, " nodes"), func(b *testing.B) {
			simulated, began := 0.0, time.Now()
			for b.Loop() {
				r, err := Run(Config{Nodes: n, Jobs: n * 2, Lifetime: Fixed(8), Rho: 0.7, Policy: "default", Seed: 1})
				if err != nil {
					b.Fatal(err)
				}
				simulated += r.SimulatedSeconds
				b.ReportMetric(r.GossipBytesPerNodeSecond, "B/node/s")
			}
			b.ReportMetric(simulated/time.Since(began).Seconds(), "simulated-s/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
