package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// spread is line 7: equal processes that need nothing but CPUs, started on one of three equal nodes.
func spread(b *bench) (figures string, err error) {
	const nodes, quota = 3, 0.5
	count, cpuSeconds, mostMoves := 9, 10, 12
	if !b.full {
		count, cpuSeconds = 3, 4
	}
	files, err := b.build("spin")
	if err != nil {
		return "", err
	}
	out, err := exec.Command(files[0], "calibrate").Output()
	if err != nil {
		return "", fmt.Errorf("calibrate: %w", err)
	}
	perSecond, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return "", fmt.Errorf("calibrate: %w", err)
	}
	work := strconv.Itoa(perSecond * cpuSeconds)
	began := time.Now()
	want, err := exec.Command(files[0], work).Output()
	if err != nil {
		return "", fmt.Errorf("an undisturbed run: %w", err)
	}
	alone := time.Since(began)
	even := time.Duration(float64(count*cpuSeconds)/(nodes*quota)) * time.Second
	b.progress("%d processes of %.1f CPU seconds; evenly split they take %.0f s", count, alone.Seconds(), even.Seconds())

	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("spread-%d", os.Getpid()), Nodes: nodes, CPUs: []float64{quota}, Policy: b.policy, Bind: files})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total time.Duration
		errs  []error
	)
	ctx, stop := context.WithTimeoutCause(b.ctx, 3*even+30*time.Second, errors.New("it did not end within three times an even split"))
	defer stop()
	began = time.Now()
	for i := range count {
		wg.Go(func() {
			var out, said bytes.Buffer
			cmd := c.CommandContext(ctx, "n1", cluster.User1, "work-spin", work)
			cmd.Stdout, cmd.Stderr = &out, &said
			err := cmd.Run()
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			total += took
			if err != nil || !bytes.Equal(out.Bytes(), want) {
				errs = append(errs, fmt.Errorf("process %d: %v (%v); it prints %q, want %q; it says %s", i, err, context.Cause(ctx), out.Bytes(), want, said.Bytes()))
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return "", errors.Join(errs...)
	}
	mean := total / time.Duration(count)
	var moves api.Moves
	if err := c.Get("n1", "/v1/moves", &moves); err != nil {
		return "", err
	}
	figures, err = judgeMoves("n1", moves.Moves, mostMoves, b.full)
	figures = fmt.Sprintf("mean completion %.1f s, %.2f of an even split; %s", mean.Seconds(), mean.Seconds()/even.Seconds(), figures)
	if err != nil {
		return figures, err
	}
	return figures, b.limit("mean completion", mean, even*13/10)
}

// judgeMoves holds moves to the limits: some, few, and none back and forth.
func judgeMoves(home id.Node, moves []api.Move, most int, limits bool) (string, error) {
	been := map[id.HomePID][]id.Node{}
	committed, back := 0, 0
	for _, m := range moves {
		if m.Result != api.ResultMoved {
			continue
		}
		committed++
		if been[m.PID] == nil {
			been[m.PID] = []id.Node{home}
		}
		for _, n := range been[m.PID] {
			if n == m.To {
				back++
			}
		}
		been[m.PID] = append(been[m.PID], m.To)
	}
	figures := fmt.Sprintf("%d moves, %d back", committed, back)
	switch {
	case committed == 0:
		return figures, errors.New("no process was moved by the balancer")
	case limits && committed > most:
		return figures, fmt.Errorf("%d moves, the limit is %d", committed, most)
	case limits && back > 0:
		return figures, fmt.Errorf("%d moves went where their process had been before", back)
	}
	return figures, nil
}
