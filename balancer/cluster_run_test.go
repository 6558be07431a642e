package balancer_test

import (
	"slices"
	"testing"
	"time"

	"mosix/balancer"
	"mosix/balancer/load"
)

const seeds = 200

// Nine equal processes of 10 CPU seconds on one of three nodes of half a processor: an even split takes 60 s.
func TestNineOnThreeHalfNodes(t *testing.T) {
	tests := []struct {
		name  string
		noise float64
		apart float64 // how far the true speeds of the nodes are from what they say, at most
		costs balancer.Costs
		even  bool // the spread after 10 s must be 3, 3, 3
	}{
		{"as it should be", 0.05, 0, balancer.Costs{Fixed: 100 * time.Millisecond, Bandwidth: 200 << 20}, true},
		{"rough measurements", 0.2, 0, balancer.Costs{Fixed: 50 * time.Millisecond, Bandwidth: 200 << 20}, false},
		{"uneven speeds", 0.1, 0.1, balancer.Costs{Fixed: 100 * time.Millisecond, Bandwidth: 200 << 20}, false},
		{"slow moves", 0.05, 0.02, balancer.Costs{Fixed: 400 * time.Millisecond, Bandwidth: 50 << 20}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var worst, sum float64
			most := 0
			for seed := range uint64(seeds) {
				c := newCluster(balancer.NewMosix(), seed, half(3)...)
				c.noise, c.costs = tt.noise, tt.costs
				for _, n := range c.nodes {
					n.lag = 1 - tt.apart*c.rng.Float64()
				}
				for i := range 9 {
					c.start(c.nodes[0], time.Duration(i)*50*time.Millisecond, 10)
				}
				c.run(10 * time.Second)
				if got := c.counts(); tt.even && (!slices.Equal(got, []int{3, 3, 3}) || len(c.moves) != 6) {
					t.Errorf("seed %d: after 10 s and %d moves %v run on the nodes, want 3 on each after 6\n%s", seed, len(c.moves), got, c.log.String())
				}
				c.run(200 * time.Second)
				mean := 0.0
				for _, p := range c.procs {
					if p.ended == 0 {
						t.Fatalf("seed %d: %s has not ended after 200 s", seed, p.id)
					}
					mean += (p.ended - p.started).Seconds() / 9
				}
				if mean > 1.3*60 {
					t.Errorf("seed %d: mean completion %.1f s, want at most 78 s\n%s", seed, mean, c.log.String())
				}
				if len(c.moves) > 12 {
					t.Errorf("seed %d: %d moves, want at most 12\n%s", seed, len(c.moves), c.log.String())
				}
				if b := c.backAndForth(); len(b) > 0 {
					t.Errorf("seed %d: back and forth: %v\n%s", seed, b, c.log.String())
				}
				worst, sum, most = max(worst, mean), sum+mean, max(most, len(c.moves))
			}
			t.Logf("mean completion %.1f s, worst of %d seeds %.1f s; at most %d moves", sum/seeds, seeds, worst, most)
		})
	}
}

func TestNoNeedNoMove(t *testing.T) {
	tests := []struct {
		name  string
		nodes []load.Capacity
		procs []int // on each node
	}{
		{"idle", half(4), []int{0, 0, 0, 0}},
		{"one process", half(4), []int{1, 0, 0, 0}},
		{"one on each", half(4), []int{1, 1, 1, 1}},
		{"equal load", half(4), []int{4, 4, 4, 4}},
		{"one more here", half(4), []int{4, 3, 3, 3}},
		{"in proportion to capacity", []load.Capacity{{CPUs: 4, Speed: 1}, {CPUs: 1, Speed: 2}, {CPUs: 1, Speed: 1}}, []int{8, 4, 2}},
		{"a processor for each", []load.Capacity{{CPUs: 4, Speed: 1}, {CPUs: 16, Speed: 1}}, []int{4, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(seeds / 4) {
				c := newCluster(balancer.NewMosix(), seed, tt.nodes...)
				for i, k := range tt.procs {
					for range k {
						c.start(c.nodes[i], 0, 1e6)
					}
				}
				c.run(60 * time.Second)
				if len(c.moves) != 0 {
					t.Fatalf("seed %d: %d moves\n%s", seed, len(c.moves), c.log.String())
				}
			}
		})
	}
}

