package balancer

import (
	"fmt"
	"slices"
	"time"
)

// usher relieves a node that is short of memory, before its kernel ends somebody: the smallest process that is enough goes, or the largest
// where none is, to the node on which it fits best (Barak and Braverman 1998, memory ushering). Its moves pay in memory: they need not gain
// processor time. done is false where memory is not short, or nobody can be ushered out, which d then says: processors are looked at.
func (p Default) usher(v View, now time.Duration) (d Decision, done bool) {
	free := v.Self.MemFree - min(v.Self.MemFree, v.Self.MemPromised)
	least := short(v.Self) + uint64(usherAhead.Seconds()*float64(v.Self.MemFalls))
	if v.Self.MemTotal == 0 || free >= least {
		return d, false
	}
	for _, a := range v.Attempts {
		if a.Outcome == Pending {
			return Decision{Why: fmt.Sprintf("memory is short, and %s is on its way to %s", a.Process, a.To)}, true
		}
	}
	need := least + short(v.Self)/4 - free
	pool := slices.Clone(v.Processes)
	slices.SortFunc(pool, func(a, b Candidate) int { // those that are enough first, the smallest in front; then the others, the largest in front
		enough := func(c Candidate) bool { return c.Bytes >= need }
		switch {
		case enough(a) != enough(b):
			if enough(a) {
				return -1
			}
			return 1
		case enough(a) == (a.Bytes < b.Bytes):
			return -1
		}
		return 1
	})
	d.Why = fmt.Sprintf("memory is short (%s of %s are free), and nobody is here who could go", bytesText(free), bytesText(v.Self.MemTotal))
	for _, c := range pool {
		if c.Bytes < usherLeast {
			continue
		}
		if held := p.held(v, c, now); held != "" {
			d.Why = fmt.Sprintf("memory is short, but %s stays: %s", c.Process, held)
			continue
		}
		t, why := p.fits(v, c, now)
		if why != "" {
			d.Why = "memory is short, but " + why
			continue
		}
		return Decision{Moves: []Move{relief(v, c, t)}, Why: "one is ushered out at a time"}, true
	}
	return d, false
}

// short is the free memory below which a node is short of it: more than what a target keeps, so that a process that has grown to almost all
// of a node still fits another one of that size.
func short(n Node) uint64 { return max(64<<20, reserve(n)*3/2) }

// usherAhead is how far it looks ahead where memory is becoming less: a move takes its time too.
const usherAhead = 2 * time.Second

// usherLeast is the memory below which a process is not worth the journey, bytes.
const usherLeast = 4 << 20

// fits finds the node that a process fits best: the one that has room with the least to spare.
func (p Default) fits(v View, c Candidate, now time.Duration) (best target, why string) {
	why = "no other node is known"
	for _, n := range v.Nodes {
		t, no := p.target(v, n, now)
		if no == "" {
			no = noRoom(t.Node, c.Bytes)
		}
		if why := c.Barred[n.Name]; no == "" && why != "" {
			no = fmt.Sprintf("%s is not for %s: %s", n.Name, c.Process, why)
		}
		if no == "" && t.MemTotal == 0 {
			no = fmt.Sprintf("how much memory %s has is not known", t.Name)
		}
		if no != "" {
			if best.Name == "" {
				why = no
			}
			continue
		}
		if best.Name == "" || t.MemFree < best.MemFree {
			best, why = t, ""
		}
	}
	return best, why
}

// relief is a move that frees memory here, whatever it does to the processors.
func relief(v View, c Candidate, t target) Move {
	why := fmt.Sprintf("memory is short here, %s of %s are free", bytesText(v.Self.MemFree), bytesText(v.Self.MemTotal))
	if v.Self.MemFree-min(v.Self.MemFree, v.Self.MemPromised) >= short(v.Self) {
		why = fmt.Sprintf("memory will be short here, %s of %s are free, each second %s less", bytesText(v.Self.MemFree), bytesText(v.Self.MemTotal), bytesText(v.Self.MemFalls))
	}
	return Move{
		Process: c.Process, To: t.Name, Cost: v.Costs.Of(c.Bytes),
		Reason: fmt.Sprintf("%s: %s go to %s, which has %s", why, bytesText(c.Bytes), t.Name, bytesText(t.MemFree)),
		Offer: Offer{
			Process: c.Process, From: v.Self.Name, Load: v.Self.Mean, CPUs: v.Self.CPUs, Speed: v.Self.Speed, Ready: c.ReadyLast, Bytes: c.Bytes, Relief: true,
		},
	}
}
