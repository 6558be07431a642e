package lab

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"mosix/internal/id"
)

// A cut stops what is sent over standing and over new connections, without an error; healed, everything goes on.
func TestLink(t *testing.T) {
	l := up(t, Options{Nodes: 3, NoAgents: true})
	const serve = `exec python3 -u -c '
import socket, threading
s = socket.create_server(("0.0.0.0", 7000))
print("ready")
def echo(c):
    while b := c.recv(1): c.sendall(b)
while True:
    threading.Thread(target=echo, args=[s.accept()[0]]).start()'`
	const ping = `exec python3 -u -c '
import socket, sys
c = socket.create_connection(("10.77.0.1", 7000), 10)
for line in sys.stdin:
    c.settimeout(float(line))
    try: c.sendall(b"x"); print("pong" if c.recv(1) else "end")
    except TimeoutError: print("silence")
    except Exception as e: print(repr(e))'`
	if run(t, l, "n1", As{}, "command -v python3 || true") == "" {
		t.Skip("needs python3 in the nodes")
	}
	server := newDialogue(t, l, "n1", serve)
	server.expect("ready")
	c2, c3 := newDialogue(t, l, "n2", ping), newDialogue(t, l, "n3", ping)
	for _, c := range []*dialogue{c2, c3} {
		c.say("10")
		c.expect("pong")
	}
	if err := l.Link("n1", "n2", true); err != nil {
		t.Fatal(err)
	}
	c2.say("0.3")
	c2.expect("silence")
	c3.say("10")
	c3.expect("pong")
	if got := run(t, l, "n2", As{}, `python3 -c '
import socket
try: socket.create_connection(("10.77.0.1", 7000), 0.3); print("connected")
except TimeoutError: print("silence")
except Exception as e: print(repr(e))'`); got != "silence" {
		t.Errorf("a new connection over a cut link: %s", got)
	}
	s, err := l.Status()
	if err != nil || fmt.Sprint(s.Nodes[0].CutFrom, s.Nodes[1].CutFrom, s.Nodes[2].CutFrom) != "[n2] [n1] []" {
		t.Errorf("status of cut links: %+v, %v", s, err)
	}
	if err := l.Link("n2", "n1", false); err != nil {
		t.Fatal(err)
	}
	c2.say("20") // what was sent into the cut comes back first
	c2.expect("pong")
	for _, err := range []error{l.Link("n1", "n2", false), l.Link("n1", "n3", true), l.Link("n1", "n3", true), l.Link("n1", "n3", false)} {
		if err != nil {
			t.Errorf("saying it twice: %v", err)
		}
	}
	if err := l.Link("n1", "n1", true); err == nil {
		t.Error("a node was cut off from itself")
	}
}

// dialogue is a program in a node that answers lines with lines.
type dialogue struct {
	t   *testing.T
	in  io.Writer
	out io.Reader
}

func newDialogue(t *testing.T, l *Lab, node id.Node, script string) *dialogue {
	t.Helper()
	c := l.Command(node, As{}, "sh", "-c", script)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Signal(syscall.SIGKILL)
		in.Close()
		out.Close()
		c.Wait()
	})
	return &dialogue{t, in, out}
}

func (d *dialogue) say(line string) {
	d.t.Helper()
	if _, err := io.WriteString(d.in, line+"\n"); err != nil {
		d.t.Fatal(err)
	}
}

func (d *dialogue) expect(want string) {
	d.t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := d.out.Read(b); err != nil {
			d.t.Fatalf("got %q, then %v; want %q", line, err, want)
		}
		if b[0] == '\n' {
			break
		}
		line = append(line, b[0])
	}
	if string(line) != want {
		d.t.Fatalf("got %q, want %q", line, want)
	}
}

// Programs of a node are in its quota, with two of them together; the init and the agent are not.
// throttled is how often the kernel has made the programs of node n stand still for their quota.
func throttled(t *testing.T, n Node) (times int) {
	for _, g := range n.Users {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(g.Path), "cpu.stat"))
		if err != nil {
			continue // the group of another controller
		}
		for line := range strings.Lines(string(b)) {
			if _, err := fmt.Sscanf(line, "nr_throttled %d", &times); err == nil {
				return times
			}
		}
	}
	t.Fatalf("no cpu.stat with nr_throttled above %v", n.Users)
	return 0
}

