package balancer

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"mosix/internal/id"
)

// Mosix is the classic rule of MOSIX: a process goes when the exported load of the target, plus 1.3 processes, is below
// the node's own mean. The second-heaviest process goes; one that is alone stays. On top of it come a cost of the transfer,
// a minimum residency, and a higher bar for going back where it came from.
type Mosix struct {
	Margin       float64       // processes that are added at the target, of which one is the process itself
	CostFactor   float64       // a move must gain so many times what it costs
	MinReady     time.Duration // processes that were ready for less are not looked at
	HeavyShare   float64       // of the last period in which a process was ready, to count as heavy
	MinResidency time.Duration // on a node, before a process goes on
	ReturnHold   time.Duration // so long after leaving a node a process goes back only for ReturnMargin more
	ReturnNever  time.Duration // and so long not at all
	ReturnMargin float64       // processes
	MaxAge       time.Duration // news of a node that are older are not believed
	MaxMoves     int           // under way at once, each to another target
	RefusalHold  time.Duration // a target that refused is not asked again
	PairHold     time.Duration // nor about the same process
	FailHold     time.Duration // a process whose move failed stays
}

var _ Policy = Mosix{}

// NewMosix returns the policy with its usual numbers.
func NewMosix() Mosix {
	return Mosix{
		Margin: 1.3, CostFactor: 3, MinReady: 2 * time.Second, HeavyShare: 0.5, MinResidency: time.Second,
		ReturnHold: 2 * time.Minute, ReturnNever: 10 * time.Second, ReturnMargin: 2, MaxAge: 15 * time.Second, MaxMoves: 4,
		RefusalHold: 2 * time.Second, PairHold: 15 * time.Second, FailHold: 30 * time.Second,
	}
}

// Name implements Policy.
func (Mosix) Name() string { return "mosix" }

// Decide implements Policy.
func (m Mosix) Decide(v View, now time.Duration, rng *rand.Rand) Decision {
	var d Decision
	pool, why := m.candidates(v, now)
	if len(pool) == 0 {
		d.Why = why
		return d
	}
	slots, why := m.slots(v)
	if slots <= 0 {
		d.Why = why
		return d
	}
	targets, why := m.targets(v, now, rng)
	d.Why = why
	n := v.Self.Mean
	for _, t := range targets {
		if len(d.Moves) == slots || len(pool) == 0 {
			break
		}
		if d.Why != "" && t.load+t.Capacity().Of(m.Margin) >= n {
			continue // no candidate can pass, and a better target has told why
		}
		for i, c := range pool {
			move, no := m.judge(v, c, t, n, now)
			if no != "" {
				if d.Why == "" { // the best candidate and the best target tell most
					d.Why = no
				}
				continue
			}
			d.Moves = append(d.Moves, move)
			d.Why = ""
			n = math.Max(0, n-v.Self.Capacity().Of(weight(c.ReadyLast)))
			pool = slices.Delete(slices.Clone(pool), i, i+1)
			break
		}
	}
	switch {
	case d.Why != "":
	case len(pool) == 0:
		d.Why = "no further process is a candidate"
	case len(d.Moves) == slots:
		d.Why = fmt.Sprintf("no more than %d moves may be under way", m.MaxMoves)
	default:
		d.Why = fmt.Sprintf("a target gets one process at a time, and there are %d", len(targets))
	}
	return d
}

// slots is how many more moves may begin, or says why none.
func (m Mosix) slots(v View) (n int, why string) {
	n = m.MaxMoves
	for _, a := range v.Attempts {
		if a.Outcome == Pending {
			n--
		}
	}
	return n, fmt.Sprintf("%d moves are under way, which is as many as there may be", m.MaxMoves)
}

