package workloads

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/test/cluster"
)

// LevelEnv chooses how much is run: quick (the default; a round trip and three more moves) or full (each mode by itself, ten
// moves and more).
const levelEnv = "WORKLOADS"

var (
	programs *Programs
	runs     atomic.Int64
	mover    *Mover // nil until TestMoved has a cluster
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mosix-workloads-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = NewPrograms(dir)
	code := m.Run()
	if mover != nil {
		c := mover.Counted()
		slices.Sort(c.FreezeMS)
		line := fmt.Sprintf("workloads: %d runs, %d committed moves, %d refused, %d at home already", runs.Load(), c.Moved, c.Refused, c.CameHome)
		if n := len(c.FreezeMS); n > 0 {
			line += fmt.Sprintf("; freeze %.1f ms in the middle, %.1f ms at most", c.FreezeMS[n/2], c.FreezeMS[n-1])
		}
		fmt.Println(line)
	}
	cluster.RemovePrograms()
	os.RemoveAll(dir)
	os.Exit(code)
}

// build makes w's programs, or skips where this machine has no means to.
func build(t *testing.T, w Workload) {
	t.Helper()
	if _, missing := programs.BuildAll([]Workload{w}); missing[w.Name] != nil {
		if errors.Is(missing[w.Name], ErrMissing) {
			t.Skip(missing[w.Name])
		}
		t.Fatal(missing[w.Name])
	}
}

// TestNative holds the programs themselves to their promise, without any cluster: one round, and many rounds under a storm of
// stops, print the same.
func TestNative(t *testing.T) {
	for _, w := range Table() {
		if w.InNode {
			continue // it looks at a whole node: TestMoved runs it natively, too
		}
		t.Run(w.Name, func(t *testing.T) {
			t.Parallel()
			build(t, w)
			m := Machine{Bin: programs.Dir, Dir: t.TempDir()}
			once, err := Do(m, w, "native", nil)
			if err == nil {
				err = w.Check(once)
			}
			if err != nil {
				t.Fatal(err)
			}
			steps := func(pid int) error { time.Sleep(time.Second); return nil }
			if w.Stops {
				steps = func(pid int) error {
					return Storm(func() int { g, _ := syscall.Getpgid(pid); return g }, time.Second)(pid)
				}
			}
			long, err := Do(m, w, "storm", steps)
			if err == nil {
				err = w.Check(long)
			}
			if err != nil {
				t.Fatal(err)
			}
			same(t, "many rounds", once, long)
		})
	}
}

func same(t *testing.T, how string, native, r Result) {
	t.Helper()
	if string(native.Out) != string(r.Out) {
		t.Errorf("%s: it prints\n%s\nnatively\n%s\nIt says:\n%s", how, r.Out, native.Out, r.Complaints)
	}
	if native.Status != r.Status {
		t.Errorf("%s: it ends with %d, natively with %d", how, r.Status, native.Status)
	}
}

// TestMoved runs every workload natively in a node of a lab, and moved in all modes, two at a time, in one lab.
func TestMoved(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a lab")
	}
	full := os.Getenv(levelEnv) == "full"
	list := Table()
	files, _ := programs.BuildAll(list)
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("workloads-%d", os.Getpid()), Nodes: 3, Policy: "none", Bind: files})
	if err != nil {
		t.Fatal(err)
	}
	mover = &Mover{Cluster: c, Home: "n1", Others: []id.Node{"n2", "n3"}}
	// A lab ends when the last subtest has; a parallel one only starts when this function has returned.
	t.Cleanup(func() {
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	})
	for _, n := range mover.Others {
		if _, err := c.Shell(n, cluster.User1, "touch /tmp/of-the-host"); err != nil {
			t.Fatal(err)
		}
	}
	modes := []struct {
		name  string
		steps func(Workload) func(int) error
	}{
		{"round-trip", mover.RoundTrip},
		{"again", func(w Workload) func(int) error { return mover.Again(w, 3) }},
	}
	if full {
		modes[1].steps = func(w Workload) func(int) error { return mover.Again(w, 10) }
		modes = slices.Insert(modes, 0, struct {
			name  string
			steps func(Workload) func(int) error
		}{"once", mover.Once})
	}
	at := Node{Cluster: c, Name: mover.Home}
	two := make(chan struct{}, 2)
	for _, w := range list {
		t.Run(w.Name, func(t *testing.T) {
			build(t, w)
			t.Parallel()
			two <- struct{}{}
			defer func() { <-two }()
			run := func(mode string, steps func(int) error) (Result, bool) {
				runs.Add(1)
				r, err := Do(at, w, w.Name+"."+mode, steps)
				if err == nil {
					err = w.Check(r)
				}
				if err != nil {
					t.Errorf("%s: %v\n%s", mode, err, c.Says(r.PID))
				}
				return r, err == nil
			}
			native, ok := run("native", nil)
			if !ok {
				return
			}
			for _, mode := range modes {
				before := mover.Counted().Moved
				began := time.Now()
				if r, ok := run(mode.name, mode.steps(w)); ok {
					same(t, mode.name, native, r)
					t.Logf("%s: %.1f s, %s; about %d moves", mode.name, time.Since(began).Seconds(), last(r.Complaints), mover.Counted().Moved-before)
				}
			}
		})
	}
}

func last(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