func TestQuota(t *testing.T) {
	l := up(t, Options{Nodes: 2, CPUs: []float64{0.25, 0}, Memory: 64 << 20})
	for _, as := range []As{{}, {User: "root"}} {
		groups := run(t, l, "n1", as, "cat /proc/self/cgroup")
		for _, want := range []string{cgroupTop + "/" + l.Name() + "/n1/user"} {
			if strings.Count(groups, want) < 1 {
				t.Errorf("groups of a program of %q: want %s in\n%s", as.User, want, groups)
			}
		}
	}
	n1, err := l.Node("n1")
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := readInit(l.Name(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Agent("n1")
	if err != nil {
		t.Fatal(err)
	}
	for what, pid := range map[string]int{"init": r.PID, "agent": a.HostPID} {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/cgroup", pid))
		if err != nil || len(tasks) == 0 {
			t.Fatal(tasks, err)
		}
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err == nil && strings.Contains(string(b), cgroupTop) {
				t.Errorf("a thread of the %s is in the quota: %s\n%s", what, task, b)
			}
		}
	}
	// The kernel says how often it has made the group stand still because its share of a period was used up. How much time the loops
	// got tells less: what a host takes away from this machine in the middle of them counts as theirs.
	const burn = "timeout 0.6 sh -c 'while :; do :; done'"
	before := throttled(t, n1)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { _ = l.Command("n1", As{}, "sh", "-c", burn).Run() })
	}
	wg.Wait()
	if times := throttled(t, n1) - before; times < 5 {
		t.Errorf("under a quota of 0.25 CPUs two loops of 600 ms were throttled %d times", times)
	}
	if run(t, l, "n1", As{}, "command -v python3 || true") == "" {
		t.Skip("needs python3 in the nodes")
	}
	// Memory: more than the limit ends the program and nothing else.
	err = l.Command("n1", As{}, "python3", "-c", "x = bytearray(256 << 20); print(len(x))").Run()
	if got := ExitCode(err); got != 137 {
		t.Errorf("a program that takes four times the limit ends with %d (%v), want 137", got, err)
	}
	if len(n1.Guests) == 0 {
		t.Error("there are no groups for guests")
	}
	for _, g := range n1.Guests {
		if err := os.Mkdir(filepath.Join(g, "4711"), 0o755); err != nil { // as the agent does; Down removes it
			t.Error(err)
		}
	}
}

