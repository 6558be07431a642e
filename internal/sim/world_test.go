package sim

import (
	"testing"
	"time"
)

// With faults of every kind every job ends or is lost with its node, and the same seed gives the same.
func TestFaults(t *testing.T) {
	faults, err := ParseFaults("crash:20m:30s, cut:2m:30s:0.5, slow:4m:1m:0.25:20, skew:10s")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Nodes: 16, Rho: 0.7, Jobs: 1500, Policy: "default", Seed: 5, Faults: faults, AtHome: true}
	a, b := run(t, c), run(t, c)
	if a != b {
		t.Errorf("the same seed gives\n%+v\nand\n%+v", a, b)
	}
	if a.Jobs+a.LostJobs != c.Jobs || a.LostJobs == 0 {
		t.Errorf("%d jobs have ended and %d were lost, of %d", a.Jobs, a.LostJobs, c.Jobs)
	}
	t.Logf("slowdown %.3f, %d lost, %.3f moves of each", a.MeanSlowdown, a.LostJobs, a.MovesPerProcess)
}

// Clocks that are apart change nothing: nobody compares his with another's.
func TestSkewChangesNothing(t *testing.T) {
	c := Config{Nodes: 16, Jobs: 1000, Policy: "default", Seed: 9}
	right := run(t, c)
	c.Faults = []Fault{{Kind: Skew, For: time.Hour}}
	if wrong := run(t, c); wrong != right {
		t.Errorf("clocks an hour apart give\n%+v\ninstead of\n%+v", wrong, right)
	}
}

// A cut that lasts longer than a lease ends the guests beyond it, and a shorter one ends nobody.
func TestCut(t *testing.T) {
	c := Config{Nodes: 8, Rho: 0.7, Jobs: 60, Policy: "default", Seed: 4, Lifetime: Fixed(1500), Period: 5 * time.Second}
	for _, test := range []struct {
		lasts time.Duration
		lost  bool
	}{{5 * time.Minute, false}, {30 * time.Minute, true}} {
		c.Faults = []Fault{{Kind: Cut, At: time.Hour, For: test.lasts, Share: 0.5}}
		if r := run(t, c); r.LostJobs > 0 != test.lost {
			t.Errorf("a cut of %v: %d jobs lost", test.lasts, r.LostJobs)
		}
	}
}

// Owners find their machines free of guests soon, and guests cost them nothing else.
func TestOwners(t *testing.T) {
	r := run(t, Config{Nodes: 16, Rho: 0.6, Jobs: 1500, Policy: "default", Seed: 6, Owners: Owners{Away: 5 * time.Minute, Here: time.Minute}})
	if r.OwnerReturns == 0 || r.OwnerLeaveSeconds > 5 {
		t.Errorf("%d owners have found guests, which were gone after %.2f s on average", r.OwnerReturns, r.OwnerLeaveSeconds)
	}
	t.Logf("%d returns, %.2f s, slowdown %.3f", r.OwnerReturns, r.OwnerLeaveSeconds, r.MeanSlowdown)
}

// Slow links between sites make moves between them rarer, by what they cost.
func TestSites(t *testing.T) {
	c := Config{Nodes: 16, Rho: 0.7, Jobs: 2000, Policy: "default", Seed: 8, Sites: 4, AtHome: true}
	r := run(t, c)
	if r.MovesBetweenSites == 0 || r.MovesBetweenSites > r.MovesPerProcess+0.01 {
		t.Errorf("%.3f moves of each process between sites, %.3f in all", r.MovesBetweenSites, r.MovesPerProcess)
	}
	t.Logf("slowdown %.3f, %.3f moves, %.3f of them between sites", r.MeanSlowdown, r.MovesPerProcess, r.MovesBetweenSites)
}

// A trace is played as it stands.
func TestTrace(t *testing.T) {
	c := Config{Nodes: 2, Policy: "none", Trace: []Work{{Home: 0, Work: 2, Bytes: 1}, {Home: 0, Work: 2, Bytes: 1}, {At: 10 * time.Second, Home: 1, Work: 3, Bytes: 1}}}
	r := run(t, c)
	if r.Jobs != 3 || r.LastEndSeconds != 13 || r.MeanSlowdown < 1.66 || r.MeanSlowdown > 1.67 {
		t.Errorf("%+v", r)
	}
}

func TestParseFaults(t *testing.T) {
	for _, s := range []string{"crash", "crash:1h", "crash:0s:1s", "cut:1m:1m:2", "cut:1m:1m:x", "slow:1m:1m:0.5", "quake:1s", "skew:-1s", "cut:1m:1m:0.5,"} {
		if f, err := ParseFaults(s); err == nil {
			t.Errorf("%q is %+v", s, f)
		}
	}
	if f, err := ParseFaults(" "); err != nil || f != nil {
		t.Errorf("nothing is %+v, %v", f, err)
	}
}