// Work that never ends spreads in proportion to capacity and then stays where it is.
func TestSpreads(t *testing.T) {
	tests := []struct {
		name  string
		nodes []load.Capacity
		procs []int
		least []int // at the end, on each node
	}{
		{"equal nodes", half(3), []int{12, 0, 0}, []int{3, 3, 3}},
		{"a fast node and a slow one", []load.Capacity{{CPUs: 1, Speed: 1}, {CPUs: 1, Speed: 2}}, []int{9, 0}, []int{3, 5}},
		{"a small node and a large one", []load.Capacity{{CPUs: 1, Speed: 1}, {CPUs: 4, Speed: 1}}, []int{10, 0}, []int{2, 6}},
		{"a large node and small ones", []load.Capacity{{CPUs: 4, Speed: 1}, {CPUs: 0.5, Speed: 1}, {CPUs: 0.5, Speed: 1}}, []int{20, 0, 0}, []int{14, 1, 1}},
		{"from two nodes to six", half(6), []int{9, 9, 0, 0, 0, 0}, []int{2, 2, 2, 2, 2, 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(seeds / 4) {
				c := newCluster(balancer.NewMosix(), seed, tt.nodes...)
				for i, k := range tt.procs {
					for range k {
						c.start(c.nodes[i], 0, 1e6)
					}
				}
				c.run(60 * time.Second)
				got, then := c.counts(), len(c.moves)
				for i := range got {
					if got[i] < tt.least[i] {
						t.Errorf("seed %d: %v run on the nodes, want at least %v\n%s", seed, got, tt.least, c.log.String())
						break
					}
				}
				c.run(300 * time.Second)
				if n := len(c.moves) - then; n > 0 {
					t.Errorf("seed %d: %d moves after it had settled\n%s", seed, n, c.log.String())
				}
				if b := c.backAndForth(); len(b) > 0 {
					t.Errorf("seed %d: back and forth: %v", seed, b)
				}
			}
		})
	}
}

// When the host gets work of its own the guests go first, elsewhere or home.
func TestGuestsGo(t *testing.T) {
	stayed := 0
	for seed := range uint64(seeds) {
		c := newCluster(balancer.NewMosix(), seed, half(3)...)
		for range 6 {
			c.start(c.nodes[0], 0, 1e6)
		}
		c.run(20 * time.Second)
		if got := c.counts(); !slices.Equal(got, []int{2, 2, 2}) {
			t.Fatalf("seed %d: %v, want two on each node\n%s", seed, got, c.log.String())
		}
		before := len(c.begun)
		for range 6 {
			c.start(c.nodes[1], c.now, 1e6)
		}
		c.run(80 * time.Second)
		if len(c.begun) == before || c.begun[before].process.Home != "n1" {
			t.Errorf("seed %d: the first to be sent away by the loaded host is no guest\n%s", seed, c.log.String())
		}
		for _, p := range c.running(c.nodes[1]) {
			if p.id.Home == "n1" {
				stayed++ // it was refused, and the host's own processes went before it was offered again
			}
		}
		for _, k := range c.counts() {
			if k < 3 || k > 5 {
				t.Errorf("seed %d: %v, want 4 on each node, give or take one\n%s", seed, c.counts(), c.log.String())
				break
			}
		}
	}
	if stayed > 2*seeds/20 {
		t.Errorf("%d of %d guests stayed on the loaded host, want at most one in twenty", stayed, 2*seeds)
	}
}

