package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/internal/procfs"
	"mosix/test/cluster"
	"mosix/test/software"
	"mosix/test/workloads"
)

// soakKinds are the workloads of the soak: they compute, make children and threads, execute programs, signal, wait, and use
// files, pipes and sockets. The last two do not hold for half an hour yet: the small size has others in their place.
var soakKinds = []string{"compute", "threads", "heap", "writer", "pipe", "children", "objects", "shell", "rtsignals", "timers"}

// soak has thirty processes of ten kinds run side by side, each again and again, while all that they make is moved at random.
func soak(b *bench) (figures string, err error) {
	each, lasts, kinds := 3, 30*time.Minute, soakKinds
	if !b.full {
		each, lasts, kinds = 1, 2*time.Minute, slices.Concat(soakKinds[:8], []string{"reader", "areas"})
	}
	var list []workloads.Workload
	for _, w := range workloads.Table() {
		if slices.Contains(kinds, w.Name) && (b.match == nil || b.match.MatchString(w.Name)) {
			list = append(list, w)
		}
	}
	if len(list) == 0 {
		return "", fmt.Errorf("none of the kinds %v is asked for", kinds)
	}
	files, missing := b.programs.BuildAll(list)
	for name, why := range missing {
		return "", fmt.Errorf("%s: %w", name, why)
	}
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("soak-%d", os.Getpid()), Nodes: 3, Policy: "none", LogLevel: os.Getenv("SOAK_LOG"), Bind: files})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	n1 := workloads.Node{Cluster: c, Name: "n1"}
	want := map[string][]byte{}
	for _, w := range list {
		r, err := workloads.Do(n1, w, "native", nil)
		if err == nil {
			err = w.Check(r)
		}
		if err != nil {
			return "", fmt.Errorf("%s, unmoved: %w", w.Name, err)
		}
		want[w.Name] = r.Out
	}
	// An agent that has worked once keeps its connections.
	first := &workloads.Mover{Cluster: c, Home: "n1", Others: []id.Node{"n2", "n3"}}
	if _, err := workloads.Do(n1, list[0], "first", first.Again(list[0], 4)); err != nil {
		return "", fmt.Errorf("%s, moved alone: %w", list[0].Name, err)
	}
	before, err := traces(c)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(b.ctx, lasts)
	defer cancel()
	m := &software.Mover{Cluster: c, Home: "n1", Nodes: []id.Node{"n1", "n2", "n3"}, Age: 200 * time.Millisecond, Between: 2 * time.Second, AtOnce: 2,
		Rand: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))}
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		runs   int
		wrong  []string
		moving = make(chan error, 1)
	)
	go func() { moving <- m.About(ctx) }()
	for slot := range each * len(kinds) {
		w := list[slot%len(list)]
		wg.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				run := fmt.Sprintf("soak.%d.%d", slot, round)
				r, err := workloads.Do(n1, w, run, func(int) error {
					select {
					case <-ctx.Done():
					case <-time.After(time.Duration(10+(slot*7+round*13)%30) * time.Second):
					}
					return nil
				})
				if err == nil {
					err = w.Check(r)
				}
				if err == nil && !bytes.Equal(r.Out, want[w.Name]) {
					err = fmt.Errorf("it prints\n%s\ninstead of\n%s", tail(string(r.Out), 10), tail(string(want[w.Name]), 10))
				}
				mu.Lock()
				runs++
				if err != nil {
					wrong = append(wrong, fmt.Sprintf("%s, run %d of slot %d: %v\n%s", w.Name, round, slot, err, c.Says(r.PID)))
					b.progress("%s", wrong[len(wrong)-1])
				}
				mu.Unlock()
			}
		})
	}
	tick := time.NewTicker(max(lasts/10, 20*time.Second))
	defer tick.Stop()
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	for running := true; running; {
		select {
		case <-over:
			running = false
		case <-tick.C:
			mu.Lock()
			b.progress("%d runs, %d moves, %d wrong", runs, m.Counted().Moved, len(wrong))
			mu.Unlock()
		}
	}
	n := m.Counted()
	if merr := <-moving; !errors.Is(merr, context.DeadlineExceeded) {
		wrong = append(wrong, fmt.Sprintf("the moving ended early: %v", merr))
	}
	if n.Moved == 0 {
		wrong = append(wrong, "nothing was moved")
	}
	figures = fmt.Sprintf("%d runs of %d kinds side by side for %.0f s, %d moves, refused: %s; %d failed", runs, len(list), lasts.Seconds(), n.Moved, software.Most(n.Refused), len(n.Failed))
	for _, f := range n.Failed[:min(5, len(n.Failed))] {
		b.progress("a move failed: %s", f)
	}
	if b.ctx.Err() != nil {
		return figures, b.ctx.Err()
	}
	var left []string
	if _, ok := cluster.Until(20*time.Second, func() bool {
		after, terr := traces(c)
		if terr != nil {
			err = terr
			return true
		}
		left = leaks(before, after)
		return len(left) == 0
	}); !ok {
		wrong = append(wrong, "left behind: "+strings.Join(left, "; "))
	}
	if len(wrong) > 0 {
		err = errors.Join(err, errors.New(strings.Join(wrong, "\n")))
	}
	return figures, err
}

