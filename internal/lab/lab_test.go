package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mosix/internal/config"
	"mosix/internal/id"
)

func TestNodesAreApart(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	if err := os.WriteFile(marker, []byte("bound\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(marker), 0o700); err != nil {
		t.Fatal(err)
	}
	l := up(t, Options{Nodes: 3, Bind: []string{marker}})

	for _, n := range []id.Node{"n1", "n2", "n3"} {
		if got := run(t, l, n, As{}, "hostname; cat /etc/hostname; uname -n"); got != fmt.Sprintf("%s\n%s\n%s", n, n, n) {
			t.Errorf("%s calls itself %q", n, got)
		}
		run(t, l, n, As{}, "for d in /tmp /var/tmp /dev/shm ~; do echo "+string(n)+" > $d/whose || exit 1; done")
		run(t, l, n, As{User: "root"}, "echo "+string(n)+" > /run/whose")
	}
	for _, n := range []id.Node{"n1", "n2", "n3"} {
		want := strings.TrimSuffix(strings.Repeat(string(n)+"\n", 5), "\n")
		if got := run(t, l, n, As{}, "cat /tmp/whose /var/tmp/whose /dev/shm/whose ~/whose /run/whose"); got != want {
			t.Errorf("%s finds in its private folders %q", n, got)
		}
	}
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/run"} {
		if _, err := os.Lstat(filepath.Join(dir, "whose")); err == nil {
			t.Errorf("%s of the machine has the nodes' file", dir)
		}
	}
	if host, err := os.Hostname(); err != nil || host == "n1" || host == "n3" {
		t.Errorf("the machine calls itself %q (%v)", host, err)
	}

	// What is shared, what is bound, and what lies under a folder that is covered.
	if got := run(t, l, "n2", As{User: "user2"}, "cat $(dirname $(which mosixctl))/marker; test -x $(which mosixd); echo $PATH"); !strings.HasPrefix(got, "bound\n"+nodeBin+":") {
		t.Errorf("bound files: %q", got)
	}
	if out, err := l.Command("n1", As{}, "cat", marker).CombinedOutput(); err == nil {
		t.Errorf("n1 reads a file of the machine's /tmp: %s", out)
	}
	if out, err := l.Command("n1", As{}, "ls", nodeState).CombinedOutput(); err == nil {
		t.Errorf("user1 looks into the agent's state: %s", out)
	}
	// Processes: only its own, and its first is the lab's init.
	if got := run(t, l, "n1", As{}, "tr '\\0' ' ' < /proc/1/cmdline"); !strings.Contains(got, InitCommand) {
		t.Errorf("process 1 of n1 is %q", got)
	}
	if got := run(t, l, "n1", As{}, "ls -d /proc/[0-9]* | wc -l"); atoi(t, got) > 10 {
		t.Errorf("n1 sees %s processes", got)
	}
	// The address and nothing else.
	if got := run(t, l, "n3", As{}, "cut -d: -f1 -s /proc/net/dev | tr -d ' \\n'"); got != "loeth0" {
		t.Errorf("n3 has the network devices %q", got)
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUsers(t *testing.T) {
	l := up(t, Options{Nodes: 1, NoAgents: true})
	for _, tc := range []struct {
		as   As
		want string
	}{
		{As{}, "uid=61001(user1) gid=61001(user1) groups=61001(user1) /home/user1 /home/user1"},
		{As{User: "user2"}, "uid=61002(user2) gid=61002(user2) groups=61002(user2) /home/user2 /home/user2"},
		{As{User: "root"}, "uid=0(root) gid=0(root) groups=0(root) /home/root /home/root"},
		{As{Dir: "/usr"}, "uid=61001(user1) gid=61001(user1) groups=61001(user1) /home/user1 /usr"},
		{As{User: "4711", Dir: "/"}, "uid=4711 gid=4711 groups=4711 / /"},
	} {
		if got := run(t, l, "n1", tc.as, "echo $(id) $HOME $(pwd)"); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.as, got, tc.want)
		}
	}
	status := run(t, l, "n1", As{}, "grep -E '^(Cap(Prm|Eff|Amb|Inh)|NoNewPrivs|Seccomp|SigIgn|SigBlk):' /proc/self/status | tr -d '\\t\\n'")
	zero := strings.Repeat("0", 16)
	// CapInh CapPrm CapEff CapAmb come in the kernel's order; sh itself ignores nothing.
	for _, want := range []string{"CapInh:" + zero, "CapPrm:" + zero, "CapEff:" + zero, "CapAmb:" + zero, "NoNewPrivs:0", "Seccomp:0", "SigIgn:" + zero, "SigBlk:" + zero} {
		if !strings.Contains(status, want) {
			t.Errorf("user1's processes: want %s in %s", want, status)
		}
	}
	if got := run(t, l, "n1", As{}, "ls -l /proc/self/fd | grep -c -v total"); got != "4" { // 0 1 2 and ls's own
		t.Errorf("user1's programs start with descriptors %s", got)
	}
	if _, err := l.Command("n1", As{User: "nobody-of-that-name"}, "true").Output(); err == nil || !strings.Contains(err.Error(), "has no user") {
		t.Errorf("an unknown user: %v", err)
	}
	if _, err := l.Command("n7", As{}, "true").Output(); err == nil || !strings.Contains(err.Error(), "has no node") {
		t.Errorf("an unknown node: %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	l := up(t, Options{Nodes: 1, NoAgents: true})
	noexec := "echo x > ~/plain; chmod 644 ~/plain; "
	run(t, l, "n1", As{}, noexec+"printf 'exit 5\\n' > ~/script; chmod 755 ~/script")
	for _, tc := range []struct {
		args []string
		code int
	}{
		{[]string{"true"}, 0},
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "exit 255"}, 255},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137},
		{[]string{"sh", "-c", "kill -SEGV $$"}, 139},
		{[]string{"no-such-program"}, 127},
		{[]string{"./no-such-program"}, 127},
		{[]string{"./plain"}, 126},
		{[]string{"./script"}, 5}, // no #!, as a shell would run it
	} {
		err := l.Command("n1", As{}, tc.args[0], tc.args[1:]...).Run()
		if got := ExitCode(err); got != tc.code {
			t.Errorf("%q gives %d (%v), want %d", tc.args, got, err, tc.code)
		}
	}
}

