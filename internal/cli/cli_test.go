package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/node/api"
	"mosix/node/control"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/*.golden instead of comparing with it")

// asMosixctl makes the test binary behave as mosixctl: run executes itself again.
const asMosixctl = "MOSIX_TEST_AS_MOSIXCTL"

func TestMain(m *testing.M) {
	if os.Getenv(asMosixctl) != "" {
		os.Exit(Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// agent is a control.Backend with a fixed cluster.
type agent struct {
	mu       sync.Mutex
	requests []api.MigrateRequest
	results  []api.MigrateResult // one per request; the last one for all that follow
	err      error
}

var _ control.Backend = (*agent)(nil)

func (a *agent) Status(context.Context) (api.Status, error) {
	return api.Status{Nodes: []api.Node{
		{Name: "n1", ID: "12D3KooA", Address: "10.77.0.1:7946", State: api.NodeAlive, Self: true, Load: 1.375, CPUs: 0.5, Speed: 1, MemTotalBytes: 16 << 30, MemFreeBytes: 3 << 29, Away: 3, AgeSeconds: 0.2},
		{Name: "n2", ID: "12D3KooB", Address: "10.77.0.2:7946", State: api.NodeAlive, Load: 0, CPUs: 128, Speed: 1.25, MemTotalBytes: 2 << 40, MemFreeBytes: 1 << 40, Guests: 3, AgeSeconds: 3},
		{Name: "workstation-7", ID: "12D3KooC", Address: "[2001:db8::7]:7946", State: api.NodeDead, CPUs: 4, Speed: 0.9, AgeSeconds: 93784},
	}}, a.err
}

func (a *agent) Processes(_ context.Context, _ control.Asker, all bool) ([]control.Process, error) {
	me := uint32(os.Geteuid())
	rows := []control.Process{
		{UID: me, Process: api.Process{PID: 4711, Home: "n1", Where: "n2", User: "ann", Command: "python3 train.py --epochs 100", State: api.ProcessAway, CPUSeconds: 3725.4, RSSBytes: 812 << 20, Threads: 5, Moves: 1, Epoch: 1,
			ForwardedCalls: 1234, ForwardedBytes: 5 << 20, Talk: 0.125, WrittenPerSecond: 1 << 20}},
		{UID: me, Process: api.Process{PID: 88, Home: "n1", Where: "n1", User: "ann", Command: "evil \x1b[31m\nname", State: api.ProcessHome, CPUSeconds: 12.34, RSSBytes: 4096, Threads: 1, Moves: 2, Epoch: 2, Locked: true}},
		{UID: 4002, Process: api.Process{PID: 1200300, Home: "workstation-7", Where: "n1", User: "bob", Command: "gpg --passphrase x", State: api.ProcessAway, CPUSeconds: 75, RSSBytes: 1 << 31, Threads: 64, Moves: 1, Epoch: 1}},
	}
	if all {
		rows = append(rows, control.Process{UID: me, Process: api.Process{PID: 1, Home: "n1", Where: "n1", User: "root", Command: "/sbin/init", State: api.ProcessHome, CPUSeconds: 0.5, RSSBytes: 9 << 20, Threads: 1, Refusals: image.Refusals{
			{What: "privileged", Why: "it is root's", Evidence: "Uid: 0"}, {What: "idle", Why: "it computes too little to be worth a move"},
		}}})
	}
	if me == 0 { // root sees all commands: show here what others see
		rows[2].Hidden, rows[2].Command = true, ""
	}
	return rows, a.err
}

func (a *agent) Migrate(_ context.Context, _ control.Asker, req api.MigrateRequest) (api.MigrateResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, req)
	if a.err != nil {
		return api.MigrateResult{}, a.err
	}
	return a.results[min(len(a.requests), len(a.results))-1], nil
}

func (a *agent) Explain(_ context.Context, _ control.Asker, pid id.HomePID, _ id.Node) (control.Explanation, error) {
	if a.err != nil {
		return control.Explanation{}, a.err
	}
	rows, _ := a.Processes(context.Background(), control.Asker{}, true)
	e := control.Explanation{UID: rows[0].UID}
	switch pid {
	case 4711:
		e.Explanation = api.Explanation{Process: rows[0].Process, Movable: true, Candidate: true}
	default:
		e.Explanation = api.Explanation{Process: rows[3].Process, Refusals: rows[3].Refusals[:1], Unfit: rows[3].Refusals[1:]}
	}
	return e, nil
}

func (a *agent) Owner(_ context.Context, _ control.Asker, req api.OwnerRequest) (api.OwnerState, error) {
	st := api.OwnerState{Node: "n1", Blocked: true, Speed: 1.5, Owner: api.OpAuto, Present: true, Why: "anna has an active session on seat0", Guests: 2, Away: 1}
	if req.Op == api.OpExpel {
		st.Moved, st.TookMS, st.Left = 2, 1234, []api.Left{{PID: 88, Home: "n3", Why: "n3 is out of reach"}}
	}
	return st, a.err
}

func (a *agent) Events(_ context.Context, _ control.Asker, since uint64) (api.Events, error) {
	at := time.Date(2026, 12, 1, 13, 14, 15, 0, time.Local).UnixMilli()
	return api.Events{Events: []api.Event{
		{Seq: 1, UnixMS: at, Kind: api.EventDecision, Text: "no move: no other node is known"},
		{Seq: 2, UnixMS: at, Kind: api.EventMove, PID: 4711, Home: "n1", To: "n2", Text: "4711@n1 moved from n1 to n2 (balancer): frozen for 5.5 ms, 210.4 ms in all"},
	}}, a.err
}

func (a *agent) WhyNot(ctx context.Context, asker control.Asker, pid id.HomePID) (control.WhyNot, error) {
	e, err := a.Explain(ctx, asker, pid, "")
	return control.WhyNot{Explanation: e, Policy: "mosix", Why: "n2 is no target: suspect"}, err
}

func (a *agent) Place(_ context.Context, _ control.Asker, req api.PlaceRequest) (api.Placement, error) {
	switch {
	case req.Select == "load <":
		return api.Placement{}, fmt.Errorf("--select load <: column 7: the expression ends too early: %w", control.ErrInvalid)
	case req.Select != "":
		return api.Placement{Home: "n1", To: "n2", Why: "1 of 3 nodes fit"}, nil
	}
	return api.Placement{Home: "n1", Why: "slowdown 1.00 here"}, nil
}

func (a *agent) Moves(context.Context, control.Asker) ([]control.Move, error) {
	at := time.Date(2026, 12, 1, 13, 14, 15, 0, time.Local).UnixMilli()
	return []control.Move{
		{UID: 0, Move: api.Move{PID: 4711, Home: "n1", From: "n1", To: "n2", Cause: api.CauseBalancer, Result: api.ResultMoved, Strategy: api.Precopy, Epoch: 1, FreezeMS: 5.52, TotalMS: 210.4, Bytes: 812 << 20, Rounds: 3, EndedUnixMS: at}},
		{UID: 0, Move: api.Move{PID: 88, Home: "n1", From: "n1", To: "n2", Cause: api.CauseCommand, Result: api.ResultRefused, Refusals: image.Refusals{{What: "seccomp", Why: "it has its own filter"}}, EndedUnixMS: at}},
		{UID: uint32(os.Geteuid()), Move: api.Move{PID: 89, Home: "n1", From: "n1", To: "n2", Cause: api.CauseCommand, Result: api.ResultFailed, Error: "n2 went away", TotalMS: 1234, EndedUnixMS: at}},
	}, a.err
}

// serve runs ag behind a real socket.
func serve(t *testing.T, ag *agent) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "control.sock")
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := control.NewServer(ag, slog.New(slog.DiscardHandler))
	go func() { _ = s.Serve(l) }() // Shutdown below is what ends it
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return socket
}

// mosixctl runs a command line in this process.
func mosixctl(socket string, width int, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, width: width}
	code = a.run(append([]string{"--socket", socket}, args...))
	return code, out.String(), errs.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant (go test -rewrite accepts the new one)\n%s", name, got, want)
	}
}

func TestWhatPeopleAndProgramsSee(t *testing.T) {
	moved := api.MigrateResult{PID: 4711, Home: "n1", From: "n1", To: "n2", Result: api.ResultMoved, Strategy: api.Precopy, FreezeMS: 5.52, TotalMS: 210.4, Bytes: 812 << 20, Rounds: 3}
	refused := api.MigrateResult{PID: 88, Home: "n1", From: "n1", To: "n1", Result: api.ResultRefused, Refusals: image.Refusals{
		{What: "seccomp", Why: "it has its own system call filter, which cannot travel", Evidence: "Seccomp: 2 in /proc/88/status"},
		{What: "traced", Why: "a debugger is attached to it; detach it first", Evidence: "TracerPid: 90"},
	}}
	failed := api.MigrateResult{PID: 88, Home: "n1", From: "n1", To: "n1", Result: api.ResultFailed, Error: "n2 went away during precopy; it runs on at n1"}
	for _, tc := range []struct {
		name   string
		result api.MigrateResult
		args   []string
		width  int
		code   int
	}{
		{name: "status", args: []string{"status"}},
		{name: "status-json", args: []string{"status", "--json"}, width: 80},
		{name: "ps", args: []string{"ps"}},
		{name: "ps-all", args: []string{"ps", "-a"}},
		{name: "ps-narrow", args: []string{"ps"}, width: 72},
		{name: "ps-json", args: []string{"ps", "--json", "--all"}, width: 80},
		{name: "moves", args: []string{"moves"}},
		{name: "owner", args: []string{"owner"}},
		{name: "owner-json", args: []string{"owner", "--json"}, width: 80},
		{name: "block", args: []string{"block"}},
		{name: "expel", args: []string{"expel"}, code: ExitFailed},
		{name: "setspeed-bad", args: []string{"setspeed", "fast"}, code: ExitUsage},
		{name: "owner-bad", args: []string{"owner", "maybe"}, code: ExitUsage},
		{name: "events", args: []string{"events"}},
		{name: "events-json", args: []string{"events", "--json"}, width: 80},
		{name: "why-not", args: []string{"why-not", "4711"}},
		{name: "explain-movable", args: []string{"explain", "4711"}},
		{name: "explain-refused", args: []string{"explain", "1@n1"}},
		{name: "explain-json", args: []string{"explain", "1", "--json"}, width: 80},
		{name: "migrate-moved", result: moved, args: []string{"migrate", "4711", "n2"}},
		{name: "migrate-moved-json", result: moved, args: []string{"migrate", "4711", "n2", "--json"}, width: 80},
		{name: "migrate-refused", result: refused, args: []string{"migrate", "88", "n2"}, code: ExitRefused},
		{name: "migrate-refused-json", result: refused, args: []string{"migrate", "88", "n2", "--json"}, width: 80, code: ExitRefused},
		{name: "migrate-failed", result: failed, args: []string{"migrate", "88", "n2"}, code: ExitFailed},
		{name: "migrate-failed-json", result: failed, args: []string{"migrate", "88", "n2", "--json"}, width: 80, code: ExitFailed},
	} {
		socket := serve(t, &agent{results: []api.MigrateResult{tc.result}})
		code, stdout, stderr := mosixctl(socket, tc.width, tc.args...)
		if code != tc.code {
			t.Errorf("%s: exit status %d, want %d", tc.name, code, tc.code)
		}
		text := stdout
		if stderr != "" {
			text += "--- standard error\n" + stderr
		}
		golden(t, tc.name, text)
		if slices.Contains(tc.args, "--json") && !json.Valid([]byte(stdout)) {
			t.Errorf("%s: not JSON: %s", tc.name, stdout)
		}
	}
}

// The keys that the issue promises must come through decoding and printing, and lists must be lists.
func TestJSONOfMigrateKeepsTheContract(t *testing.T) {
	socket := serve(t, &agent{results: []api.MigrateResult{{PID: 7, Home: "n1", Result: api.ResultMoved}}})
	_, stdout, _ := mosixctl(socket, 0, "migrate", "7", "n2", "--json")
	var m map[string]any
	if err := json.Unmarshal([]byte(stdout), &m); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"pid", "home", "from", "to", "result", "strategy", "freeze_ms", "total_ms", "bytes", "rounds", "refusals"} {
		if _, ok := m[k]; !ok {
			t.Errorf("no %q in %s", k, stdout)
		}
	}
	if _, ok := m["refusals"].([]any); !ok {
		t.Errorf("refusals is %v, want a list", m["refusals"])
	}
	if strings.Count(stdout, "\n") != 1 {
		t.Errorf("want one line for programs, got %q", stdout)
	}
}

func TestMigrateAsksForWhatWasSaid(t *testing.T) {
	ag := &agent{results: []api.MigrateResult{{PID: 7, Result: api.ResultMoved}}}
	socket := serve(t, ag)
	if code, _, stderr := mosixctl(socket, 0, "migrate", "7@n3", "best", "--strategy", "stop-and-copy"); code != 0 {
		t.Fatalf("exit status %d: %s", code, stderr)
	}
	want := api.MigrateRequest{PID: 7, Home: "n3", To: "best", Strategy: api.StopAndCopy}
	if ag.requests[0] != want {
		t.Errorf("asked %+v, want %+v", ag.requests[0], want)
	}
}

func TestExitStatuses(t *testing.T) {
	for _, tc := range []struct {
		err  error
		args []string
		code int
		says string
	}{
		{nil, []string{"status"}, ExitOK, ""},
		{nil, []string{"migrate"}, ExitUsage, "accepts 2 arg"},
		{nil, []string{"migrate", "x", "n2"}, ExitUsage, `"x" is not a process id`},
		{nil, []string{"migrate", "7", "n2", "--strategy", "magic"}, ExitUsage, "magic"},
		{nil, []string{"explain", "0"}, ExitUsage, "not a process id"},
		{nil, []string{"status", "--nonsense"}, ExitUsage, "unknown flag"},
		{nil, []string{"nonsense"}, ExitUsage, "unknown command"},
		{nil, []string{"bench", "move", "--sizes", "many"}, ExitUsage, `"many" is not a size`},
		{nil, []string{"bench", "move", "--dirty", "-3%"}, ExitUsage, "not a share"},
		{fmt.Errorf("explain 9: %w", control.ErrNoProcess), []string{"explain", "9"}, ExitFailed, "no such process"},
		{fmt.Errorf("move 9: %w", control.ErrNoProcess), []string{"migrate", "9", "n2"}, ExitFailed, "no such process"},
		{fmt.Errorf("move 9: %w", control.ErrForbidden), []string{"migrate", "9", "n2"}, ExitRefused, "not permitted"},
	} {
		code, _, stderr := mosixctl(serve(t, &agent{err: tc.err}), 0, tc.args...)
		if code != tc.code || !strings.Contains(stderr, tc.says) {
			t.Errorf("%v: exit status %d, %q; want %d, %q", tc.args, code, stderr, tc.code, tc.says)
		}
		if hint := strings.Contains(stderr, "--help"); hint != (tc.code == ExitUsage) {
			t.Errorf("%v: the hint to --help is %t with status %d", tc.args, hint, code)
		}
	}
}

func TestJSONAlsoWhereTheAgentHasNoResult(t *testing.T) {
	socket := serve(t, &agent{err: fmt.Errorf("move 9: %w", control.ErrNoProcess)})
	code, stdout, _ := mosixctl(socket, 0, "migrate", "9", "n2", "--json")
	var res api.MigrateResult
	if err := json.Unmarshal([]byte(stdout), &res); err != nil || code != ExitFailed {
		t.Fatalf("exit status %d, %v", code, err)
	}
	if res.PID != 9 || res.Result != api.ResultFailed || !strings.Contains(res.Error, "no such process") {
		t.Errorf("got %+v", res)
	}
}

func TestNoAgent(t *testing.T) {
	for _, args := range [][]string{{"status"}, {"ps"}, {"moves"}, {"explain", "7"}, {"migrate", "7", "n2"}} {
		code, stdout, stderr := mosixctl(filepath.Join(t.TempDir(), "none.sock"), 0, args...)
		if code != ExitUnreachable || stdout != "" || !strings.Contains(stderr, "is mosixd running?") {
			t.Errorf("%v: exit status %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

func TestCompletionOffersProcessesAndNodes(t *testing.T) {
	socket := serve(t, &agent{})
	_, pids, _ := mosixctl(socket, 0, "__complete", "--socket", socket, "migrate", "")
	if !strings.Contains(pids, "4711\tpython3 train.py") || strings.Contains(pids, "1200300") {
		t.Errorf("processes offered:\n%s", pids)
	}
	_, nodes, _ := mosixctl(socket, 0, "__complete", "--socket", socket, "migrate", "4711", "")
	for _, want := range []string{"n2\tload 0.00", "home", "best"} {
		if !strings.Contains(nodes, want) {
			t.Errorf("no %q among the nodes offered:\n%s", want, nodes)
		}
	}
	if strings.Contains(nodes, "workstation-7") {
		t.Errorf("a dead node is offered:\n%s", nodes)
	}
}

func TestManual(t *testing.T) {
	dir := t.TempDir()
	if code, _, stderr := mosixctl("", 0, "docs", "man", dir); code != 0 {
		t.Fatalf("exit status %d: %s", code, stderr)
	}
	b, err := os.ReadFile(filepath.Join(dir, "mosixctl-migrate.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"allow-privileged", "Exit status: 0 only if it moved"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in the manual page", want)
		}
	}
}

// Every command that prints facts prints them for programs too.
func TestFactsHaveJSON(t *testing.T) {
	a := &app{}
	for _, c := range a.root().Commands() {
		if slices.Contains([]string{"status", "ps", "moves", "migrate", "explain", "check", "demo", "sim", "version"}, c.Name()) && c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.Name())
		}
	}
}
