package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// ownerReturns has guests of 64 MiB leave when the owner of their host comes back.
func ownerReturns(b *bench) (figures string, err error) {
	const guests, limit = 8, 5 * time.Second
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("owner-%d", os.Getpid()), Nodes: 2, Policy: "none"})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	var pids []int
	for range guests {
		out, err := c.Shell("n1", cluster.User1, "mosixctl bench-load --size 64MiB --dirty 10% > /dev/null 2>&1 & echo $!")
		pid, err2 := strconv.Atoi(strings.TrimSpace(out))
		if err = errors.Join(err, err2); err != nil {
			return "", err
		}
		pids = append(pids, pid)
	}
	defer func() { _, _ = c.Shell("n1", cluster.User1, strings.Trim(fmt.Sprint("kill ", pids), "[]")) }()
	time.Sleep(2 * time.Second) // until all have filled their memory
	for _, pid := range pids {
		if r, err := c.Migrate("n1", cluster.User1, pid, "n2"); err != nil || r.Result != api.ResultMoved {
			return "", fmt.Errorf("move %d: %w %s %v %s", pid, err, r.Result, r.Refusals, r.Error)
		}
	}
	away := func() (n, gone int) {
		for _, pid := range pids {
			switch p, err := c.Process("n1", pid); {
			case err != nil:
				gone++
			case p.Where == "n2":
				n++
			}
		}
		return n, gone
	}
	if n, gone := away(); n != guests || gone > 0 {
		return "", fmt.Errorf("%d guests are there and %d have ended, before the owner comes", n, gone)
	}
	began := time.Now()
	if _, err := c.Shell("n2", cluster.Root, "mosixctl owner here"); err != nil {
		return "", err
	}
	for {
		n, gone := away()
		if gone > 0 {
			return "", fmt.Errorf("%d guests were lost", gone)
		}
		if n == 0 {
			break
		}
		if time.Since(began) > 60*time.Second {
			return "", fmt.Errorf("%d guests are there still after a minute", n)
		}
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(began)
	exported, err := c.Shell("n2", cluster.Root, "curl -s --max-time 10 http://127.0.0.1:9464/metrics | grep '^mosix_owner_return_\\(seconds_sum\\|guests_total\\)'")
	if err != nil || !strings.Contains(exported, fmt.Sprintf("mosix_owner_return_guests_total{outcome=\"went\"} %d", guests)) {
		return "", fmt.Errorf("the metrics do not tell: %w\n%s", err, exported)
	}
	figures = fmt.Sprintf("%d guests of 64 MiB gone after %.2f s, none lost", guests, took.Seconds())
	return figures, b.limit("their going", took, limit)
}

// usher has a process grow until its node is short of memory.
func usher(b *bench) (figures string, err error) {
	const mib, seconds = 490, 20
	files, err := b.build("grow")
	if err != nil {
		return "", err
	}
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("memory-%d", os.Getpid()), Nodes: 2, Memory: 512 << 20, Policy: "default", Bind: files})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	out, err := c.Shell("n1", cluster.User1, fmt.Sprintf("work-grow %d %d", mib, seconds))
	if err != nil {
		return "", fmt.Errorf("it did not come to its end: %w", err)
	}
	sum := 0
	for i := range mib {
		sum += (i%251 + 1) * 2048
	}
	if want := fmt.Sprintf("%d MiB, sum %d", mib, sum); strings.TrimSpace(out) != want {
		return "", fmt.Errorf("it printed %q, want %q", out, want)
	}
	var moves api.Moves
	if err := c.Mosixctl("n1", cluster.Root, &moves, "moves", "--json"); err != nil {
		return "", err
	}
	for _, m := range moves.Moves {
		if m.Cause == api.CauseBalancer && m.Result == api.ResultMoved && m.To == "n2" {
			return fmt.Sprintf("a process that grew to %d of 512 MiB went, %d MiB in all rounds, frozen for %.1f ms, and ended with the right sum", mib, m.Bytes>>20, m.FreezeMS), nil
		}
	}
	events, _ := c.Shell("n1", cluster.Root, "mosixctl events | tail -5") // nothing to lose
	return "", fmt.Errorf("nobody was ushered out; the events end:\n%s", events)
}
