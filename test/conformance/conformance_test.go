package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/test/cluster"
)

// levelEnv chooses how much is run: quick (the default: each case at home, away, and for a second moved all the time) or full (moved
// longer, and every mutation is tried).
const levelEnv = "CONFORMANCE"

// onlyEnv holds a regular expression: only the cases, such as exec/exec_of_a_script, that it finds are run.
const onlyEnv = "CONFORMANCE_ONLY"

// atOnce is the number of cases that run side by side: most of their time they wait.
const atOnce = 8

var (
	built    *Suite
	buildErr error
	runner   *Runner
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mosix-conformance-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if only, err := regexp.Compile(os.Getenv(onlyEnv)); err != nil {
		buildErr = fmt.Errorf("%s: %w", onlyEnv, err)
	} else if built, buildErr = Build(dir); buildErr == nil {
		built.Cases = slices.DeleteFunc(built.Cases, func(c Case) bool { return !only.MatchString(c.String()) })
	}
	code := m.Run()
	if runner != nil {
		fmt.Println(summary(runner.Counted()))
	}
	cluster.RemovePrograms()
	os.RemoveAll(dir)
	os.Exit(code)
}

func summary(c Count) string {
	var b strings.Builder
	fmt.Fprintf(&b, "conformance: %d cases, %d runs, %d rounds, %d committed moves", len(built.Cases), c.Runs, c.Rounds, c.Moved)
	slices.Sort(c.FreezeMS)
	if n := len(c.FreezeMS); n > 0 {
		fmt.Fprintf(&b, " (freeze %.1f ms in the middle, %.1f ms at most)", c.FreezeMS[n/2], c.FreezeMS[n-1])
	}
	var refused []string
	for what, n := range c.Refused {
		refused = append(refused, fmt.Sprintf("%d %s", n, what))
	}
	slices.Sort(refused)
	fmt.Fprintf(&b, ", refused: %s", strings.Join(refused, ", "))
	slices.Sort(c.Failed)
	fmt.Fprintf(&b, "; failed: %d", len(c.Failed))
	for _, why := range slices.Compact(c.Failed) {
		fmt.Fprintf(&b, "\n    %s", why)
	}
	return b.String()
}

// suite is the built programs, or a skip where this machine cannot build them.
func suite(t *testing.T) *Suite {
	t.Helper()
	if errors.Is(buildErr, exec.ErrNotFound) {
		t.Skip(buildErr)
	}
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return built
}

// result is what came of a case in a mode.
type result struct {
	o     Outcome
	err   error
	took  time.Duration
	first string // what was wrong in a run beside others
}

// runAll runs every case in all modes, atOnce cases side by side, however many tests go test would run so.
func runAll(ctx context.Context, r *Runner, modes []Mode) map[Case]map[Mode]result {
	all := map[Case]map[Mode]result{}
	work := make(chan Case)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for c := range work {
				of := map[Mode]result{}
				for _, mode := range modes {
					began := time.Now()
					o, err := r.Run(ctx, c, mode)
					of[mode] = result{o: o, err: err, took: time.Since(began)}
				}
				mu.Lock()
				all[c] = of
				mu.Unlock()
			}
		})
	}
	for _, c := range r.Suite.Cases {
		work <- c
	}
	close(work)
	wg.Wait()
	return all
}

// TestNative holds the cases themselves to what the kernel of this machine does.
func TestNative(t *testing.T) {
	r := &Runner{Suite: suite(t)}
	all := runAll(t.Context(), r, []Mode{Native})
	for _, c := range r.Suite.Cases {
		t.Run(c.String(), func(t *testing.T) { check(t, r, c, Native, all[c][Native]) })
	}
}

// TestConformance runs every case at home, away, and while it is moved all the time, in one lab.
func TestConformance(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a lab")
	}
	s := suite(t)
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("conformance-%d", os.Getpid()), Nodes: 3, Policy: "none", Bind: s.Files})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	})
	runner = &Runner{Suite: s, Cluster: c, Home: "n1", Others: []id.Node{"n2", "n3"}, Seconds: 1}
	modes := []Mode{AtHome, Forwarded, Moving}
	full := os.Getenv(levelEnv) == "full" || os.Getenv(onlyEnv) != ""
	if full {
		runner.Seconds = 5
	}
	all := runAll(t.Context(), runner, modes)
	for c, of := range all { // side by side they disturb one another: what did not hold is looked at once more, alone, and counted
		for mode, got := range of {
			if _, isKnown := knownFault(c, mode); (mode != Moving || !full) && got.err == nil && got.o.Wrong != "" && !isKnown {
				o, err := runner.Run(t.Context(), c, mode)
				of[mode] = result{o: o, err: err, took: got.took, first: got.o.Wrong}
			}
		}
	}
	for _, c := range s.Cases {
		t.Run(c.String(), func(t *testing.T) {
			for _, mode := range modes {
				t.Run(string(mode), func(t *testing.T) { check(t, runner, c, mode, all[c][mode]) })
			}
		})
	}
}

// check compares what came of a case with the table of known faults.
func check(t *testing.T, r *Runner, c Case, mode Mode, got result) {
	t.Helper()
	if got.err != nil {
		t.Fatal(got.err)
	}
	t.Logf("%d rounds, %d moves, %.2f s", got.o.Rounds, got.o.Moved, got.took.Seconds())
	f, isKnown := knownFault(c, mode)
	switch {
	case got.o.Wrong != "" && isKnown:
		t.Skipf("known: %s", f.why)
	case got.o.Wrong != "":
		t.Errorf("%s\n%s", got.o.Wrong, r.Cluster.Says(got.o.PID))
	case got.first != "":
		t.Skipf("held when it was run again alone; at first: %s", got.first)
	case isKnown && !f.sometimes:
		t.Errorf("it holds now: strike it from the table of known faults (it was: %s)", f.why)
	}
}

// TestMutations breaks rows of the system-call table and wants the cases to notice: two rows, or with the level full all.
func TestMutations(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a lab")
	}
	s := suite(t)
	if os.Getenv(onlyEnv) != "" {
		t.Skipf("%s hides cases", onlyEnv)
	}
	agent, err := BuildMutant(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	list := Mutations()
	if os.Getenv(levelEnv) != "full" {
		list = []Mutation{list[0], list[len(list)-1]}
	}
	for _, m := range list {
		t.Run(m.Row, func(t *testing.T) {
			wrong, err := s.Notice(t.Context(), agent, m.Row)
			if err != nil {
				t.Fatal(err)
			}
			if wrong[m.Row] == "" {
				t.Errorf("%s holds although the row of %s is broken", m.Case, m.Row)
			}
			t.Log(wrong[m.Row])
		})
	}
}

// Every line of the table of known faults is about a case that exists.
func TestKnownFaultsAreCases(t *testing.T) {
	s := suite(t)
	if os.Getenv(onlyEnv) != "" {
		t.Skipf("%s hides cases", onlyEnv)
	}
	for name, f := range known {
		if !slices.ContainsFunc(s.Cases, func(c Case) bool { return c.String() == name }) {
			t.Errorf("the table of known faults names %s, and there is no such case", name)
		}
		if f.why == "" || len(f.modes) == 0 {
			t.Errorf("the table of known faults says too little about %s", name)
		}
	}
}