// candidates lists the processes that may go, the one that should go first in front, or says why there is none.
func (m Mosix) candidates(v View, now time.Duration) ([]Candidate, string) {
	var movable []Candidate
	heavy, bound, why := 0, 0, ""
	for _, c := range v.Processes {
		if c.Ready < m.MinReady || c.ReadyLast < m.HeavyShare {
			continue
		}
		held := c.Unmovable
		leaving := false
		for _, a := range v.Attempts {
			if a.Process != c.Process {
				continue
			}
			leaving = leaving || a.Outcome == Pending
			if a.Outcome == Failed && now-a.At < m.FailHold {
				held = fmt.Sprintf("its move to %s failed %.1f s ago", a.To, (now - a.At).Seconds())
			}
		}
		if leaving {
			continue
		}
		heavy++
		if held != "" {
			bound++
			why = fmt.Sprintf("%s stays: %s", c.Process, held)
			continue
		}
		movable = append(movable, c)
	}
	if heavy < 2 {
		return nil, fmt.Sprintf("heavy processes (ready for %[2]s of the last period, and %[3]s in all): %[1]d; one that is alone stays",
			heavy, fmt.Sprintf("%.0f %%", 100*m.HeavyShare), m.MinReady)
	}
	if len(movable) == 0 {
		return nil, fmt.Sprintf("none of %d heavy processes can move: %s", heavy, why)
	}
	// Guests go before the node's own, those that would wait for home last, then the heavier first: the more a process has
	// used, the more it will.
	native := func(c Candidate) int {
		if c.Process.Home == v.Self.Name {
			return 1
		}
		return 0
	}
	slices.SortFunc(movable, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(native(a), native(b)), cmp.Compare(a.talkative(), b.talkative()), cmp.Compare(b.CPU, a.CPU), cmp.Compare(a.Process.PID, b.Process.PID),
			cmp.Compare(a.Process.Home, b.Process.Home))
	})
	if bound == 0 {
		// One heavy process stays: the heaviest of the node's own, or else the heaviest guest.
		stay := max(0, slices.IndexFunc(movable, func(c Candidate) bool { return native(c) == 1 }))
		if last := len(movable) - 1; movable[last].talkative() == 1 {
			stay = last // it loses least by staying
		}
		movable = slices.Delete(movable, stay, stay+1)
	}
	return movable, ""
}

// target is a node that may be sent to, with its load as it should be by now.
type target struct {
	Node
	load float64 // exported, and what this node has sent since
	rank float64 // slowdown of one more process, with the load interpreted by its age
}

// targets lists the nodes that may be sent to, the best first, or says why there is none.
func (m Mosix) targets(v View, now time.Duration, rng *rand.Rand) ([]target, string) {
	var ts []target
	why := "no other node is known"
	for _, n := range v.Nodes {
		t, no := m.target(v, n, now)
		if no != "" {
			why = no
			continue
		}
		ts = append(ts, t)
	}
	if len(ts) == 0 {
		return nil, why
	}
	// Nodes that look the same are taken in random order, or all sources would choose the same one.
	rng.Shuffle(len(ts), func(i, j int) { ts[i], ts[j] = ts[j], ts[i] })
	slices.SortStableFunc(ts, func(a, b target) int { return cmp.Compare(a.rank, b.rank) })
	return ts, ""
}

func (m Mosix) target(v View, n Node, now time.Duration) (target, string) {
	if n.Unfit != "" {
		return target{}, fmt.Sprintf("%s is no target: %s", n.Name, n.Unfit)
	}
	if n.Age > m.MaxAge {
		return target{}, fmt.Sprintf("%s is no target: last heard of %.1f s ago", n.Name, n.Age.Seconds())
	}
	t := target{Node: n, load: n.Exported}
	for _, a := range v.Attempts {
		if a.To != n.Name {
			continue
		}
		switch {
		case a.Outcome == Pending:
			return target{}, fmt.Sprintf("%s is already being sent to %s", a.Process, n.Name)
		case a.Outcome == Refused && now-a.At < m.RefusalHold:
			return target{}, fmt.Sprintf("%s refused %.1f s ago", n.Name, (now - a.At).Seconds())
		case a.Outcome == Moved && a.At > now-n.Age:
			t.load += n.Capacity().Of(weight(a.Ready)) // the news are older than the move
		}
	}
	t.rank = n.Capacity().Slowdown(aged(t.load, n.Age) + n.Capacity().Of(1))
	return t, ""
}

// aged interprets a load by its age: an idle node is soon found by others, so that old news of one are worth less.
func aged(l float64, age time.Duration) float64 {
	if l >= 1 {
		return l
	}
	return 1 - (1-l)/(1+4*age.Seconds())
}

