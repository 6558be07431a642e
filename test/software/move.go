package software

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"mosix/internal/id"
	"mosix/internal/procfs"
	"mosix/node/api"
	"mosix/test/cluster"
)

// Mover moves every process of an ordinary user in Home about.
type Mover struct {
	Cluster *cluster.Cluster
	Home    id.Node
	Nodes   []id.Node     // all, with Home
	Age     time.Duration // of a process, before it is asked for the first time
	Between time.Duration // the end of a move and the wish for the next
	AtOnce  int           // moves at the same time
	Rand    *rand.Rand

	mu    sync.Mutex
	count Count
}

// Count is what came of the wishes.
type Count struct {
	Moved     int
	Processes map[string]int // moves by the name of the program
	Refused   map[string]int // by reason and program
	Failed    []string
	FreezeMS  []float64
}

// Counted is a copy of what was counted up to now.
func (m *Mover) Counted() Count {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.count
	c.Processes, c.Refused = copied(c.Processes), copied(c.Refused)
	c.Failed = append([]string(nil), c.Failed...)
	c.FreezeMS = append([]float64(nil), c.FreezeMS...)
	return c
}

func copied(m map[string]int) map[string]int {
	out := map[string]int{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// Most lists a count, the greatest first.
func Most(m map[string]int) string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		return m[keys[i]] > m[keys[j]] || m[keys[i]] == m[keys[j]] && keys[i] < keys[j]
	})
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%d %s", m[k], k)
	}
	return strings.Join(keys, ", ")
}

// process is one of a node.
type process struct {
	machine int // its number on the machine
	node    int // and in its node
	start   uint64
	name    string
}

// processes lists those of the ordinary user that are at home in node.
func processes(c *cluster.Cluster, node id.Node) ([]process, error) {
	init, err := c.HostPID(node, 1)
	if err != nil {
		return nil, err
	}
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var list []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// What fails has ended meanwhile.
		if s, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil || s != space {
			continue
		}
		st, err := procfs.Default.Stat(pid)
		if err != nil || st.State == 'Z' {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		p := process{machine: pid, start: st.Start, name: st.Comm}
		user := false
		for line := range strings.Lines(string(status)) {
			f := strings.Fields(line)
			switch {
			case len(f) > 1 && f[0] == "Uid:":
				user = f[1] != "0"
			case len(f) > 1 && f[0] == "NSpid:":
				p.node, _ = strconv.Atoi(f[len(f)-1])
			}
		}
		if user && p.node > 1 && p.name != "mosixctl" { // that is who asks for the moves
			list = append(list, p)
		}
	}
	return list, nil
}

// About moves all processes until ctx ends. An error is about the machinery, or ctx's.
func (m *Mover) About(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, m.AtOnce)
	var mu sync.Mutex
	next := map[process]time.Time{} // when it is asked again; zero: it is on its way
	for ctx.Err() == nil {
		list, err := processes(m.Cluster, m.Home)
		if err != nil {
			return err
		}
		for _, p := range list {
			key := p
			key.name = "" // an exec changes it
			mu.Lock()
			at, seen := next[key]
			if !seen {
				at = time.Now().Add(m.Age)
				next[key] = at
			}
			due := !at.IsZero() && time.Now().After(at)
			mu.Unlock()
			if !due || ctx.Err() != nil {
				continue
			}
			select {
			case room <- struct{}{}:
			default:
				continue
			}
			mu.Lock()
			next[key] = time.Time{}
			mu.Unlock()
			to := m.Nodes[m.Rand.IntN(len(m.Nodes))]
			wg.Go(func() {
				m.move(p, to)
				<-room
				mu.Lock()
				defer mu.Unlock()
				next[key] = time.Now().Add(m.Between)
			})
		}
		time.Sleep(30 * time.Millisecond)
	}
	return ctx.Err()
}

func (m *Mover) move(p process, to id.Node) {
	target := string(to)
	if to == m.Home {
		target = api.ToHome
	}
	r, err := m.Cluster.Migrate(m.Home, cluster.User1, p.node, target)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count.Processes == nil {
		m.count.Processes, m.count.Refused = map[string]int{}, map[string]int{}
	}
	switch {
	case err != nil:
		m.count.Failed = append(m.count.Failed, fmt.Sprintf("%s (%d): %v", p.name, p.node, err))
	case r.Result == api.ResultMoved:
		m.count.Moved++
		m.count.Processes[p.name]++
		m.count.FreezeMS = append(m.count.FreezeMS, r.FreezeMS)
	case r.Result == api.ResultRefused:
		for _, why := range r.Refusals {
			if !slices.Contains(already, why.What) {
				m.count.Refused[why.What+" ("+p.name+")"]++
			}
		}
	case strings.Contains(r.Error, "has ended"), strings.Contains(r.Error, "no such process"):
	default:
		m.count.Failed = append(m.count.Failed, fmt.Sprintf("%s (%d) to %s: %s", p.name, p.node, to, r.Error))
	}
}

// already are refusals that speak of no obstacle: it is where it shall go.
var already = []string{"already-there", "moving"}
