package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/node/api"
)

// TestMain lets the test binary play all the parts: mosixctl as init, mosixctl lab exec and lab up, and a small mosixd.
func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "mosixd":
		fakeAgent(os.Args[2])
	case len(os.Args) > 1 && os.Args[1] == InitCommand:
		fmt.Fprintln(os.Stderr, InitMain())
		os.Exit(1)
	case len(os.Args) > 1 && os.Args[1] == "test-exec": // LAB tty|plain NODE CMD…
		l := must(Open(os.Args[2]))
		c := l.Command(id.Node(os.Args[4]), As{}, os.Args[5], os.Args[6:]...)
		c.TTY = os.Args[3] == "tty"
		err := c.Attach(os.Stdin, os.Stdout, os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(ExitCode(err))
	case len(os.Args) > 1 && os.Args[1] == "test-up": // LAB
		must(Up(Options{Name: os.Args[2], Mosixd: must(os.Executable())}))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	return v
}

// fakeAgent reads the configuration as strictly as mosixd does, and answers /v1/status: a node is alive if it was reached.
func fakeAgent(path string) {
	c := must(config.Load(path, true))
	if os.Getenv("FAKE_AGENT") == "dies" {
		fmt.Fprintln(os.Stderr, "fake agent: cannot go on")
		os.Exit(9)
	}
	fmt.Fprintln(os.Stderr, "fake agent of", c.Name, "skew", time.Duration(c.ClockSkew), "cpus", c.CPUs, "policy", c.Policy)
	for _, f := range []string{"node.key", "node.cert", "authority.pub", "cluster.key"} {
		must(os.Stat(filepath.Join(c.StateDir, f)))
	}
	must(0, os.MkdirAll(c.RunDir, 0o755))
	os.Remove(c.ControlSocket())
	l := must(net.Listen("unix", c.ControlSocket()))
	member := must(net.Listen("tcp", net.JoinHostPort(c.Bind, strconv.Itoa(c.Port))))
	go func() {
		for {
			if conn, err := member.Accept(); err == nil {
				conn.Close()
			}
		}
	}()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		os.Exit(0)
	}()
	http.HandleFunc("/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		s := api.Status{Nodes: []api.Node{{Name: id.Node(c.Name), Address: c.Bind, State: "alive", Self: true, CPUs: c.CPUs}}}
		for _, seed := range c.Seeds {
			n := api.Node{Name: id.Node("n" + seed[strings.LastIndex(seed, ".")+1:]), Address: seed, State: "dead"}
			if conn, err := net.DialTimeout("tcp", net.JoinHostPort(seed, strconv.Itoa(c.Port)), time.Second); err == nil {
				conn.Close()
				n.State = "alive"
			}
			s.Nodes = append(s.Nodes, n)
		}
		must(0, json.NewEncoder(w).Encode(s))
	})
	must(0, http.Serve(l, nil))
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// up makes a lab with fake agents that ends with the test.
func up(t *testing.T, o Options) *Lab {
	t.Helper()
	needRoot(t)
	o.Name = labName(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Mosixd = exe
	l, err := Up(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(); err != nil && !strings.Contains(err.Error(), "there is no lab") {
			t.Error(err)
		}
		nothingLeft(t, l.Name())
	})
	return l
}

// labName is unique among test processes that run at once.
func labName(t *testing.T) string {
	name := strings.ToLower(strings.NewReplacer("/", "-", "Test", "").Replace(t.Name()))
	return fmt.Sprintf("%.18s-%d", "t-"+name, os.Getpid())
}

// nothingLeft looks for everything that a lab could leave on the machine.
func nothingLeft(t *testing.T, name string) {
	t.Helper()
	if _, err := os.Lstat(labDir(name)); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", labDir(name), err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), "mosix-lab") {
		t.Error("a mount of the lab is visible on the machine")
	}
	h, err := findHierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for c, dir := range h {
		if _, err := os.Lstat(dir.join(cgroupTop, name).Path); !os.IsNotExist(err) {
			t.Errorf("the %s hierarchy still has the lab's group (%v)", c, err)
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		words, err := os.ReadFile(p)
		if err != nil {
			continue // ended meanwhile
		}
		if args := strings.Split(string(words), "\x00"); len(args) > 2 && args[1] == InitCommand && args[2] == name {
			t.Errorf("%s: an init still runs", p)
		}
	}
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		if i.Name == bridgeName || i.Name == "n1" {
			t.Errorf("the machine has a network device %s", i.Name)
		}
	}
}

// run runs a shell command in a node and wants it to succeed.
func run(t *testing.T, l *Lab, node id.Node, as As, script string) string {
	t.Helper()
	out, err := l.Command(node, as, "sh", "-c", script).Output()
	if err != nil {
		t.Fatalf("%s: %s: %v", node, script, err)
	}
	return strings.TrimSpace(string(out))
}