// judge compares staying, at load n, with going to t: a move, or the reason why not.
func (m Mosix) judge(v View, c Candidate, t target, n float64, now time.Duration) (Move, string) {
	no := func(format string, args ...any) (Move, string) {
		return Move{}, fmt.Sprintf("%s stays: ", c.Process) + fmt.Sprintf(format, args...)
	}
	if why := c.Barred[t.Name]; why != "" {
		return no("%s is not for it: %s", t.Name, why)
	}
	cost := v.Costs.Of(c.travels(v.Costs))
	stay := m.MinResidency
	if len(c.Left) > 0 || c.Process.Home != v.Self.Name {
		stay += time.Duration(m.CostFactor * float64(cost)) // so that the previous move has paid for itself
	}
	if c.Residency < stay {
		return no("it has been here for %.1f s, want %.1f s", c.Residency.Seconds(), stay.Seconds())
	}
	margin := m.Margin + weight(c.ReadyLast) - 1
	if ago, left := leftAgo(c, t.Name); left {
		if ago < m.ReturnNever {
			return no("it left %s %.1f s ago", t.Name, ago.Seconds())
		}
		if ago < m.ReturnHold {
			margin += m.ReturnMargin
		}
	}
	added := t.Capacity().Of(margin)
	g := gain(v.Self, n, t.Node, t.load, c.ReadyLast)
	// What it wins by no longer waiting is no load, where that alone is worth a move; with less the margins hold as for everybody.
	homesick := c.wait(t.Name) == 0 && c.wait(v.Self.Name) > g.needed
	if t.load+added >= n && !homesick {
		return no("%s at %.2f + %.1f processes (%.2f) = %.2f is not below own mean %.2f", t.Name, t.load, margin, added, t.load+added, n)
	}
	waits := c.wait(t.Name) - c.wait(v.Self.Name)
	if g.value -= waits; g.value <= g.needed {
		if waits == 0 {
			return no("slowdown %.2f here and %.2f on %s differ by less than %.2f", g.here, g.there, t.Name, g.needed)
		}
		return no("slowdown %.2f here and %.2f on %s, and %+.2f for the wait for home there, differ by less than %.2f", g.here, g.there, t.Name, waits, g.needed)
	}
	if c.CPU.Seconds()*g.value <= m.CostFactor*cost.Seconds() {
		return no("%.2f s of CPU time x %.2f gained on %s does not exceed %.0f x %.2f s of moving %s",
			c.CPU.Seconds(), g.value, t.Name, m.CostFactor, cost.Seconds(), bytesText(c.Bytes))
	}
	if why := noRoom(t.Node, c.Bytes); why != "" {
		return no("%s", why)
	}
	for _, a := range v.Attempts {
		if a.Process == c.Process && a.To == t.Name && a.Outcome == Refused && now-a.At < m.PairHold {
			return no("%s refused it %.1f s ago", t.Name, (now - a.At).Seconds())
		}
	}
	why := fmt.Sprintf("%s at %.2f + %.1f processes (%.2f) = %.2f is below own mean %.2f", t.Name, t.load, margin, added, t.load+added, n)
	if homesick {
		why = fmt.Sprintf("it waits %.2f s for home for each second of computing", c.Talk)
	}
	return Move{
		Process: c.Process, To: t.Name, Gain: g.value, Cost: cost,
		Reason: fmt.Sprintf("%s; slowdown %.2f here, %.2f there; %.2f s of CPU time x %.2f gained > %.0f x %.2f s of moving %s",
			why, g.here, g.there, c.CPU.Seconds(), g.value, m.CostFactor, cost.Seconds(), bytesText(c.Bytes)),
		Offer: Offer{
			Process: c.Process, From: v.Self.Name, Load: n, CPUs: v.Self.CPUs, Speed: v.Self.Speed, Ready: c.ReadyLast, Bytes: c.Bytes,
		},
	}, ""
}

// leftAgo tells how long ago the process left a node, if it ever did. A guest has left its home, at the latest when it
// came here.
func leftAgo(c Candidate, node id.Node) (ago time.Duration, left bool) {
	for _, d := range c.Left {
		if d.Node == node && (!left || d.Ago < ago) {
			ago, left = d.Ago, true
		}
	}
	if !left && c.Process.Home == node {
		return c.Residency, true
	}
	return ago, left
}

// talkative is 1 for a process that would spend more than a third of its time waiting for home, were it away.
func (c Candidate) talkative() int {
	if c.Talk > 0.5 {
		return 1
	}
	return 0
}
