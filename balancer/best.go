package balancer

import (
	"fmt"
	"math"
)

// Best names the node, other than the own one, on which a process would run fastest, and says why; when somebody orders a
// process away without naming a node. No node, and the reason, when none can take it.
func Best(v View, c Candidate) (to Node, why string) {
	best, why := math.Inf(1), "no other node is known"
	for _, n := range v.Nodes {
		no := noRoom(n, c.Bytes)
		if n.Unfit != "" {
			no = n.Unfit
		} else if why := c.Barred[n.Name]; why != "" {
			no = why
		}
		if no != "" {
			if math.IsInf(best, 1) {
				why = fmt.Sprintf("%s is no target: %s", n.Name, no)
			}
			continue
		}
		l := aged(n.Exported, n.Age)
		if g := gain(v.Self, v.Self.True, n, l, c.ReadyLast); g.there < best {
			best, to = g.there, n
			why = fmt.Sprintf("slowdown %.2f on %s (load %.2f, %.1f s old), %.2f here", g.there, n.Name, n.Exported, n.Age.Seconds(), g.here)
		}
	}
	return to, why
}