// trace is what the work of a node's agent leaves, if it leaves anything.
type trace struct {
	descriptors, threads, processes, cgroups int
	memory                                   uint64 // of the agent, bytes
}

// traces looks at all nodes, and the memory that this machine has for files without a name, in bytes.
func traces(c *cluster.Cluster) (map[string]trace, error) {
	out := map[string]trace{}
	parents := map[int][]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if st, err := procfs.Default.Stat(pid); err == nil { // else it has ended
				parents[st.PPID] = append(parents[st.PPID], pid)
			}
		}
	}
	for _, n := range c.Nodes() {
		a, err := c.Agent(n.Name)
		if err != nil {
			return nil, err
		}
		var t trace
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.HostPID))
		if err != nil {
			return nil, err
		}
		st, err := procfs.Default.Stat(a.HostPID)
		if err != nil {
			return nil, err
		}
		status, err := procfs.Default.Status(a.HostPID)
		if err != nil {
			return nil, err
		}
		t.descriptors, t.threads, t.memory = len(fds), st.Threads, status.VMRSSBytes
		init, err := c.HostPID(n.Name, 1)
		if err != nil {
			return nil, err
		}
		for queue := []int{init}; len(queue) > 0; queue = queue[1:] {
			t.processes += len(parents[queue[0]])
			queue = append(queue, parents[queue[0]]...)
		}
		for _, dir := range n.Guests {
			groups, err := filepath.Glob(filepath.Join(dir, "*-*-*"))
			if err != nil {
				return nil, err
			}
			t.cgroups += len(groups)
		}
		out[string(n.Name)] = t
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Shmem:" {
			kib, _ := strconv.ParseUint(f[1], 10, 64)
			out["memory without a name"] = trace{memory: kib << 10}
		}
	}
	return out, nil
}

// leaks says what there is more of afterwards, beyond what an agent that has worked keeps at hand.
func leaks(before, after map[string]trace) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		x, y := before[name], after[name]
		const someFDs, someThreads, someMemory = 16, 64, 128 << 20
		if y.descriptors > x.descriptors+someFDs || y.threads > x.threads+someThreads || y.processes > x.processes || y.cgroups > x.cgroups || y.memory > x.memory+someMemory {
			out = append(out, fmt.Sprintf("%s had %d descriptors, %d threads, %d processes, %d cgroups, %d MiB, has %d, %d, %d, %d, %d", name,
				x.descriptors, x.threads, x.processes, x.cgroups, x.memory>>20, y.descriptors, y.threads, y.processes, y.cgroups, y.memory>>20))
		}
	}
	return out
}