// A host whose only movable process is a guest sends it away although it is the heaviest: home at once if the host is
// much busier, and once it has been away for a while if it is busier.
func TestLoneGuestLeavesBusyHost(t *testing.T) {
	hold := balancer.NewMosix().ReturnHold
	tests := []struct {
		own             int
		earliest, until time.Duration
	}{
		{own: 2, earliest: hold, until: hold + 10*time.Second},
		{own: 4, earliest: 10 * time.Second, until: 20 * time.Second},
	}
	for _, tt := range tests {
		for seed := range uint64(seeds / 4) {
			c := newCluster(balancer.NewMosix(), seed, half(2)...)
			guest := c.start(c.nodes[1], 0, 1e6)
			guest.id.Home = "n1"
			for range tt.own {
				c.start(c.nodes[1], 0, 1e6).unmovable = "privileged"
			}
			c.run(tt.earliest)
			if guest.at.name != "n2" {
				t.Errorf("seed %d, %d others: it went home too early\n%s", seed, tt.own, c.log.String())
			}
			c.run(tt.until)
			if guest.at.name != "n1" {
				t.Errorf("seed %d, %d others: it has not gone home\n%s", seed, tt.own, c.log.String())
			}
		}
	}
}

// When the processes of some nodes end, the rest spreads evenly again.
func TestRestSpreads(t *testing.T) {
	for seed := range uint64(seeds / 4) {
		c := newCluster(balancer.NewMosix(), seed, half(4)...)
		for i, n := range c.nodes {
			for range 4 {
				work := 1e6
				if i >= 2 {
					work = 10 // ends after 80 s
				}
				c.start(n, 0, work)
			}
		}
		c.run(75 * time.Second)
		if len(c.moves) != 0 {
			t.Fatalf("seed %d: moves while all were equal\n%s", seed, c.log.String())
		}
		c.run(130 * time.Second)
		if got := c.counts(); !slices.Equal(got, []int{2, 2, 2, 2}) {
			t.Errorf("seed %d: %v, want two on each node\n%s", seed, got, c.log.String())
		}
		if len(c.moves) != 4 {
			t.Errorf("seed %d: %d moves, want 4\n%s", seed, len(c.moves), c.log.String())
		}
	}
}

// Eight loaded nodes learn of an idle one in the same period: it takes what it can use, and refuses the rest.
func TestHerd(t *testing.T) {
	refused := 0
	for seed := range uint64(seeds / 4) {
		c := newCluster(balancer.NewMosix(), seed, half(9)...)
		for _, n := range c.nodes[:8] {
			for range 4 {
				c.start(n, 0, 1e6)
			}
		}
		most := 0
		for s := range 60 {
			c.run(time.Duration(s+1) * time.Second)
			most = max(most, c.counts()[8])
		}
		if most > 3 {
			t.Errorf("seed %d: up to %d processes on the idle node, want at most 3\n%s", seed, most, c.log.String())
		}
		if got := c.counts()[8]; got < 2 {
			t.Errorf("seed %d: %d processes on the idle node, want 2 or 3\n%s", seed, got, c.log.String())
		}
		refused += len(c.begun) - len(c.moves)
		if len(c.moves) > 3 {
			t.Errorf("seed %d: %d moves, want at most 3\n%s", seed, len(c.moves), c.log.String())
		}
	}
	if refused == 0 {
		t.Error("no offer was ever refused: the story was not put to the test")
	}
}

// A target that has no room is not chosen, and refuses where the source could not know.
func TestMemoryVeto(t *testing.T) {
	for seed := range uint64(seeds / 4) {
		c := newCluster(balancer.NewMosix(), seed, half(3)...)
		c.nodes[1].memory = 256 << 20
		for range 6 {
			c.start(c.nodes[0], 0, 1e6).bytes = 150 << 20
		}
		c.run(60 * time.Second)
		if got := c.counts(); got[1] > 1 {
			t.Errorf("seed %d: %v: the small node holds more than fits\n%s", seed, got, c.log.String())
		}
		if got := c.counts(); got[2] < 2 {
			t.Errorf("seed %d: %v: the large node was not used\n%s", seed, got, c.log.String())
		}
	}
}

func TestNoneMovesNothing(t *testing.T) {
	c := newCluster(balancer.None{}, 1, half(2)...)
	for range 8 {
		c.start(c.nodes[0], 0, 1e6)
	}
	c.run(30 * time.Second)
	if len(c.moves) != 0 {
		t.Errorf("policy none moved %d processes", len(c.moves))
	}
}