func TestStreamsAndSignals(t *testing.T) {
	l := up(t, Options{Nodes: 1, NoAgents: true})
	// More than any pipe holds, in and out.
	big := strings.Repeat("0123456789abcdef", 64<<10)
	c := l.Command("n1", As{}, "cat")
	c.Stdin = strings.NewReader(big)
	if out, err := c.Output(); err != nil || string(out) != big {
		t.Errorf("cat gave %d bytes of %d (%v)", len(out), len(big), err)
	}
	c = l.Command("n1", As{}, "sh", "-c", "echo out; echo err >&2; echo $X")
	c.Env = []string{"X=from outside", "BIG=" + big[:100<<10]}
	if out, err := c.CombinedOutput(); err != nil || string(out) != "out\nerr\nfrom outside\n" {
		t.Errorf("got %q, %v", out, err)
	}

	c = l.Command("n1", As{}, "sh", "-c", "trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.01; done")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := out.Read(line); err != nil || string(line) != "ready\n" {
		t.Fatalf("%q %v", line, err)
	}
	// The number in the node and the number on the machine name the same process.
	host, err := l.HostPID("n1", c.PID())
	if err != nil || host != c.HostPID() {
		t.Errorf("HostPID says %d (%v), Start said %d", host, err, c.HostPID())
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", host))
	if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nNSpid:\t%d\t%d\n", host, c.PID())) {
		t.Errorf("process %d of the machine is not %d of the node: %v\n%s", host, c.PID(), err, status)
	}
	if _, err := l.HostPID("n1", 999999); err == nil || !strings.Contains(err.Error(), "no process 999999") {
		t.Errorf("HostPID of nobody: %v", err)
	}
	if err := c.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if got := ExitCode(c.Wait()); got != 3 {
		t.Errorf("the handler's exit code is %d", got)
	}
	out.Close()

	ctx, cancel := context.WithCancel(t.Context())
	c = l.CommandContext(ctx, "n1", As{}, "sh", "-c", "sleep 1000; true")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := c.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled program: %v", err)
	}
	if err := l.CommandContext(ctx, "n1", As{}, "true").Run(); !errors.Is(err, context.Canceled) {
		t.Errorf("a program that was cancelled before: %v", err)
	}
}

