package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mosix/internal/id"
)

// WhyNot says in words why policy p does not move process q now, or returns the move that it would make if q were the only one that may go.
func WhyNot(p Policy, v View, q id.Process, now time.Duration, rng *rand.Rand) (m Move, would bool, why string) {
	at := slices.IndexFunc(v.Processes, func(c Candidate) bool { return c.Process == q })
	if at < 0 {
		return m, false, fmt.Sprintf("%s has not been ready to run for long enough to be looked at", q)
	}
	if c := v.Processes[at]; c.Unmovable != "" {
		return m, false, fmt.Sprintf("%s stays: %s", q, c.Unmovable)
	}
	const other = "only one process is looked at"
	v.Processes = slices.Clone(v.Processes)
	for i := range v.Processes {
		if i != at && v.Processes[i].Unmovable == "" {
			v.Processes[i].Unmovable = other
		}
	}
	d := p.Decide(v, now, rng)
	for _, m := range d.Moves {
		if m.Process == q {
			return m, true, m.Reason
		}
	}
	if strings.Contains(d.Why, other) { // another one was named
		return m, false, fmt.Sprintf("%s stays: it was ready to run for %.0f %% of the last period, and for %.1f s in all", q, 100*v.Processes[at].ReadyLast, v.Processes[at].Ready.Seconds())
	}
	return m, false, d.Why
}
