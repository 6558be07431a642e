package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/node/control"
)

// benchReport is what bench move --json prints.
type benchReport struct {
	Target  id.Node    `json:"target"`
	Results []benchRow `json:"results"`
}

// benchRow holds the medians of the moves of one load in one direction with one strategy.
type benchRow struct {
	SizeBytes    uint64  `json:"size_bytes"`
	DirtyPercent float64 `json:"dirty_percent_per_second"`
	Direction    string  `json:"direction"` // out or home
	Strategy     string  `json:"strategy"`
	Moves        int     `json:"moves"`
	FreezeMS     float64 `json:"freeze_ms"`
	FreezeMaxMS  float64 `json:"freeze_max_ms"`
	TotalMS      float64 `json:"total_ms"`
	Bytes        uint64  `json:"bytes"`
	Rounds       int     `json:"rounds"`
}

func (a *app) benchCommand() *cobra.Command {
	bench := &cobra.Command{Use: "bench", Short: "Measure", Args: cobra.NoArgs}
	b := benchMove{app: a}
	c := a.jsonFlag(&cobra.Command{
		Use:   "move",
		Short: "Measure moves of processes of several sizes, by precopy and by stop-and-copy",
		Long: `Start a program that holds memory, idle or writing a share of it, move it to another node and home again several times by
precopy, then by stop-and-copy, and print the medians. Without an agent on this machine, a lab of two nodes is made for it
(which needs root).`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			if err := b.parse(); err != nil {
				return exitWith(ExitUsage, err)
			}
			return b.run(ctx)
		},
	})
	c.Flags().StringSliceVar(&b.sizeWords, "sizes", []string{"4MiB", "64MiB", "256MiB", "1GiB"}, "memory of the program")
	c.Flags().StringSliceVar(&b.dirtyWords, "dirty", []string{"0%", "10%"}, "share of its pages that it writes per second")
	c.Flags().IntVar(&b.repeat, "repeat", 5, "moves there and home for each line")
	c.Flags().StringVar(&b.to, "to", "", "node to move to (default: the least loaded other node)")
	bench.AddCommand(c, a.benchBalanceCommand())
	return bench
}

type benchMove struct {
	*app
	sizeWords, dirtyWords []string
	sizes                 []uint64
	dirty                 []float64
	repeat                int
	to                    string
}

func (b *benchMove) parse() error {
	b.sizes, b.dirty = nil, nil
	for _, s := range b.sizeWords {
		n, err := config.ParseBytes(s)
		if err != nil {
			return err
		}
		b.sizes = append(b.sizes, n)
	}
	for _, s := range b.dirtyWords {
		f, err := parsePercent(s)
		if err != nil {
			return err
		}
		b.dirty = append(b.dirty, f)
	}
	if b.repeat < 1 {
		return fmt.Errorf("--repeat %d: want at least 1", b.repeat)
	}
	return nil
}

// run measures in the cluster that this machine belongs to, or in a lab.
func (b *benchMove) run(ctx context.Context) error {
	st, err := b.client().Status(ctx)
	if errors.Is(err, control.ErrUnreachable) && b.to == "" {
		return b.inLab(ctx, err)
	}
	if err != nil {
		return err
	}
	target, err := b.target(st)
	if err != nil {
		return err
	}
	report := benchReport{Target: target, Results: []benchRow{}}
	for _, size := range b.sizes {
		for _, dirty := range b.dirty {
			for _, strategy := range []string{api.Precopy, api.StopAndCopy} {
				fmt.Fprintf(b.err, "%s, %s%% of the pages written per second, %s\n", humanBytes(size), number(dirty), strategy)
				rows, err := b.measure(ctx, target, size, dirty, strategy)
				if err != nil {
					return fmt.Errorf("bench of %s: %w", humanBytes(size), err)
				}
				report.Results = append(report.Results, rows...)
			}
		}
	}
	if b.json {
		return b.printJSON(report)
	}
	return b.print(report)
}

func (b *benchMove) target(st api.Status) (id.Node, error) {
	nodes := slices.DeleteFunc(slices.Clone(st.Nodes), func(n api.Node) bool {
		return n.Self || n.State != api.NodeAlive || b.to != "" && string(n.Name) != b.to
	})
	if len(nodes) == 0 {
		return "", errors.New("no other node to move to is alive; see mosixctl status")
	}
	return slices.MinFunc(nodes, func(x, y api.Node) int {
		if x.Load < y.Load {
			return -1
		}
		return 1
	}).Name, nil
}

