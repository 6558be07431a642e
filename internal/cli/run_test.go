package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/node/api"
	"mosix/node/control"
)

// start runs mosixctl as a process of its own: run becomes the command.
func start(t *testing.T, socket string, args ...string) (c *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	c = exec.Command("/proc/self/exe", append([]string{"--socket", socket}, args...)...)
	c.Env = append(os.Environ(), asMosixctl+"=1")
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	c.Stdout, c.Stderr = stdout, stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() }) // it has ended, where the test passed
	return c, stdout, stderr
}

func TestRunIsTheCommand(t *testing.T) {
	c, stdout, _ := start(t, "none", "run", "--", "sh", "-c", "echo $$ $1; exit 7", "sh", "--json")
	err := c.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("ended with %v, want status 7", err)
	}
	if want := fmt.Sprintf("%d --json\n", c.Process.Pid); stdout.String() != want {
		t.Errorf("printed %q, want its own PID and argument: %q", stdout, want)
	}
}

func TestRunEndsByTheCommandsSignal(t *testing.T) {
	c, _, _ := start(t, "none", "run", "--", "sh", "-c", "kill -TERM $$")
	_ = c.Wait() // its error says the same as the state
	if ws := c.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want SIGTERM", c.ProcessState)
	}
}

func TestRunOfWhatCannotRun(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no program\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte{0x7f, 'E', 'L', 'F', 0}, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := serve(t, &agent{results: []api.MigrateResult{{Result: api.ResultMoved}}})
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"run"}, ExitUsage, "at least 1"},
		{[]string{"run", "--", "/nonexistent/program"}, ExitNotFound, "no such file"},
		{[]string{"run", "--", "no-such-program-in-path"}, ExitNotFound, "not found"},
		{[]string{"run", "--", text}, ExitNotExecutable, "permission denied"},
		{[]string{"run", "--", garbage}, ExitNotExecutable, "exec format error"},
		{[]string{"run", "--on", "n2", "--", garbage}, ExitNotExecutable, "exec format error"},
		{[]string{"run", "--on", "n9", "--", "true"}, ExitNotStarted, "knows no node of that name"},
		{[]string{"run", "--select", "load <", "--", "true"}, ExitNotStarted, "column 7"},
		{[]string{"run", "--select", "load < 1", "--on", "n2", "--", "true"}, ExitUsage, "if any flags in the group [on select] are set none of the others can be"},
		{[]string{"run", "--", "false"}, 1, ""},
		{[]string{"run", "--on", "workstation-7", "--", "true"}, ExitNotStarted, "is dead"},
	} {
		c, _, stderr := start(t, socket, tc.args...)
		_ = c.Wait() // its error says the same as the state
		if c.ProcessState.ExitCode() != tc.code || !strings.Contains(stderr.String(), tc.says) {
			t.Errorf("%v: %v, %q; want status %d, %q", tc.args, c.ProcessState, stderr, tc.code, tc.says)
		}
	}
}

func TestRunWithoutAgent(t *testing.T) {
	c, _, stderr := start(t, filepath.Join(t.TempDir(), "none"), "run", "--on", "n2", "--", "true")
	_ = c.Wait() // its error says the same as the state
	if c.ProcessState.ExitCode() != ExitNotStarted || !strings.Contains(stderr.String(), "is mosixd running?") {
		t.Errorf("%v, %q", c.ProcessState, stderr)
	}
}

