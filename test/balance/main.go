// Command balance writes docs/balancing.md: how the policies fare in the simulator, beside the goals. What has been played is kept, so
// that it can be stopped and goes on where it was.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"mosix/internal/sim"
)

// The cells of the report. Constants are tuned on seeds from 100 on.
var (
	sizes    = []int{16, 64, 256}
	loads    = []float64{0.5, 0.7, 0.8, 0.9}
	seeds    = []uint64{1, 2, 3}
	policies = []string{"none", "mosix", "hbd", "default", "jsq", "oracle"}
)

func main() {
	out := flag.String("out", "docs/balancing.md", "the report")
	kept := flag.String("keep", "bin/balance.jsonl", "what has been played, a result in each line")
	jobs := flag.Int("jobs", 20000, "jobs in each run")
	only := flag.Bool("report", false, "play nothing: write what has been played up to now")
	flag.Parse()
	if err := run(*out, *kept, *jobs, *only); err != nil {
		fmt.Fprintln(os.Stderr, "balance:", err)
		os.Exit(1)
	}
}

// key names a run.
type key struct {
	nodes  int
	rho    float64
	seed   uint64
	policy string
}

func run(out, kept string, jobs int, only bool) error {
	have, err := load(kept, jobs)
	if err != nil {
		return err
	}
	var missing []key
	for _, n := range sizes {
		for _, rho := range loads {
			for _, seed := range seeds {
				for _, p := range policies {
					if k := (key{n, rho, seed, p}); have[k] == nil {
						missing = append(missing, k)
					}
				}
			}
		}
	}
	if only {
		return os.WriteFile(out, []byte(report(have, jobs)), 0o644)
	}
	f, err := os.OpenFile(kept, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		next     atomic.Int64
		stopped  atomic.Bool
		failures []error
	)
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, os.Interrupt, syscall.SIGTERM)
	go func() { <-quit; stopped.Store(true) }()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stopped.Load() {
				i := int(next.Add(1)) - 1
				if i >= len(missing) {
					return
				}
				k := missing[i]
				r, err := sim.Run(sim.Config{Nodes: k.nodes, Rho: k.rho, Jobs: jobs, Policy: k.policy, Seed: k.seed, Warmup: warmup})
				mu.Lock()
				if err == nil {
					have[k] = &r
					err = json.NewEncoder(f).Encode(r)
				}
				if err != nil {
					failures = append(failures, fmt.Errorf("%+v: %w", k, err))
				}
				fmt.Printf("%d of %d: %d nodes, rho %.1f, seed %d, %s: slowdown %.3f\n", i+1, len(missing), k.nodes, k.rho, k.seed, k.policy, r.MeanSlowdown)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if stopped.Load() {
		failures = append(failures, errors.New("stopped; what has been played is kept"))
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	return os.WriteFile(out, []byte(report(have, jobs)), 0o644)
}

const warmup = 0.15

// load reads what has been played with so many jobs in a run.
func load(kept string, jobs int) (map[key]*sim.Result, error) {
	have := map[key]*sim.Result{}
	b, err := os.ReadFile(kept)
	if errors.Is(err, fs.ErrNotExist) {
		return have, nil
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		r := &sim.Result{}
		if err := json.Unmarshal(lines.Bytes(), r); err != nil {
			continue // it was stopped while it wrote
		}
		if r.Jobs == jobs-int(warmup*float64(jobs)) {
			have[key{r.Nodes, r.Rho, r.Seed, r.Policy}] = r
		}
	}
	return have, lines.Err()
}

// complete tells whether a cell has been played.
func complete(have map[key]*sim.Result, n int, rho float64) bool {
	for _, seed := range seeds {
		for _, p := range policies {
			if have[key{n, rho, seed, p}] == nil {
				return false
			}
		}
	}
	return true
}

// mean is that of a figure over the seeds of a cell.
func mean(have map[key]*sim.Result, n int, rho float64, policy string, figure func(*sim.Result) float64) float64 {
	sum := 0.0
	for _, seed := range seeds {
		sum += figure(have[key{n, rho, seed, policy}])
	}
	return sum / float64(len(seeds))
}

func report(have map[key]*sim.Result, jobs int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# How processes spread

Made by `+"`make balance-report`"+` with the simulator (internal/sim), which runs the gossip and the policies of the agents: %d jobs in each run, the
first %.0f %% not counted, lifetimes pareto:1:1:3600 (s), memory lognormal:32MiB:1, a move stops a process for 100 ms and its memory at
100 MiB/s, a start elsewhere costs 50 ms. Means of seeds %v; constants were tuned on others. What the policies are stands in
their files in `+"`balancer`"+`; jsq knows all queues when it places a job, oracle steals besides and knows all remaining times, and B is
the better of these two in a cell.

## Mean slowdown: response time by CPU time

| nodes | rho | %s | default / B | goal |
|---|---|%s---|---|
`, jobs, 100*warmup, seeds, strings.Join(policies, " | "), strings.Repeat("---|", len(policies)))
	slowdown := func(r *sim.Result) float64 { return r.MeanSlowdown }
	missed, missing := 0, 0
	for _, n := range sizes {
		for _, rho := range loads {
			if !complete(have, n, rho) {
				missing++
				continue
			}
			fmt.Fprintf(&b, "| %d | %.1f |", n, rho)
			for _, p := range policies {
				fmt.Fprintf(&b, " %.3f |", mean(have, n, rho, p, slowdown))
			}
			best := math.Min(mean(have, n, rho, "jsq", slowdown), mean(have, n, rho, "oracle", slowdown))
			goal := 1.03
			if rho > 0.8 {
				goal = 1.10
			}
			ratio := mean(have, n, rho, "default", slowdown) / best
			verdict := ""
			if ratio > goal {
				verdict, missed = " missed", missed+1
			}
			fmt.Fprintf(&b, " %.3f | %.2f%s |\n", ratio, goal, verdict)
		}
	}
	fmt.Fprintf(&b, "\n## The default policy besides\n\n| nodes | rho | p99 slowdown | of the oracle | goal 1.3 | moves of a process | most | starts elsewhere | mosix / default | gossip, bytes/s | mean age, periods |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, n := range sizes {
		for _, rho := range loads {
			if !complete(have, n, rho) {
				continue
			}
			p99 := func(r *sim.Result) float64 { return r.P99Slowdown }
			ours, theirs := mean(have, n, rho, "default", p99), mean(have, n, rho, "oracle", p99)
			verdict := ""
			if ours > 1.3*theirs {
				verdict, missed = " missed", missed+1
			}
			most := 0
			for _, seed := range seeds {
				most = max(most, have[key{n, rho, seed, "default"}].MostMoves)
			}
			at := func(figure func(*sim.Result) float64) float64 { return mean(have, n, rho, "default", figure) }
			fmt.Fprintf(&b, "| %d | %.1f | %.2f | %.2f | %.2f%s | %.3f | %d | %.3f | %.2f | %.0f | %.2f |\n", n, rho, ours, theirs, ours/theirs, verdict,
				at(func(r *sim.Result) float64 { return r.MovesPerProcess }), most, at(func(r *sim.Result) float64 { return r.RemoteStartsPerProcess }),
				mean(have, n, rho, "mosix", slowdown)/mean(have, n, rho, "default", slowdown),
				at(func(r *sim.Result) float64 { return r.GossipBytesPerNodeSecond }), at(func(r *sim.Result) float64 { return r.GossipAgeMean }))
		}
	}
	cells := len(sizes) * len(loads)
	fmt.Fprintf(&b, "\nGoals missed: %d of %d.\n", missed, 2*(cells-missing))
	if missing > 0 {
		fmt.Fprintf(&b, "\n%d of %d cells are not played yet; `make balance-report` goes on where it was.\n", missing, cells)
	}
	return b.String()
}
