package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
)

// What the demonstration must show to end with 0.
const (
	demoNodes     = 3
	demoCPUs      = 0.5
	demoMinMoved  = 6
	demoMinGain   = 1.5
	demoLabName   = "demo"
	demoHome      = id.Node("n1")
	demoPollEvery = time.Second
	demoPatience  = 10 * time.Minute // a machine that is slower has another problem
)

func (a *app) demoCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "demo",
		Short: "Show nine real programs spread over three small nodes by themselves",
		Long: `Make a lab of three nodes with half a CPU each and start nine real programs on the first, each with at least five seconds of
computing: once without balancing, once with. Show where they are, compare what they wrote byte for byte, and print the moves
and the speed-up. Needs root. Takes less than three minutes.

Exit status: 0 only if all outputs are equal, the balancer moved at least six processes, and the speed-up is at least 1.5.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			ctx, cancel := context.WithTimeoutCause(ctx, demoPatience, fmt.Errorf("the demonstration did not end within %s", demoPatience))
			defer cancel()
			return a.demo(ctx)
		},
	})
}

// demoRun is what one run of the nine programs gave.
type demoRun struct {
	jobs    []demoJob
	pids    map[string]id.HomePID
	done    map[string]demoEvent
	outputs map[string]string // files outside the lab
	seconds float64
	moves   []api.Move
}

func (a *app) demo(ctx context.Context) (err error) {
	src, err := goTree()
	if err != nil {
		return err
	}
	tree, err := packTree(src, demoCorpusBytes)
	if err != nil {
		return err
	}
	unlock, err := demoLock()
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := os.MkdirTemp("", "mosix-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	load := filepath.Join(dir, demoLoad)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Symlink(self, load); err != nil {
		return err
	}

	begin := time.Now()
	fmt.Fprintf(a.err, "Go sources from %s. First without balancing: three nodes of %s CPU, all programs on %s.\n", src, number(demoCPUs), demoHome)
	jobs, err := a.demoChoose(ctx, tree, load)
	if err != nil {
		return fmt.Errorf("choose the programs: %w", err)
	}
	none, err := a.demoRun(ctx, "none", tree, load, jobs, filepath.Join(dir, "none"))
	if err != nil {
		return fmt.Errorf("run without balancing: %w", err)
	}
	for i, j := range jobs {
		jobs[i].Rounds = none.done[j.Name].Rounds
	}
	fmt.Fprintf(a.err, "All done after %.1f s. Now with balancing.\n", none.seconds)
	moved, err := a.demoRun(ctx, "", tree, load, jobs, filepath.Join(dir, "mosix"))
	if err != nil {
		return fmt.Errorf("run with balancing: %w", err)
	}
	report, err := judge(none, moved)
	if err != nil {
		return err
	}
	report.TotalSeconds = time.Since(begin).Seconds()
	if a.json {
		err = a.printJSON(report)
	} else {
		err = a.printDemo(report)
	}
	if err == nil && !report.OK {
		err = exitWith(ExitFailed, errors.New("the demonstration did not show what it must: "+strings.Join(report.Missing, "; ")))
	}
	return err
}

// demoLock makes the demonstration the only one, and clears away what a killed one left.
func demoLock() (unlock func(), err error) {
	f, err := os.OpenFile("/run/mosix-demo.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the demonstration needs root: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another demonstration runs on this machine; wait for its end")
	}
	unlock = func() {
		os.Remove(f.Name())
		f.Close()
	}
	if l, err := lab.Open(demoLabName); err == nil {
		if err := l.Down(); err != nil {
			unlock()
			return nil, fmt.Errorf("clear away the lab of a demonstration that was killed: %w", err)
		}
	}
	return unlock, nil
}

// demoChoose finds out on a node without a limit what is installed for the lab's users.
func (a *app) demoChoose(ctx context.Context, tree []byte, load string) (jobs []demoJob, err error) {
	l, err := lab.Up(lab.Options{Name: demoLabName, Nodes: 1, NoAgents: true, Bind: []string{load}, Cancel: ctx.Done()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	cmd := l.CommandContext(ctx, demoHome, lab.As{}, "mosixctl", "demo-node")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(tree), a.err
	out, err := cmd.Output()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	var e demoEvent
	if err := json.Unmarshal(out, &e); err != nil || len(e.Jobs) == 0 {
		return nil, fmt.Errorf("%q names no programs: %w", out, err)
	}
	return e.Jobs, nil
}

// demoRun makes a lab with the policy, runs the programs in it and ends the lab. Outputs are written below dir.
func (a *app) demoRun(ctx context.Context, policy string, tree []byte, load string, jobs []demoJob, dir string) (r *demoRun, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := lab.Up(lab.Options{Name: demoLabName, Nodes: demoNodes, CPUs: []float64{demoCPUs}, Policy: policy, Bind: []string{load}, Cancel: ctx.Done()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Down()) }()

	plan, err := json.Marshal(jobs)
	if err != nil {
		return nil, err
	}
	cmd := l.CommandContext(ctx, demoHome, lab.As{}, "mosixctl", "demo-node", "--plan", string(plan))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(tree), a.err
	events, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	defer events.Close()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r = &demoRun{jobs: jobs, pids: map[string]id.HomePID{}, done: map[string]demoEvent{}, outputs: map[string]string{}}
	read := make(chan demoEvent)
	failed := make(chan error, 1)
	go func() {
		failed <- readDemoEvents(events, dir, func(e demoEvent) { read <- e })
		close(read)
	}()
	live := liveTable{app: a, run: r, begin: time.Now()}
	tick := time.NewTicker(demoPollEvery)
	defer tick.Stop()
	for open := true; open; {
		select {
		case e, ok := <-read:
			if open = ok; ok {
				r.note(e, dir)
			}
			if e.Event == "started" && len(r.pids) == len(jobs) {
				live.begin = time.Now()
				fmt.Fprintf(a.err, "Started %s: %s.\n", count(len(jobs), "program"), jobNames(jobs))
			}
		case <-tick.C:
			var ps api.Processes
			if err := l.Get(demoHome, "/v1/processes?all=1", &ps); err == nil { // a table that is missed is shown a second later
				live.show(ps)
			}
		}
	}
	live.clear()
	if err := errors.Join(<-failed, cmd.Wait()); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	if len(r.outputs) != len(jobs) || r.seconds == 0 {
		return nil, fmt.Errorf("the run on %s ended early: %d of %d outputs came", demoHome, len(r.outputs), len(r.jobs))
	}
	var ms api.Moves
	if err := l.Get(demoHome, "/v1/moves", &ms); err != nil {
		return nil, err
	}
	r.moves = ms.Moves
	return r, nil
}

func jobNames(jobs []demoJob) string {
	names := make([]string, len(jobs))
	for i, j := range jobs {
		names[i] = j.Name
	}
	return strings.Join(names, ", ")
}

func (r *demoRun) note(e demoEvent, dir string) {
	switch e.Event {
	case "started":
		r.pids[e.Name] = id.HomePID(e.PID)
	case "done":
		r.done[e.Name] = e
	case "output":
		r.outputs[e.Name] = outputFile(dir, e.Name)
	case "end":
		r.seconds = e.Seconds
	}
}

func outputFile(dir, name string) string { return filepath.Join(dir, filepath.Base(name)+".out") }

// readDemoEvents reads what demo-node writes, and puts outputs into files below dir.
func readDemoEvents(r io.Reader, dir string, each func(demoEvent)) error {
	br := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := br.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read from the programs' node: %w", err)
		}
		var e demoEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("read from the programs' node: %w in %q", err, line)
		}
		if e.Event == "output" {
			f, err := os.Create(outputFile(dir, e.Name))
			if err != nil {
				return err
			}
			_, err = io.CopyN(f, br, e.Bytes)
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("take the output of %s: %w", e.Name, err)
			}
		}
		each(e)
	}
}

// liveTable shows where each program is: on a terminal a table that is drawn over itself, otherwise a line whenever that
// changes.
type liveTable struct {
	*app
	run   *demoRun
	begin time.Time
	lines int    // drawn, to be drawn over
	last  string // written last
}

func (l *liveTable) show(ps api.Processes) {
	byPID := map[id.HomePID]api.Process{}
	for _, p := range ps.Processes {
		if p.Home == demoHome {
			byPID[p.PID] = p
		}
	}
	t := table{columns: []column{{title: "PROGRAM"}, {"PID", true}, {title: "WHERE"}, {title: "STATE"}, {"CPU", true}, {"MOVES", true}}}
	on := map[id.Node][]string{}
	for _, j := range l.run.jobs {
		pid, started := l.run.pids[j.Name]
		if !started {
			return
		}
		if d, ok := l.run.done[j.Name]; ok {
			t.add(j.Name, fmt.Sprint(pid), "-", fmt.Sprintf("done after %.0f s", d.Seconds), "-", "-")
			continue
		}
		p, ok := byPID[pid]
		if !ok {
			continue // ends just now
		}
		on[p.Where] = append(on[p.Where], j.Name)
		t.add(j.Name, fmt.Sprint(pid), string(p.Where), p.State, humanCPU(p.CPUSeconds), fmt.Sprint(p.Moves))
	}
	if len(t.rows) == 0 {
		return
	}
	if l.width > 0 && !l.json {
		l.clear()
		var b bytes.Buffer
		fmt.Fprintf(&b, "%4.0f s\n", time.Since(l.begin).Seconds())
		_ = t.print(&b, l.width-1) // a buffer takes all
		l.lines = bytes.Count(b.Bytes(), []byte{'\n'})
		_, _ = l.out.Write(b.Bytes()) // the verdict at the end reports a broken output
		return
	}
	var where []string
	for i := range demoNodes {
		n := id.Node(fmt.Sprintf("n%d", i+1))
		slices.Sort(on[n])
		where = append(where, fmt.Sprintf("%s: %s", n, firstOf(strings.Join(on[n], " "), "-")))
	}
	if line := strings.Join(where, "   "); line != l.last {
		l.last = line
		fmt.Fprintf(l.err, "%4.0f s  %s\n", time.Since(l.begin).Seconds(), line)
	}
}

// clear takes the table off the terminal.
func (l *liveTable) clear() {
	if l.lines > 0 {
		fmt.Fprintf(l.out, "\x1b[%dA\x1b[J", l.lines)
		l.lines = 0
	}
}
