package balancer_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
)

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// drawView makes up any view of a cluster.
func drawView(rng *rand.Rand) balancer.View {
	node := func(name string) balancer.Node {
		n := balancer.Node{
			Name: id.Node(name), CPUs: pick(rng, []float64{0.25, 0.5, 1, 2, 8, 64}),
			Speed: pick(rng, []float64{0.5, 1, 1.7}), Exported: pick(rng, []float64{0, 0.1, 0.5, 1, 1.5, 2, 3, 4, 5.9, 6, 8, 12, 30}),
			Age: pick(rng, []time.Duration{0, time.Second, 3 * time.Second, 20 * time.Second}), MemTotal: 1 << 30,
			MemFree: pick(rng, []uint64{0, 40 << 20, 500 << 20, 1 << 30}), Unfit: pick(rng, []string{"", "", "", "suspect"}),
		}
		n.Mean, n.True = n.Exported, n.Exported
		return n
	}
	v := balancer.View{Self: node("n1"), Costs: balancer.DefaultCosts()}
	for i := range rng.IntN(7) {
		v.Nodes = append(v.Nodes, node(fmt.Sprintf("n%d", i+2)))
	}
	names := []id.Node{"n1", "n1", "n2", "n3", "n7"}
	second := func(most int) time.Duration { return time.Duration(rng.IntN(most*1000)) * time.Millisecond }
	for i := range 2 + rng.IntN(7) {
		c := balancer.Candidate{
			Process: id.Process{Home: pick(rng, names), PID: id.HomePID(100 + i)}, CPU: second(100), Ready: second(30),
			ReadyLast: pick(rng, []float64{0, 0.3, 0.6, 0.95, 1, 1, 1.9, 4}), Bytes: pick(rng, []uint64{0, 1 << 20, 30 << 20, 600 << 20}), Residency: second(200),
			Unmovable: pick(rng, []string{"", "", "", "locked"}),
		}
		if rng.IntN(2) == 0 {
			c.Left = []balancer.Departure{{Node: pick(rng, names), Ago: second(300)}}
		}
		v.Processes = append(v.Processes, c)
	}
	for range rng.IntN(4) {
		v.Attempts = append(v.Attempts, balancer.Attempt{
			Process: id.Process{Home: "n1", PID: id.HomePID(100 + rng.IntN(9))}, To: pick(rng, names), Ready: 1,
			At: now - second(40), Outcome: pick(rng, []balancer.Outcome{balancer.Pending, balancer.Moved, balancer.Refused, balancer.Failed}),
		})
	}
	return v
}

const now = time.Hour

// Whatever the view, what is decided makes sense.
func TestDecisionsMakeSense(t *testing.T) {
	m := balancer.NewMosix()
	moves := 0
	for seed := range uint64(20000) {
		v := drawView(rand.New(rand.NewPCG(seed, 1)))
		d := m.Decide(v, now, rand.New(rand.NewPCG(1, 2)))
		if d.Why == "" || len(d.Moves) > m.MaxMoves {
			t.Fatalf("seed %d: %d moves, and why no more: %q", seed, len(d.Moves), d.Why)
		}
		to, gone := map[id.Node]bool{}, map[id.Process]bool{}
		moves += len(d.Moves)
		for _, mv := range d.Moves {
			if mv.Reason == "" || to[mv.To] || gone[mv.Process] || mv.To == v.Self.Name {
				t.Fatalf("seed %d: %+v: no reason, to itself, or a second one to a target or of a process", seed, mv)
			}
			to[mv.To], gone[mv.Process] = true, true
			var c balancer.Candidate
			for _, x := range v.Processes {
				if x.Process == mv.Process {
					c = x
				}
			}
			var target balancer.Node
			for _, x := range v.Nodes {
				if x.Name == mv.To {
					target = x
				}
			}
			if target.Name == "" || target.Unfit != "" || target.Age > m.MaxAge || target.Exported >= v.Self.Mean || c.Bytes > target.MemFree {
				t.Fatalf("seed %d: %+v: bad target %+v", seed, mv, target)
			}
			if c.Unmovable != "" || c.Ready < m.MinReady || c.ReadyLast < m.HeavyShare || c.Residency < m.MinResidency {
				t.Fatalf("seed %d: %+v: no candidate: %+v", seed, mv, c)
			}
			for _, l := range c.Left {
				if l.Node == mv.To && l.Ago < m.ReturnNever {
					t.Fatalf("seed %d: %+v: back where it came from %s ago", seed, mv, l.Ago)
				}
			}
			for _, a := range v.Attempts {
				if a.Outcome == balancer.Pending && (a.Process == mv.Process || a.To == mv.To) {
					t.Fatalf("seed %d: %+v: while %+v is under way", seed, mv, a)
				}
			}

			// A target of which the news are true accepts.
			if a := balancer.Accept(balancer.View{Self: target}, mv.Offer, now); !a.OK {
				t.Fatalf("seed %d: %+v is refused by a target of which everything was known: %s", seed, mv, a.Why)
			}
			if len(d.Moves) > 1 {
				continue
			}
			// And once it is there, nothing sends it back, even if nobody remembers that it moved.
			add := func(n balancer.Node, ready float64) balancer.Node {
				n.True = max(0, n.True+n.Capacity().Of(ready))
				n.Exported, n.Mean = n.True, n.True
				return n
			}
			w := max(1, c.ReadyLast)
			c.Left, c.Residency, c.Process.Home = nil, time.Hour, "n99"
			native := c
			native.Process.PID++ // not alone there
			native.Unmovable = "native"
			back := balancer.View{
				Self: add(target, w), Nodes: []balancer.Node{add(v.Self, -w)}, Processes: []balancer.Candidate{c, native}, Costs: v.Costs,
			}
			back.Nodes[0].Age, back.Nodes[0].MemFree, back.Nodes[0].Unfit = 0, 1<<30, ""
			if r := m.Decide(back, now, rand.New(rand.NewPCG(1, 2))); len(r.Moves) > 0 {
				t.Fatalf("seed %d: %s\nand back: %s", seed, mv.Reason, r.Moves[0].Reason)
			}
		}
	}
	if moves < 2000 {
		t.Errorf("only %d moves were decided: the views are too dull to show anything", moves)
	}
}
