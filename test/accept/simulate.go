package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mosix/test/cluster"
)

// laws holds the simulator to what is known of queues and of gossip, in clusters of up to 4096 nodes.
func laws(b *bench) (string, error) {
	out, took, err := b.command([]string{"LAWS=full"}, "go", "test", "-count=1", "-v", "-timeout", "30m", "-run", "TestUnbalanced|TestFluid|TestEqualJobs|TestAges", "./internal/sim")
	worst, held := 0.0, 0
	for line := range strings.Lines(out) {
		if at := strings.LastIndex(line, "("); at >= 0 && strings.HasSuffix(strings.TrimSpace(line), "% off)") && strings.Contains(line, "laws_test.go") {
			held++
			if off, err := strconv.ParseFloat(strings.Fields(line[at+1:])[0], 64); err == nil {
				worst = max(worst, off)
			}
			b.progress("%s", strings.TrimSpace(line[strings.Index(line, ": ")+2:]))
		}
	}
	if err == nil && held == 0 {
		err = errors.New("no law was looked at")
	}
	return fmt.Sprintf("%d figures, %.2f %% off at most, %.0f s", held, worst, took.Seconds()), err
}

// largeCluster plays a minute of ten thousand nodes, in bounded time and memory, with as much gossip per node as in a tenth of them.
func largeCluster(b *bench) (figures string, err error) {
	const minute, ram = 60 * time.Second, 2 << 30
	nodes := 10000
	if !b.full {
		nodes = 200
	}
	dir, err := cluster.Programs()
	if err != nil {
		return "", err
	}
	type result struct {
		Seconds    float64 `json:"simulated_seconds"`
		Gossip     float64 `json:"gossip_bytes_per_node_second"`
		Membership float64 `json:"membership_bytes_per_node_second"`
		Slowdown   float64 `json:"mean_slowdown"`
	}
	play := func(n int) (r result, took time.Duration, peak int64, err error) {
		jobs := 0.7 * float64(n) / 8 * minute.Seconds() // as many as arrive in a minute
		c := exec.CommandContext(b.ctx, filepath.Join(dir, "mosixctl"), "sim", "--json", "--nodes", strconv.Itoa(n), "--rho", "0.7", "--lifetime", "fixed:8", "--jobs", strconv.Itoa(int(jobs)), "--seed", "1")
		began := time.Now()
		out, err := c.Output()
		took = time.Since(began)
		if err != nil {
			return r, took, 0, fmt.Errorf("play %d nodes: %w", n, err)
		}
		var all struct{ Results []result }
		if err := json.Unmarshal(out, &all); err != nil || len(all.Results) != 1 {
			return r, took, 0, fmt.Errorf("play %d nodes: no result in %q: %w", n, out, err)
		}
		return all.Results[0], took, c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10, nil
	}
	few, _, _, err := play(nodes / 10)
	if err != nil {
		return "", err
	}
	many, took, peak, err := play(nodes)
	if err != nil {
		return "", err
	}
	figures = fmt.Sprintf("%.0f s of %d nodes in %.0f s, %d MiB; per node and second %.0f bytes of load gossip (%.0f with %d nodes) and %.0f of membership",
		many.Seconds, nodes, took.Seconds(), peak>>20, many.Gossip, few.Gossip, nodes/10, many.Membership)
	switch {
	case many.Seconds < minute.Seconds()*0.95:
		return figures, fmt.Errorf("only %.1f s were played", many.Seconds)
	case b.full && many.Gossip > few.Gossip*1.1, many.Gossip > 2048:
		return figures, errors.New("the load gossip of a node grows with the cluster, or is above 2 KiB a second")
	case peak > ram:
		return figures, fmt.Errorf("it took %d MiB, the limit is %d", peak>>20, ram>>20)
	}
	return figures, b.limit("a minute of the cluster", took, minute)
}