// Where v2 has the controllers, TestQuota goes this way; elsewhere the v2 tree has at least one controller to try it with.
func TestVersion2Groups(t *testing.T) {
	needRoot(t)
	h, err := findHierarchies()
	if err != nil {
		t.Fatal(err)
	}
	controller := ""
	for c, dir := range h {
		if dir.V2 {
			controller = c
		}
	}
	if controller == "" {
		t.Skip("no v2 hierarchy has a controller")
	}
	name := labName(t)
	dir, err := h.makeIn(h[controller], controller, name, &Node{Name: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.removeCgroups(name); err != nil {
			t.Error(err)
		}
		nothingLeft(t, name)
	}()
	if b, err := os.ReadFile(filepath.Join(dir.Path, "guests", "cgroup.controllers")); err != nil || strings.TrimSpace(string(b)) != controller {
		t.Errorf("the agent's group can hand on %q (%v), want %s", b, err, controller)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	pid, err := inCgroups([]cgroupDir{dir.join("user")}, func(fd int) (int, error) {
		return syscall.ForkExec("/bin/cat", []string{"cat", "/proc/self/cgroup"}, &syscall.ProcAttr{
			Files: []uintptr{0, w.Fd(), 2}, Sys: &syscall.SysProcAttr{UseCgroupFD: fd >= 0, CgroupFD: fd},
		})
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if want := "0::/" + cgroupTop + "/" + name + "/n1/user\n"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("a program's groups: %s (%v), want %s", out, err, want)
	}
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		t.Error(err)
	}
	// What still runs in a group ends with it.
	sleeper, err := inCgroups([]cgroupDir{dir.join("guests")}, func(fd int) (int, error) {
		return syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}})
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	go func() {
		var st syscall.WaitStatus
		syscall.Wait4(sleeper, &st, 0, nil)
		ended <- st
	}()
	if err := removeTree(dir.Path); err != nil {
		t.Error(err)
	}
	if st := <-ended; st.Signal() != syscall.SIGKILL {
		t.Errorf("the sleeper ended with %v", st)
	}
}

// terminal drives a program on a terminal as a person does.
type terminal struct {
	t    *testing.T
	f    *os.File
	mu   sync.Mutex
	seen bytes.Buffer
}

func newTerminal(t *testing.T, f *os.File) *terminal {
	term := &terminal{t: t, f: f}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			term.mu.Lock()
			term.seen.Write(b[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return term
}

func (term *terminal) write(s string) {
	term.t.Helper()
	if _, err := term.f.WriteString(s); err != nil {
		term.t.Fatal(err)
	}
}

// expect waits until want was written, and forgets everything up to it.
func (term *terminal) expect(want string) {
	term.t.Helper()
	defer func() {
		if term.t.Failed() {
			term.t.Logf("the terminal shows:\n%s", term.seen.String())
		}
	}()
	eventually(term.t, fmt.Sprintf("%q on the terminal", want), func() bool {
		term.mu.Lock()
		defer term.mu.Unlock()
		s := term.seen.String()
		i := strings.Index(s, want)
		if i < 0 {
			return false
		}
		term.seen.Reset()
		term.seen.WriteString(s[i+len(want):])
		return true
	})
}

// jobControl plays acceptance 4 without any move: what a shell does must work in a node to begin with.
func jobControl(term *terminal, rows, cols int) {
	// The answers are spelled so that the echo of the question does not hold them.
	term.write("PS1='rea''dy> '; set +o history\n")
	term.expect("ready> ")
	term.write("tty; stty size; echo a-$(id -un)-$(hostname)\n")
	term.expect("/dev/pts/")
	term.expect(fmt.Sprintf("%d %d", rows, cols))
	term.expect("a-user1-n1")
	term.write("ls -l $(tty) | cut -d' ' -f1,3\n")
	term.expect("crw--w---- user1")
	// Ctrl-C
	term.write("sh -c 'echo b-$((1+1)); exec sleep 1000'\n")
	term.expect("b-2")
	term.write("\x03")
	term.expect("ready> ")
	term.write("echo c-$?\n")
	term.expect("c-130")
	// Ctrl-Z, bg, fg
	term.write("sh -c 'echo d-$((1+2)); exec sleep 1000'\n")
	term.expect("d-3")
	term.write("\x1a")
	term.expect("Stopped")
	term.write("jobs; bg; jobs; echo g-$((1+3))\n")
	term.expect("Stopped")
	term.expect("Running")
	term.expect("g-4")
	term.expect("ready> ")
	term.write("fg\n")
	term.expect("sleep 1000")
	term.write("\x03")
	term.expect("ready> ")
	// $?
	term.write("sh -c 'exit 7'; echo e-$?; sh -c 'kill -TERM $$'; echo f-$?\n")
	term.expect("e-7")
	term.expect("f-143")
	term.write("exit 42\n")
}

func TestTerminal(t *testing.T) {
	if _, err := os.Stat("/bin/bash"); err != nil {
		t.Skip("needs bash")
	}
	l := up(t, Options{Nodes: 1, NoAgents: true})
	c := l.Command("n1", As{}, "bash", "--norc", "-i")
	c.TTY, c.Rows, c.Cols = true, 40, 100
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	jobControl(newTerminal(t, c.Terminal), 40, 100)
	if got := ExitCode(c.Wait()); got != 42 {
		t.Errorf("bash ended with %d", got)
	}
	c.Terminal.Close()

	// The terminal's other end closes: everybody on it is hung up.
	c = l.Command("n1", As{}, "sh", "-c", "sleep 1000; true")
	c.TTY = true
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.Terminal.Close()
	if got := ExitCode(c.Wait()); got != 128+int(syscall.SIGHUP) {
		t.Errorf("a shell whose terminal was hung up ended with %d", got)
	}
}

// The same through a terminal of the machine, as mosixctl lab exec has it.
func TestAttach(t *testing.T) {
	if _, err := os.Stat("/bin/bash"); err != nil {
		t.Skip("needs bash")
	}
	l := up(t, Options{Nodes: 1, NoAgents: true})
	start := func(args ...string) (*exec.Cmd, *terminal) {
		cmd := exec.Command(os.Args[0], append([]string{"test-exec", l.Name()}, args...)...)
		f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 111})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); f.Close() })
		return cmd, newTerminal(t, f)
	}
	cmd, term := start("tty", "n1", "bash", "--norc", "-i")
	jobControl(term, 33, 111)
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 42 {
		t.Errorf("exit code %d", got)
	}

	cmd, term = start("tty", "n1", "sh", "-c", "trap 'stty size' WINCH; stty size; while read x; do echo $x; done; exit 5")
	term.expect("33 111")
	if err := pty.Setsize(term.f, &pty.Winsize{Rows: 20, Cols: 50}); err != nil {
		t.Fatal(err)
	}
	term.write("hello\n")
	term.expect("20 50")
	term.write("\x04") // end of input
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("exit code %d", got)
	}
	// All output arrives, however much comes at the end.
	cmd, term = start("tty", "n1", "sh", "-c", "seq 1 20000; echo the''end")
	term.expect("19999\r\n20000\r\ntheend\r\n")
	cmd.Wait()

	// Without a terminal: descriptors go through, signals too.
	plain := exec.Command(os.Args[0], "test-exec", l.Name(), "plain", "n1", "sh", "-c", "trap 'exit 6' TERM; cat; echo end; while :; do sleep 0.01; done")
	plain.Stdin = strings.NewReader("in\n")
	out, err := plain.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Start(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(out, got); err != nil || string(got) != "in\nend\n" {
		t.Fatalf("%q %v", got, err)
	}
	plain.Process.Signal(syscall.SIGTERM)
	plain.Wait()
	if got := plain.ProcessState.ExitCode(); got != 6 {
		t.Errorf("exit code %d", got)
	}
}

