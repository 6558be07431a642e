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

// Default is the policy of agents that are not told otherwise: a process moves where it wins more than the move costs, to the best of three
// nodes that are asked; a node that is idle asks for work; and a process that is about to begin does so where there is room.
//
// The criterion is that of Harchol-Balter and Downey (1997, section 5): half of the processes that have used a of CPU time use 2a, so
// that the time used is the best guess of what remains. To ask a few of those that look best, and one at random, is against old news
// (Mitzenmacher 2000, Dahlin 2000): who goes by news alone runs with the herd.
type Default struct {
	Mosix         // its limits; what is added at a target is the process itself, and the criterion decides
	Known int     // nodes that are asked because they look best
	Blind int     // nodes that are asked at random besides
	Asks  int     // how often a birth asks for a better place, at most
	Left  float64 // what a node may have done in the last period, as a share of what a process alone does, to ask for work
}

var (
	_ Policy = Default{}
	_ Placer = Default{}
	_ Puller = Default{}
)

// NewDefault returns the policy with its usual numbers.
func NewDefault() Default {
	m := NewMosix()
	m.Margin = 1
	return Default{Mosix: m, Known: 2, Blind: 1, Asks: 8, Left: 0.1}
}

// Name implements Policy.
func (Default) Name() string { return "default" }

// Decide implements Policy. Memory comes before processors.
func (p Default) Decide(v View, now time.Duration, rng *rand.Rand) Decision {
	relief, done := p.usher(v, now)
	if done {
		return relief
	}
	if back, done := p.homesick(v, now, rng); done {
		return back
	}
	d := p.processors(v, now, rng)
	if relief.Why != "" && len(d.Moves) == 0 {
		d.Why = relief.Why + "; " + d.Why
	}
	return d
}

// processors decides by what processes gain in processor time.
func (p Default) processors(v View, now time.Duration, rng *rand.Rand) Decision {
	var d Decision
	slots, why := p.slots(v)
	if slots <= 0 {
		d.Why = why
		return d
	}
	n := v.Self.Mean
	pool, why := p.pool(v, now)
	if len(pool) == 0 {
		d.Why = why
		return d
	}
	if here, best := v.Self.Capacity().Slowdown(n), emptiest(v); here <= best && len(v.Nodes) > 0 { // as on most nodes, most of the time
		d.Why = fmt.Sprintf("nobody would fare better elsewhere: slowdown %.2f here, %.2f on a node that is empty", here, best)
		return d
	}
	targets, why := p.targets(recent(v), now, rng)
	d.Why = why
	for len(d.Moves) < slots && len(pool) > 0 && len(targets) > 0 {
		i, move, no := p.best(v, pool, targets[0], n, now)
		if no != "" {
			if d.Why = no; barredSome(pool, targets[0].Name) { // who may not go there may go elsewhere
				targets = targets[1:]
				continue
			}
			break
		}
		asked := p.ask(open(targets, pool[i].Barred), rng)
		for _, t := range asked {
			move.Ask = append(move.Ask, t.Name)
		}
		d.Moves = append(d.Moves, move)
		d.Why = "no further process gains by a move"
		n = math.Max(0, n-v.Self.Capacity().Of(weight(pool[i].ReadyLast)))
		pool = slices.Delete(pool, i, i+1)
		targets = slices.DeleteFunc(targets, func(t target) bool { return slices.Contains(move.Ask, t.Name) })
	}
	if d.Why == "" {
		d.Why = "no further process gains by a move"
	}
	return d
}

// emptiest is the slowdown of a process that is alone on the fastest of the other nodes.
func emptiest(v View) float64 {
	best := math.Inf(1)
	for i := range v.Nodes {
		best = math.Min(best, v.Nodes[i].Capacity().Alone())
	}
	return best
}

// barredSome tells whether a process of the pool may not go to a node.
func barredSome(pool []Candidate, node id.Node) bool {
	return slices.ContainsFunc(pool, func(c Candidate) bool { return c.Barred[node] != "" })
}

// open leaves out the targets that are barred.
func open(ts []target, barred map[id.Node]string) []target {
	if len(barred) == 0 {
		return ts
	}
	return slices.DeleteFunc(slices.Clone(ts), func(t target) bool { return barred[t.Name] != "" })
}

// sides lists the processes that may go and the nodes to which, or says why there are none.
func (p Default) sides(v View, now time.Duration, rng *rand.Rand) (pool []Candidate, targets []target, why string) {
	slots, why := p.slots(v)
	if slots <= 0 {
		return nil, nil, why
	}
	if pool, why = p.pool(v, now); len(pool) == 0 {
		return nil, nil, why
	}
	targets, why = p.targets(v, now, rng)
	return pool, targets, why
}

// recent shows what others say of their present load in place of what they export: who asks before sending needs no protection against
// floods, and finds an idle node while it is idle.
func recent(v View) View {
	v.Nodes = slices.Clone(v.Nodes)
	for i := range v.Nodes {
		v.Nodes[i].Exported = v.Nodes[i].Load
	}
	return v
}

// pool lists the processes that may go, or says why there is none. A process that is alone wins nothing by leaving, unless the node is
// slow: that is for the criterion to find out.
func (p Default) pool(v View, now time.Duration) ([]Candidate, string) {
	var out []Candidate
	why := "no process has been ready to run for long enough"
	for _, c := range v.Processes {
		if c.Ready < p.MinReady || c.ReadyLast < p.HeavyShare {
			continue
		}
		if held := p.held(v, c, now); held != "" {
			why = fmt.Sprintf("%s stays: %s", c.Process, held)
			continue
		}
		out = append(out, c)
	}
	return out, why
}

