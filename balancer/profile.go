package balancer

import (
	"math/rand/v2"
	"time"

	"mosix/internal/id"
)

// What a process is like besides what it computes: how long its calls wait for home, and how fast it writes to its memory.

// wait is how long the process waits for home on a node, in seconds per second of computing. Where it came from its calls wait for nobody.
func (c Candidate) wait(on id.Node) float64 {
	if on == c.Process.Home {
		return 0
	}
	return c.Talk
}

// rewritten bounds by how many times its memory a move of a process takes on account of what it writes meanwhile: a move gives up
// copying beforehand where that leads nowhere.
const rewritten = 3

// travels is how many bytes a move of the process sends: its memory, and what it writes while that is on its way.
func (c Candidate) travels(costs Costs) uint64 {
	if costs.Bandwidth <= 0 {
		return c.Bytes
	}
	again := c.Written * float64(c.Bytes) / costs.Bandwidth
	return c.Bytes + uint64(min(again, rewritten*float64(c.Bytes)))
}

// homesickShare of its time is what a guest must wait for home to be sent there for that reason: who does little asks for little.
const homesickShare = 0.05

// homesick sends the guest home that gains most by no longer waiting for home, where it gains at all. No other node is asked: elsewhere it
// would wait as well. One that has just become talkative is seen only when its talk has been measured for a period.
func (p Default) homesick(v View, now time.Duration, rng *rand.Rand) (Decision, bool) {
	if slots, _ := p.slots(v); slots <= 0 {
		return Decision{}, false
	}
	var best Move
	for _, c := range v.Processes {
		waits := c.wait(v.Self.Name)
		// Of its time it computes one part in 1 + waits at most, and that is the part in which it is ready.
		if waits*c.ReadyLast <= homesickShare || c.Ready < p.MinReady || p.held(v, c, now) != "" {
			continue
		}
		near := View{Self: v.Self, Attempts: v.Attempts, Costs: v.Costs}
		for _, n := range v.Nodes {
			if n.Name == c.Process.Home {
				near.Nodes = append(near.Nodes, n)
			}
		}
		targets, _ := p.targets(recent(near), now, rng)
		if len(targets) == 0 {
			continue
		}
		if m, no := p.judge(v, c, targets[0], v.Self.Mean, now); no == "" && m.Gain > best.Gain {
			best = m
		}
	}
	return Decision{Moves: []Move{best}, Why: "one is sent home at a time"}, best.Gain > 0
}
