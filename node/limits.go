package node

import (
	"fmt"

	"mosix/internal/config"
	"mosix/internal/id"
)

// What guests may take of this node, in all, those of one home, and those of one user of one home.

// takes is what some guests have.
type takes struct {
	guests int
	bytes  uint64
	ready  float64 // tasks that want a processor, on average
}

func (t *takes) add(bytes uint64, ready float64) {
	t.guests++
	t.bytes += bytes
	t.ready += max(ready, 1) // a guest that waited a moment ago will not always wait
}

// over says which of the limits they are over, or "".
func (t takes) over(l config.Limits, whose string) string {
	switch {
	case l.Most > 0 && t.guests > l.Most:
		return fmt.Sprintf("%s may be %d at most", whose, l.Most)
	case l.Memory > 0 && t.bytes > uint64(l.Memory):
		return fmt.Sprintf("%s may have %d MiB of memory, and would have %d", whose, l.Memory>>20, t.bytes>>20)
	case l.CPUs > 0 && t.ready > l.CPUs:
		return fmt.Sprintf("%s may keep %g processors busy, and would want %.1f", whose, l.CPUs, t.ready)
	}
	return ""
}

// newcomers are processes that want to come together, of one home.
type newcomers struct {
	home  id.Node
	uid   uint32
	known bool // whose they are
	count int
	bytes uint64
	ready float64
}

// crowded says why there are too many guests here for others to come, or "".
func (n *Node) crowded(c newcomers) string {
	l := n.conf.Guests
	if l == (config.Guests{}) {
		return ""
	}
	busy := map[int]float64{}
	resident := map[int]uint64{}
	for _, p := range n.balance.processes() {
		busy[p.PID], resident[p.PID] = p.ReadyTasks, p.RSS
	}
	var all, home, user takes
	n.mu.Lock()
	for _, t := range n.guests {
		bytes, ok := resident[t.g.PID]
		if !ok {
			bytes = rss(t.g.PID)
		}
		ready := busy[t.g.PID]
		all.add(bytes, ready)
		if t.g.Process.Home != c.home {
			continue
		}
		home.add(bytes, ready)
		if t.uid == c.uid {
			user.add(bytes, ready)
		}
	}
	n.mu.Unlock()
	for i := range max(c.count, 1) {
		bytes, ready := uint64(0), 0.0
		if i == 0 {
			bytes, ready = c.bytes, c.ready
		}
		for _, t := range []*takes{&all, &home, &user} {
			t.add(bytes, ready)
		}
	}
	if why := all.over(l.Limits, "guests"); why != "" {
		return why
	}
	if why := home.over(l.Home, "guests from "+string(c.home)); why != "" || !c.known {
		return why
	}
	return user.over(l.User, fmt.Sprintf("guests of user %d of %s", c.uid, c.home))
}