// held says what keeps a process here, "" for nothing.
func (p Default) held(v View, c Candidate, now time.Duration) string {
	held := c.Unmovable
	for _, a := range v.Attempts {
		switch {
		case a.Process != c.Process:
		case a.Outcome == Pending:
			held = "it is on its way"
		case a.Outcome == Failed && now-a.At < p.FailHold:
			held = fmt.Sprintf("its move to %s failed %.1f s ago", a.To, (now - a.At).Seconds())
		}
	}
	return held
}

// best finds the process of the pool that gains most by going to t: its place in the pool and the move, or why none goes.
func (p Default) best(v View, pool []Candidate, t target, n float64, now time.Duration) (at int, best Move, why string) {
	most := math.Inf(-1)
	for i, c := range pool {
		m, no := p.judge(v, c, t, n, now)
		if no != "" {
			if why == "" {
				why = no
			}
			continue
		}
		// What is won by then, for as long as it has computed already, less what the move costs. A guest goes before the node's own.
		worth := c.CPU.Seconds()*m.Gain - p.CostFactor*m.Cost.Seconds()
		if c.Process.Home != v.Self.Name {
			worth *= 2
		}
		if worth > most {
			at, best, most = i, m, worth
		}
	}
	if !math.IsInf(most, -1) {
		why = ""
	}
	return at, best, why
}

// ask chooses whom to ask: those that look best, and others at random.
func (p Default) ask(ts []target, rng *rand.Rand) []target {
	known := min(p.Known, len(ts))
	out := slices.Clone(ts[:known])
	rest := slices.Clone(ts[known:])
	for range min(p.Blind, len(rest)) {
		i := rng.IntN(len(rest))
		out = append(out, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
	return out
}

// Place implements Placer.
func (p Default) Place(v View, b Birth, told []Told, now time.Duration, rng *rand.Rand) Placement {
	here := v.Self.Capacity().Slowdown(v.Self.Now + v.Self.Capacity().Of(1))
	best, at := here, id.Node("")
	for _, x := range told {
		if there := x.Answer.There + b.Talk; x.Answer.OK && there < best {
			best, at = there, x.Node
		}
	}
	saved := func(there float64) time.Duration { return time.Duration((here - there) * float64(b.Life)) }
	if at != "" && saved(best) <= b.Cost {
		best, at = here, ""
	}
	// The best that may still be found is a node of which it has a processor for itself.
	free := math.Inf(1)
	v.Nodes = slices.DeleteFunc(slices.Clone(v.Nodes), func(n Node) bool { return b.Barred[n.Name] != "" })
	for _, n := range v.Nodes {
		free = math.Min(free, n.Capacity().Alone()+b.Talk)
	}
	settled := Placement{To: at, Done: true, Why: fmt.Sprintf("slowdown %.2f here, %.2f there; %.2f s saved in an expected life of %.2f s, a start elsewhere costs %.2f s",
		here, best, saved(best).Seconds(), b.Life.Seconds(), b.Cost.Seconds())}
	if best <= free || time.Duration((best-free)*float64(b.Life)) <= b.Cost || len(told) >= p.Asks*(p.Known+p.Blind) {
		return settled
	}
	ts, _ := p.targets(recent(v), now, rng)
	ts = slices.DeleteFunc(ts, func(t target) bool {
		return slices.ContainsFunc(told, func(x Told) bool { return x.Node == t.Name })
	})
	for _, t := range p.ask(ts, rng) {
		settled.Ask = append(settled.Ask, t.Name)
	}
	settled.Done = len(settled.Ask) == 0
	return settled
}

// Pull implements Puller.
func (p Default) Pull(v View, now time.Duration, rng *rand.Rand) []id.Node {
	// A node that became idle just now is the best place for what begins next: only who has been left alone takes what runs elsewhere.
	c := v.Self.Capacity()
	if math.Max(v.Self.Now, v.Self.True)+c.Of(1) > c.Alone()*(1+p.Left) || v.Self.Unfit != "" {
		return nil
	}
	var busy []Node
	for _, n := range v.Nodes {
		if n.Age <= p.MaxAge && n.Load > n.Capacity().Alone()+n.Capacity().Of(0.5) {
			busy = append(busy, n)
		}
	}
	rng.Shuffle(len(busy), func(i, j int) { busy[i], busy[j] = busy[j], busy[i] })
	slices.SortStableFunc(busy, func(a, b Node) int {
		return cmp.Compare(b.Load/(1+b.Age.Seconds()), a.Load/(1+a.Age.Seconds()))
	})
	var out []id.Node
	for _, n := range busy[:min(len(busy), p.Known+p.Blind)] {
		out = append(out, n.Name)
	}
	return out
}

// Give implements Puller.
func (p Default) Give(v View, asker Node, now time.Duration, rng *rand.Rand) (Move, string) {
	pool, why := p.pool(v, now)
	if len(pool) == 0 {
		return Move{}, why
	}
	t := target{Node: asker, load: asker.Load}
	_, m, no := p.best(v, pool, t, math.Min(v.Self.Mean, v.Self.Now), now)
	return m, no
}
