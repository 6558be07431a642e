package gossip_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mosix/gossip"
	"mosix/internal/id"
)

// The age law of balancing.md, with random phases: mean 0.5 ln n + 0.05 periods, expected oldest 1.5 ln n - 1.0. The bands are
// wide: the law is an approximation, and a wrong choice of peers or entries misses it by far.
func TestAgeLaw(t *testing.T) {
	for _, n := range []int{16, 64, 192} {
		c := newCluster(n, 1, gossip.Config{Vector: n})
		c.run(25 * time.Second)
		var means, oldest []float64
		for range 20 {
			c.run(c.now + 777*time.Millisecond)
			var all []float64
			for _, name := range c.names {
				var mine []float64
				for _, e := range c.nodes[name].View(c.now) {
					mine = append(mine, e.Age.Seconds())
				}
				if len(mine) != n-1 {
					t.Fatalf("%s knows %d of %d others", name, len(mine), n-1)
				}
				all = append(all, mine...)
				oldest = append(oldest, maxOf(mine))
			}
			means = append(means, mean(all))
		}
		ln := math.Log(float64(n))
		wantMean, wantMax := 0.5*ln+0.05, 1.5*ln-1.0
		gotMean, gotMax := mean(means), mean(oldest)
		t.Logf("n=%d: mean age %.2f (law %.2f), oldest %.2f (law %.2f)", n, gotMean, wantMean, gotMax, wantMax)
		if math.Abs(gotMean-wantMean) > 0.15*wantMean+0.1 {
			t.Errorf("n=%d: mean age %.2f periods, the law says %.2f", n, gotMean, wantMean)
		}
		if math.Abs(gotMax-wantMax) > 0.25*wantMax+0.2 {
			t.Errorf("n=%d: oldest entry %.2f periods, the law says %.2f", n, gotMax, wantMax)
		}
	}
}

// With a bounded vector the ages of what is known hardly depend on the size of the cluster, nor does the traffic.
func TestBoundedVector(t *testing.T) {
	var meanAge, bytesPerSecond []float64
	for _, n := range []int{100, 400} {
		c := newCluster(n, 2, gossip.Config{Vector: 32})
		c.run(15 * time.Second)
		sent := c.bytes
		c.run(25 * time.Second)
		var all []float64
		for _, v := range c.ages() {
			all = append(all, v...)
		}
		if len(all) != n*31 {
			t.Errorf("n=%d: %d entries in all vectors, want %d", n, len(all), n*31)
		}
		meanAge = append(meanAge, mean(all))
		bytesPerSecond = append(bytesPerSecond, float64(c.bytes-sent)/float64(n)/10)
	}
	t.Logf("mean ages %.2f, bytes per node and second %.0f", meanAge, bytesPerSecond)
	if d := math.Abs(meanAge[1] - meanAge[0]); d > 0.25 {
		t.Errorf("mean age %.2f at 100 nodes, %.2f at 400", meanAge[0], meanAge[1])
	}
	if math.Abs(bytesPerSecond[1]-bytesPerSecond[0]) > 0.1*bytesPerSecond[0] {
		t.Errorf("traffic per node grows with the cluster: %.0f, %.0f bytes per second", bytesPerSecond[0], bytesPerSecond[1])
	}
}

// The goal of balancing.md: under 2 KiB/s per node at the default settings.
func TestTrafficOfDefaults(t *testing.T) {
	c := newCluster(200, 3, gossip.Config{})
	c.run(15 * time.Second)
	sent := c.bytes
	c.run(25 * time.Second)
	if got := float64(c.bytes-sent) / 200 / 10; got > 2048 {
		t.Errorf("%.0f bytes per node and second", got)
	}
}

// No node is starved by its name: what others know of the last third is as fresh, and as often there, as of the first.
func TestFairAmongNames(t *testing.T) {
	const n = 96
	c := newCluster(n, 4, gossip.Config{Vector: 32})
	c.run(20 * time.Second)
	sums, counts := [3]float64{}, [3]int{}
	for range 30 {
		c.run(c.now + 1300*time.Millisecond)
		ages := c.ages()
		for i, name := range c.names {
			for _, a := range ages[name] {
				sums[i*3/n] += a
				counts[i*3/n]++
			}
		}
	}
	for i := range 3 {
		if r := float64(counts[i]) / float64(counts[0]); r < 0.93 || r > 1.07 {
			t.Errorf("third %d of the names is known %d times, the first %d times", i+1, counts[i], counts[0])
		}
		a, first := sums[i]/float64(counts[i]), sums[0]/float64(counts[0])
		if math.Abs(a-first) > 0.07*first {
			t.Errorf("third %d of the names: mean age %.3f, the first %.3f", i+1, a, first)
		}
	}
}

// Equally old entries are the hard case for fairness: everybody ticks at the same moment and nothing takes time.
func TestFairAmongNamesInStep(t *testing.T) {
	const n = 90
	c := newCluster(n, 5, gossip.Config{Vector: 16})
	nodes, names := c.nodes, c.names
	known := make(map[id.Node]int)
	for round := range 120 {
		now := time.Duration(round) * time.Second
		for _, name := range names {
			nodes[name].Update(gossip.Entry{}, now)
		}
		for _, name := range names {
			nodes[name].Tick(now)
		}
		for busy := true; busy; {
			busy = false
			for _, name := range names {
				for _, p := range nodes[name].Ready().Send {
					nodes[p.To].Step(name, p.Msg, now)
					busy = true
				}
			}
		}
		if round < 20 {
			continue
		}
		for _, name := range names {
			for _, e := range nodes[name].View(now) {
				known[e.Node]++
			}
		}
	}
	var third [3]int
	for i, name := range names {
		third[i*3/n] += known[name]
	}
	for i := range third {
		if r := float64(third[i]) / float64(third[0]); r < 0.93 || r > 1.07 {
			t.Errorf("third %d of the names is known %d times, the first %d times", i+1, third[i], third[0])
		}
	}
}

