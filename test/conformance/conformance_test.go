package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/test/cluster"
)

// levelEnv chooses how much is run: quick (the default) or full (each case is moved about five times as long, and every
// mutation is tried).
const levelEnv = "CONFORMANCE"

// atOnce is the number of cases that run side by side: most of their time they wait.
const atOnce = 6

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
	built, buildErr = Build(dir)
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

// TestNative holds the cases themselves to what the kernel of this machine does.
func TestNative(t *testing.T) {
	r := &Runner{Suite: suite(t)}
	slots := make(chan struct{}, atOnce)
	for _, c := range r.Suite.Cases {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			o, err := r.Run(t.Context(), c, Native)
			if err != nil {
				t.Fatal(err)
			}
			if o.Wrong != "" {
				t.Error(o.Wrong)
			}
		})
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
	t.Cleanup(func() { // after the last subtest: a parallel one only starts when this function has returned
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	})
	runner = &Runner{Suite: s, Cluster: c, Home: "n1", Others: []id.Node{"n2", "n3"}, Seconds: 1}
	if os.Getenv(levelEnv) == "full" {
		runner.Seconds = 5
	}
	slots := make(chan struct{}, atOnce)
	for _, c := range s.Cases {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			for _, mode := range []Mode{AtHome, Forwarded, Moving} {
				t.Run(string(mode), func(t *testing.T) { runCase(t, c, mode) })
			}
		})
	}
}

// runCase runs a case and compares what came of it with the table of known faults.
func runCase(t *testing.T, c Case, mode Mode) {
	began := time.Now()
	o, err := runner.Run(t.Context(), c, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rounds, %d moves, %.2f s", o.Rounds, o.Moved, time.Since(began).Seconds())
	f, isKnown := knownFault(c, mode)
	switch {
	case o.Wrong != "" && isKnown:
		t.Skipf("known: %s", f.why)
	case o.Wrong != "":
		t.Errorf("%s\n%s", o.Wrong, logs(runner.Cluster, o.PID))
	case isKnown && !f.sometimes:
		t.Errorf("it holds now: strike it from the table of known faults (it was: %s)", f.why)
	}
}

// logs is what the agents have written of process pid of n1, and what they were unhappy about.
func logs(c *cluster.Cluster, pid int) string {
	var b strings.Builder
	for _, n := range c.Nodes() {
		text, err := c.AgentLog(n.Name)
		if err != nil || pid == 0 {
			continue // the other logs may do
		}
		var lines []string
		for line := range strings.Lines(text) {
			if strings.Contains(line, fmt.Sprintf("=%d@n1 ", pid)) {
				lines = append(lines, line)
			}
		}
		fmt.Fprintf(&b, "--- the agent of %s says of it:\n%s", n.Name, strings.Join(lines[max(0, len(lines)-12):], ""))
	}
	return b.String()
}

// Every line of the table of known faults is about a case that exists.
func TestKnownFaultsAreCases(t *testing.T) {
	s := suite(t)
	for name, f := range known {
		if !slices.ContainsFunc(s.Cases, func(c Case) bool { return c.String() == name }) {
			t.Errorf("the table of known faults names %s, and there is no such case", name)
		}
		if f.why == "" || len(f.modes) == 0 {
			t.Errorf("the table of known faults says too little about %s", name)
		}
	}
}
