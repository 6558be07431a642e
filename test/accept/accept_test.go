package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/node/api"
	"mosix/test/cluster"
	"mosix/test/workloads"
)

var programs *workloads.Programs

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mosix-accept-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = workloads.NewPrograms(dir)
	code := m.Run()
	cluster.RemovePrograms()
	os.RemoveAll(dir)
	os.Exit(code)
}

// small runs an acceptance line in its small size.
func small(t *testing.T, line func(*bench) (string, error)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a lab")
	}
	b := &bench{ctx: t.Context(), programs: programs, progress: t.Logf}
	figures, err := line(b)
	if err != nil {
		t.Fatalf("%s: %v", figures, err)
	}
	t.Log(figures)
}

func TestJobs(t *testing.T)    { small(t, jobs) }
func TestCrashes(t *testing.T) { small(t, crashes) }
func TestWorlds(t *testing.T)  { small(t, worlds) }
func TestSpread(t *testing.T)  { small(t, spread) }
func TestAsking(t *testing.T) {
	small(t, func(b *bench) (string, error) { b.policy = "default"; return spread(b) })
}
func TestSoak(t *testing.T)         { small(t, soak) }
func TestUnequal(t *testing.T)      { small(t, unequal) }
func TestLargeCluster(t *testing.T) { small(t, largeCluster) }
func TestExplain(t *testing.T)      { small(t, explain) }

// TestRecorded needs no lab.
func TestRecorded(t *testing.T) {
	for _, want := range []string{"kernel-thread", "device-mapping"} {
		if why, err := recorded(want); err != nil {
			t.Error(err)
		} else {
			t.Log(why)
		}
	}
}

// TestPointsAreStaged: every point of the small size exists, and a new point is thought about here: these are all there are.
func TestPointsAreStaged(t *testing.T) {
	all := points()
	for _, s := range scenarios(false) {
		if !slices.Contains(all, s.point) {
			t.Errorf("there is no fault point %s", s.point)
		}
	}
	staged := map[stage][]string{}
	for _, p := range all {
		staged[stageOf(p)] = append(staged[stageOf(p)], p)
	}
	want := map[stage]string{
		parked:    "source-after-park source-after-probe target-after-ready",
		committed: "source-after-commit source-after-running target-after-commit target-after-run target-after-running",
	}
	for s, names := range want {
		if got := strings.Join(staged[s], " "); got != names {
			t.Errorf("stage %d has %s, want %s: say in stageOf what a crash there means", s, got, names)
		}
	}
	if len(staged[before]) < 6 {
		t.Errorf("only %v come before parking", staged[before])
	}
}

func TestJudgeMoves(t *testing.T) {
	m := func(pid int, to id.Node, result string) api.Move {
		return api.Move{PID: id.HomePID(pid), To: to, Result: result}
	}
	for _, c := range []struct {
		name  string
		moves []api.Move
		bad   bool
	}{
		{"spread", []api.Move{m(1, "n2", "moved"), m(2, "n3", "moved"), m(3, "n3", "refused")}, false},
		{"none", nil, true},
		{"only refused", []api.Move{m(1, "n2", "refused")}, true},
		{"home again", []api.Move{m(1, "n2", "moved"), m(1, "n1", "moved")}, true},
		{"back and forth", []api.Move{m(1, "n2", "moved"), m(1, "n3", "moved"), m(1, "n2", "moved")}, true},
		{"many", []api.Move{m(1, "n2", "moved"), m(2, "n2", "moved"), m(3, "n2", "moved"), m(4, "n2", "moved")}, true},
	} {
		if figures, err := judgeMoves("n1", c.moves, 3, true); (err != nil) != c.bad {
			t.Errorf("%s: %s, %v", c.name, figures, err)
		}
	}
}

func TestHasReason(t *testing.T) {
	rs := image.Refusals{{What: "seccomp", Why: "It has its own system-call filter, which stays.", Evidence: "Seccomp: 2"}, {What: "traced", Why: "no"}}
	for want, ok := range map[string]bool{"seccomp": true, "traced": false, "kvm": false} {
		if _, err := hasReason(rs, want); (err == nil) != ok {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	if got, err := numbers("4, 6"); err != nil || !slices.Equal(got, []int{4, 6}) {
		t.Error(got, err)
	}
	for _, bad := range []string{"0", strconv.Itoa(len(checks()) + 1), "x"} {
		if got, err := numbers(bad); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
}