// Whatever dies, Down leaves nothing.
func TestNothingLeft(t *testing.T) {
	needRoot(t)
	startUp := func(t *testing.T, name string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "test-up", name)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	t.Run("starter ended", func(t *testing.T) {
		name := labName(t)
		if err := startUp(t, name).Wait(); err != nil {
			t.Fatal(err)
		}
		l, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, l, "n2", As{}, "setsid sleep 1000 >/dev/null 2>&1 & hostname"); got != "n2" {
			t.Error(got)
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
		nothingLeft(t, name)
	})
	t.Run("starter killed at any moment", func(t *testing.T) {
		for i := range 12 {
			name := labName(t)
			cmd := startUp(t, name)
			time.Sleep(time.Duration(i) * 8 * time.Millisecond)
			cmd.Process.Kill()
			cmd.Wait()
			if err := Down(name); err != nil && !strings.Contains(err.Error(), "there is no lab") {
				t.Errorf("after %d ms: %v", i*8, err)
			}
			// An init that had no orders yet ends by itself.
			eventually(t, "no init is left", func() bool { return !initRuns(name) })
			nothingLeft(t, name)
		}
	})
	t.Run("inits killed", func(t *testing.T) {
		l := up(t, Options{Nodes: 2})
		r, _, err := readInit(l.Name(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the init is dead", func() bool { return !r.alive() })
		if err := l.Command("n1", As{}, "true").Run(); err == nil || !strings.Contains(err.Error(), "is down") {
			t.Errorf("a program in a dead node: %v", err)
		}
		if s, err := l.Status(); err != nil || s.Nodes[0].Up || !s.Nodes[1].Up {
			t.Errorf("status: %+v, %v", s, err)
		}
	})
	t.Run("number taken over", func(t *testing.T) {
		l := up(t, Options{Nodes: 1, NoAgents: true})
		r, _, err := readInit(l.Name(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		innocent := exec.Command("sleep", "1000")
		if err := innocent.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			innocent.Process.Kill()
			innocent.Wait()
		}()
		if err := r.kill(); err != nil {
			t.Fatal(err)
		}
		_, start, err := procStat(innocent.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		other := initRecord{PID: innocent.Process.Pid, Start: start - 1} // a clock tick earlier: as short as can be told apart
		if err := writeJSON(initRecFile(l.Name(), "n1"), other); err != nil {
			t.Fatal(err)
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
		if runs, _, err := procStat(innocent.Process.Pid); err != nil || !runs {
			t.Errorf("Down killed a process that only had the init's number (%v)", err)
		}
	})
}

func initRuns(name string) bool {
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		words, _ := os.ReadFile(p)
		if args := strings.Split(string(words), "\x00"); len(args) > 2 && args[1] == InitCommand && args[2] == name {
			return true
		}
	}
	return false
}