// The command must not notice the helper: it has no child that it did not start, and its PID is the one that moves.
func TestRunOnAsksForTheCommandsMove(t *testing.T) {
	ag := &agent{results: []api.MigrateResult{
		{Result: api.ResultRefused, Refusals: image.Refusals{{What: "starting", Why: "it starts just now"}}}, {Result: api.ResultMoved},
	}}
	socket := serve(t, ag)
	asked := filepath.Join(t.TempDir(), "asked")
	c, stdout, stderr := start(t, socket, "run", "--on", "n2", "--", "sh", "-c",
		`until [ -e "$1" ]; do sleep 0.01; done; children=; read children < /proc/$$/task/$$/children; echo "children:$children"; exit 3`, "sh", asked)
	for len(ag.asked()) < 2 {
		time.Sleep(time.Millisecond)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if self, _ := os.Executable(); exe == self {
		t.Error("the move was asked for before the command was executed")
	}
	if err := os.WriteFile(asked, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // its error says the same as the state
	if c.ProcessState.ExitCode() != 3 || stdout.String() != "children:\n" || stderr.Len() > 0 {
		t.Errorf("%v, printed %q and %q; want status 3, no child, no complaint", c.ProcessState, stdout, stderr)
	}
	for _, r := range ag.asked() {
		if int(r.PID) != c.Process.Pid || r.To != "n2" || r.AllowPrivileged {
			t.Errorf("asked %+v; want the move of %d to n2", r, c.Process.Pid)
		}
	}
}

func TestMoverSaysWhyTheCommandStays(t *testing.T) {
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = c.Process.Kill() // its end is the wait
		_ = c.Wait()         // its error is the kill
	}()
	executed := strings.NewReader("")
	for _, tc := range []struct {
		result api.MigrateResult
		err    error
		says   string
		asks   int // at most
	}{
		{result: api.MigrateResult{Result: api.ResultMoved}, asks: 1},
		{result: api.MigrateResult{Result: api.ResultFailed, Error: "n2 is full"}, says: "n2 is full", asks: moverFailures},
		{result: api.MigrateResult{Result: api.ResultRefused, Refusals: image.Refusals{{What: "seccomp", Why: "it has a filter"}}}, says: "it has a filter", asks: 5},
		{err: fmt.Errorf("move: %w", control.ErrForbidden), says: "not permitted", asks: 5},
	} {
		ag := &agent{results: []api.MigrateResult{tc.result}, err: tc.err}
		var stderr bytes.Buffer
		a := &app{socket: serve(t, ag), err: &stderr}
		if err := a.move(t.Context(), id.HomePID(c.Process.Pid), "n2", "sleep", true, executed, 3*moverPause); err != nil {
			t.Errorf("%+v: %v", tc.result, err)
		}
		if tc.says == "" && stderr.Len() > 0 {
			t.Errorf("moved, and said %q", &stderr)
		}
		if tc.says != "" && (!strings.Contains(stderr.String(), tc.says) || !strings.Contains(stderr.String(), "goes on here and was not moved to n2")) {
			t.Errorf("said %q; want %q", &stderr, tc.says)
		}
		if n := len(ag.asked()); n < 1 || n > tc.asks || !ag.asked()[0].AllowPrivileged {
			t.Errorf("%+v: asked %d times, want at most %d, with root's word: %+v", tc.result, n, tc.asks, ag.asked())
		}
	}
}

func TestMoverAsksNothingForWhatDoesNotRun(t *testing.T) {
	ag := &agent{results: []api.MigrateResult{{Result: api.ResultMoved}}}
	var stderr bytes.Buffer
	a := &app{socket: serve(t, ag), err: &stderr}
	if err := a.move(t.Context(), id.HomePID(os.Getpid()), "n2", "x", false, strings.NewReader("x"), moverPatience); err != nil {
		t.Errorf("not executed: %v", err)
	}
	c := exec.Command("true")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if err := a.move(t.Context(), id.HomePID(c.Process.Pid), "n2", "x", false, strings.NewReader(""), moverPatience); err != nil {
		t.Errorf("ended: %v", err)
	}
	if len(ag.asked()) > 0 || stderr.Len() > 0 {
		t.Errorf("asked %+v, said %q", ag.asked(), &stderr)
	}
}

func (a *agent) asked() []api.MigrateRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]api.MigrateRequest(nil), a.requests...)
}