// Lost messages make entries older, not wrong, and dead nodes are forgotten.
func TestLossAndDeath(t *testing.T) {
	c := newCluster(40, 6, gossip.Config{Forget: 20})
	c.loss = 0.3
	c.run(30 * time.Second)
	for name, v := range c.ages() {
		if len(v) < 30 || mean(v) > 7 {
			t.Errorf("with 30 %% loss %s is known to %d others, mean age %.1f s", name, len(v), mean(v))
		}
	}
	c.down["n007"] = true
	c.run(c.now + 25*time.Second)
	if v := c.ages()["n007"]; len(v) != 0 {
		t.Errorf("%d nodes still list a node that fell silent 25 s ago, with Forget at 20", len(v))
	}
}

func TestIdleNewsIsUrgent(t *testing.T) {
	c := newCluster(100, 7, gossip.Config{})
	m := c.nodes["n000"]
	load := func(milli uint32, now time.Duration) int {
		m.Update(gossip.Entry{LoadMilli: milli}, now)
		urgent := map[id.Node]bool{}
		for _, p := range m.Ready().Send {
			if p.Msg.Kind != gossip.KindUrgent || len(p.Msg.Entries) != 1 || p.Msg.Entries[0].LoadMilli != milli || p.To == "n000" {
				t.Errorf("sent %+v", p)
			}
			urgent[p.To] = true
		}
		return len(urgent)
	}
	for i, step := range []struct {
		at    time.Duration
		milli uint32
		told  int
	}{
		{0, 0, 0},                          // was never busy
		{1 * time.Second, 1000, 0},         // busy
		{1500 * time.Millisecond, 700, 0},  // less, but not idle
		{1600 * time.Millisecond, 100, 16}, // idle: tell
		{1700 * time.Millisecond, 100, 0},  // still idle: no news
		{1800 * time.Millisecond, 2000, 0}, // busy again
		{1900 * time.Millisecond, 0, 0},    // idle again within the period: not again so soon
		{2700 * time.Millisecond, 0, 16},   // but then
	} {
		if got := load(step.milli, step.at); got != step.told {
			t.Errorf("step %d, load %d: told %d nodes, want %d", i, step.milli, got, step.told)
		}
	}
}

// Whatever arrives, in whatever order: the vector stays bounded, has one entry for each node of the roster at most, never
// the node itself, and what is known of a node never grows older than time makes it.
func TestMergeProperties(t *testing.T) {
	names := []id.Node{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	rapid.Check(t, func(t *rapid.T) {
		const vector = 6
		roster := gossip.NewList(names...)
		m := gossip.New("a", roster, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), gossip.Config{Vector: vector})
		now := time.Duration(0)
		steps := rapid.IntRange(1, 40).Draw(t, "steps")
		for range steps {
			now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond
			before := make(map[id.Node]time.Duration)
			for _, e := range m.View(now) {
				before[e.Node] = e.Age
			}
			var msg gossip.Message
			msg.Kind = gossip.Kind(rapid.IntRange(1, 3).Draw(t, "kind"))
			for range rapid.IntRange(0, 8).Draw(t, "entries") {
				msg.Entries = append(msg.Entries, gossip.Entry{
					Node: rapid.SampledFrom(append([]id.Node{"stranger"}, names...)).Draw(t, "node"),
					Age:  time.Duration(rapid.IntRange(-1000, 200_000).Draw(t, "age")) * time.Millisecond,
				})
			}
			m.Update(gossip.Entry{}, now)
			m.Step(rapid.SampledFrom(names).Draw(t, "from"), msg, now)
			if rapid.Bool().Draw(t, "tick") {
				m.Tick(now)
			}
			seen := make(map[id.Node]bool)
			view := m.View(now)
			for i, e := range view {
				if seen[e.Node] || e.Node == "a" || !roster.Has(e.Node) || e.Age < 0 {
					t.Fatalf("view %+v", view)
				}
				if i > 0 && view[i-1].Age > e.Age {
					t.Fatalf("view is not ordered: %+v", view)
				}
				seen[e.Node] = true
				if old, ok := before[e.Node]; ok && e.Age > old {
					t.Fatalf("%s grew older by a message: %v, then %v", e.Node, old, e.Age)
				}
			}
			if len(view) > vector-1 {
				t.Fatalf("%d entries in a vector of %d", len(view), vector)
			}
			for _, p := range m.Ready().Send {
				if p.To == "a" || len(p.Msg.Entries) == 0 || p.Msg.Entries[0].Node != "a" || len(p.Msg.Entries) > vector/2 {
					t.Fatalf("sent %+v", p)
				}
			}
		}
	})
}

func TestSameSeedSameMessages(t *testing.T) {
	run := func() (sent, bytes int, ages map[id.Node][]float64) {
		c := newCluster(50, 9, gossip.Config{Vector: 16})
		c.loss = 0.1
		c.run(10 * time.Second)
		return c.sent, c.bytes, c.ages()
	}
	s1, b1, a1 := run()
	s2, b2, a2 := run()
	if s1 != s2 || b1 != b2 || !reflect.DeepEqual(a1, a2) {
		t.Errorf("two runs with one seed differ: %d and %d messages, %d and %d bytes", s1, s2, b1, b2)
	}
}