// inLab runs the same command on the first node of a lab made for it, as an ordinary user.
func (b *benchMove) inLab(ctx context.Context, why error) (err error) {
	fmt.Fprintf(b.err, "%v\nmeasuring in a lab of two nodes instead\n", why)
	l, err := lab.Up(lab.Options{Name: "bench", Nodes: 2, Policy: "none", Cancel: ctx.Done()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	args := []string{
		"bench", "move", "--to", "n2", "--repeat", strconv.Itoa(b.repeat),
		"--sizes", strings.Join(b.sizeWords, ","), "--dirty", strings.Join(b.dirtyWords, ","),
	}
	if b.json {
		args = append(args, "--json")
	}
	cmd := l.CommandContext(ctx, "n1", lab.As{}, "mosixctl", args...)
	cmd.Stdout, cmd.Stderr = b.out, b.err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("bench in the lab: %w", err)
	}
	return nil
}

// settle is the pause between two moves: memory is given back and caches are warm again.
const settle = 200 * time.Millisecond

// measure moves one load there and home again and again.
func (b *benchMove) measure(ctx context.Context, target id.Node, size uint64, dirty float64, strategy string) ([]benchRow, error) {
	load, err := b.start(size, dirty)
	if err != nil {
		return nil, err
	}
	defer load.end()
	var out, home []api.MigrateResult
	for range b.repeat {
		for _, leg := range []struct {
			to   string
			into *[]api.MigrateResult
		}{{string(target), &out}, {api.ToHome, &home}} {
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(settle):
			}
			res, err := migrate(b.client().Migrate(ctx, api.MigrateRequest{
				PID: id.HomePID(load.cmd.Process.Pid), To: leg.to, Strategy: strategy, AllowPrivileged: os.Geteuid() == 0,
			}))
			if err != nil {
				return nil, err
			}
			if res.Result != api.ResultMoved {
				return nil, fmt.Errorf("move to %s was %s: %s", leg.to, res.Result, firstOf(res.Error, res.Refusals.String()))
			}
			*leg.into = append(*leg.into, res)
		}
	}
	rows := []benchRow{summary(size, dirty, "out", strategy, out)}
	// The host of a guest decides by itself how it goes home: it copies ahead where it can.
	if strategy == api.Precopy || home[0].Strategy != api.Precopy {
		rows = append(rows, summary(size, dirty, "home", strategy, home))
	}
	return rows, nil
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func summary(size uint64, dirty float64, direction, strategy string, moves []api.MigrateResult) benchRow {
	pick := func(f func(api.MigrateResult) float64) []float64 {
		var v []float64
		for _, m := range moves {
			v = append(v, f(m))
		}
		return v
	}
	freeze := pick(func(m api.MigrateResult) float64 { return m.FreezeMS })
	return benchRow{
		SizeBytes: size, DirtyPercent: dirty, Direction: direction, Strategy: strategy, Moves: len(moves),
		FreezeMS: median(freeze), FreezeMaxMS: slices.Max(freeze),
		TotalMS: median(pick(func(m api.MigrateResult) float64 { return m.TotalMS })),
		Bytes:   uint64(median(pick(func(m api.MigrateResult) float64 { return float64(m.Bytes) }))),
		Rounds:  int(median(pick(func(m api.MigrateResult) float64 { return float64(m.Rounds) }))),
	}
}

// median of v, which is not empty; of two in the middle, the mean.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// benchProcess is a running bench-load.
type benchProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func (b *benchMove) start(size uint64, dirty float64) (*benchProcess, error) {
	cmd := exec.Command("/proc/self/exe", "bench-load", "--size", strconv.FormatUint(size, 10), "--dirty", number(dirty)+"%")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the load: %w", err)
	}
	p := &benchProcess{cmd, stdin}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		p.end()
		return nil, fmt.Errorf("the load did not start: it said %q, then %w", line, err)
	}
	return p, nil
}

func (p *benchProcess) end() {
	p.stdin.Close()
	_ = p.cmd.Process.Kill() // it may have ended by its standard input
	_ = p.cmd.Wait()         // its status is that of the kill
}

func (b *benchMove) print(r benchReport) error {
	t := table{columns: []column{
		{"SIZE", true}, {"DIRTY/S", true}, {title: "MOVE"}, {"FREEZE", true}, {"(MAX)", true}, {"TOTAL", true}, {"SENT", true}, {"ROUNDS", true},
		{"STOP-AND-COPY FREEZE", true}, {"TOTAL", true},
	}}
	for _, row := range r.Results {
		if row.Strategy != api.Precopy {
			continue
		}
		cells := []string{
			humanBytes(row.SizeBytes), number(row.DirtyPercent) + "%", row.Direction, humanMS(row.FreezeMS), humanMS(row.FreezeMaxMS),
			humanMS(row.TotalMS), humanBytes(row.Bytes), strconv.Itoa(row.Rounds), "-", "-",
		}
		for _, other := range r.Results {
			if other.Strategy == api.StopAndCopy && other.SizeBytes == row.SizeBytes && other.DirtyPercent == row.DirtyPercent && other.Direction == row.Direction {
				cells[8], cells[9] = humanMS(other.FreezeMS), humanMS(other.TotalMS)
			}
		}
		t.add(cells...)
	}
	fmt.Fprintf(b.out, "moves to %s and home, medians of %d\n", r.Target, b.repeat)
	return t.print(b.out, b.width)
}