// The init is deaf to signals from inside, reaps what nobody else waits for, and hangs up what its asker left.
func TestInitStays(t *testing.T) {
	l := up(t, Options{Nodes: 1, NoAgents: true})
	run(t, l, "n1", As{User: "root"}, "for s in HUP INT QUIT TERM USR1 USR2 PIPE ALRM TSTP TTIN TTOU STOP KILL; do kill -$s 1; done; true")
	if got := run(t, l, "n1", As{}, "for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 &) ; done; echo done"); got != "done" {
		t.Error(got)
	}
	eventually(t, "no zombie is left", func() bool {
		return run(t, l, "n1", As{}, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l") == "0"
	})

	c := l.Command("n1", As{}, "sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.c.Close() // as if the asker had died
	eventually(t, "the program of a dead asker is hung up", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", c.HostPID()))
		return os.IsNotExist(err)
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s in vain: %s", what)
		}
	}
}

func TestAgents(t *testing.T) {
	l := up(t, Options{Nodes: 2, CPUs: []float64{0.5, 1}, Policy: "none", Clock: map[id.Node]time.Duration{"n2": 3 * time.Second}})
	for node, want := range map[id.Node]string{"n1": "fake agent of n1 skew 0s cpus 0.5 policy none", "n2": "fake agent of n2 skew 3s cpus 1 policy none"} {
		if log, err := l.AgentLog(node); err != nil || !strings.Contains(log, want) {
			t.Errorf("log of %s: %q (%v), want %q", node, log, err, want)
		}
	}
	a, err := l.Agent("n1")
	if err != nil || !a.Running || a.PID == 1 {
		t.Fatalf("agent of n1: %+v, %v", a, err)
	}
	if exe, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", a.HostPID)); err != nil || !strings.HasPrefix(string(exe), "mosixd\x00--config") {
		t.Errorf("process %d is %q (%v)", a.HostPID, exe, err)
	}
	if _, err := l.AgentStart("n1"); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second start: %v", err)
	}
	if a, err = l.AgentKill("n1"); err != nil || a.Running || a.Ended != "signal: killed" {
		t.Errorf("after kill: %+v, %v", a, err)
	}
	if _, err := l.AgentKill("n1"); err == nil || !strings.Contains(err.Error(), "ended before (signal: killed)") {
		t.Errorf("a second kill: %v", err)
	}
	// The node outlives its agent.
	if got := run(t, l, "n1", As{}, "hostname"); got != "n1" {
		t.Error(got)
	}
	if _, err := l.AgentStart("n1"); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitReady(20*time.Second, nil); err != nil {
		t.Fatal(err)
	}
	if a, err = l.AgentStop("n2"); err != nil || a.Ended != "exit status 0" {
		t.Errorf("after stop: %+v, %v", a, err)
	}
	s, err := l.Status()
	if err != nil || len(s.Nodes) != 2 || !s.Nodes[0].Agent.Running || s.Nodes[1].Agent.Running || !s.Nodes[1].Up {
		t.Errorf("status: %+v, %v", s, err)
	}
	c, err := config.Load(l.ConfigFile("n1"), true)
	if err != nil || c.Name != "n1" || len(c.Seeds) != 1 || c.Seeds[0] != "10.77.0.2" || c.Policy != "none" {
		t.Errorf("configuration of n1: %+v, %v", c, err)
	}
}

func TestUpTellsWhyAnAgentDied(t *testing.T) {
	needRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, err = Up(Options{Name: labName(t), Mosixd: exe, AgentEnv: []string{"FAKE_AGENT=dies"}})
	if err == nil || !strings.Contains(err.Error(), "agent of n1 has ended (exit status 9)") || !strings.Contains(err.Error(), "cannot go on") {
		t.Errorf("want the end and the log of the agent, got: %v", err)
	}
	nothingLeft(t, labName(t))
}

func TestUpRefuses(t *testing.T) {
	needRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	taken := up(t, Options{Nodes: 1, NoAgents: true})
	for want, o := range map[string]Options{
		"is a lab":                      {Name: taken.Name()},
		"want 1 to 254":                 {Nodes: 255},
		"find the agent":                {Mosixd: "/nonexistent"},
		"want one for all":              {Nodes: 3, CPUs: []float64{1, 2}},
		"which the lab does not have":   {Nodes: 2, Clock: map[id.Node]time.Duration{"n3": time.Second}},
		"bind a file":                   {Bind: []string{"/nonexistent"}},
		"taken by":                      {Bind: []string{"/usr/bin/env", "/usr/bin/../../usr/bin/env"}},
		"lab name":                      {Name: "../x"},
		"want 0.01 or more":             {CPUs: []float64{-1}},
		"configuration of n1: period =": {Period: time.Millisecond},
	} {
		if o.Name == "" {
			o.Name = labName(t) + "x"
		}
		if o.Mosixd == "" {
			o.Mosixd = exe
		}
		if _, err := Up(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got: %v", want, err)
		}
		if o.Name != taken.Name() && checkName(o.Name) == nil {
			nothingLeft(t, o.Name)
		}
	}
	if _, err := Open(labName(t) + "y"); err == nil || !strings.Contains(err.Error(), taken.Name()) {
		t.Errorf("opening a lab that is not there: %v", err)
	}
	if labs, err := List(); err != nil || !strings.Contains(strings.Join(labs, " "), taken.Name()) {
		t.Errorf("List: %v, %v", labs, err)
	}
	if err := Down(labName(t) + "y"); err == nil || !strings.Contains(err.Error(), "there is no lab") {
		t.Errorf("ending a lab that is not there: %v", err)
	}
}
