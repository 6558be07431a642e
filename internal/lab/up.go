package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"mosix/internal/config"
	"mosix/internal/id"
)

// Options says what lab to make.
type Options struct {
	Name  string // default: "lab"
	Nodes int    // 1 to 254; default: 2

	CPUs   []float64 // quota: one for all nodes, or one for each; 0: none
	Memory uint64    // limit per node in bytes; 0: none

	Policy   string                    // of the agents; "": their own default
	Period   time.Duration             // likewise
	Clock    map[id.Node]time.Duration // what a node's agent adds to the time that it reads
	Drift    map[id.Node]int           // by how many millionths that time is too fast
	LogLevel string                    // likewise
	Bind     []string                  // files and folders that get into the first folder of PATH
	Mosixctl string                    // becomes init, and is bound; default: the running program
	Mosixd   string                    // default: next to Mosixctl
	AgentEnv []string                  // on top of the agents' environment, at their first start

	Configure func(node id.Node, c *config.Config) // changes a node's configuration before it is written

	NoAgents bool          // makes the nodes and starts no agent
	NoWait   bool          // does not wait until the agents know each other
	Patience time.Duration // for that; default: a minute

	Cancel   <-chan struct{}   // ends the making, and what was made
	Progress func(line string) // told what happens
}

// Up makes a lab and starts its agents. The lab lives on when the caller ends, until Down. Where Up fails it leaves nothing.
func Up(o Options) (*Lab, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("lab up: %w", err)
	}
	l := &Lab{rec: record{Name: o.Name, Created: time.Now().UTC(), Policy: o.Policy}}
	// Whoever makes the directory makes the lab.
	if err := mkdirBelow(l.Dir(), 0o700); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("lab up: there is a lab %q already, up or left over; end it with: mosixctl lab down --lab %s, or give this one another --name", o.Name, o.Name)
	} else if err != nil {
		return nil, fmt.Errorf("lab up: %w", err)
	}
	if err := l.build(o); err != nil {
		return nil, fmt.Errorf("lab up: %w", errors.Join(err, l.Down()))
	}
	return l, nil
}

// mkdirBelow makes dir and, where it is not there, the one that it lies in, which the end of another lab may remove at any
// moment.
func mkdirBelow(dir string, mode fs.FileMode) error {
	for tries := 10; ; tries-- {
		if err := os.Mkdir(filepath.Dir(dir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Mkdir(dir, mode); !errors.Is(err, fs.ErrNotExist) || tries == 0 {
			return err
		}
	}
}

func (o *Options) complete() error {
	if err := checkRoot(); err != nil {
		return err
	}
	o.Name = firstWord(o.Name, DefaultName)
	if err := checkName(o.Name); err != nil {
		return err
	}
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.Nodes < 1 || o.Nodes > maxNodes {
		return fmt.Errorf("%d nodes: want 1 to %d", o.Nodes, maxNodes)
	}
	if len(o.CPUs) > 1 && len(o.CPUs) != o.Nodes {
		return fmt.Errorf("%d CPU quotas for %d nodes: want one for all, or one for each", len(o.CPUs), o.Nodes)
	}
	for _, c := range o.CPUs {
		if !(c == 0 || c >= 0.01) { // so that NaN is refused too
			return fmt.Errorf("a quota of %g CPUs: want 0.01 or more, or 0 for none", c)
		}
	}
	for _, n := range slices.Concat(slices.Collect(maps.Keys(o.Clock)), slices.Collect(maps.Keys(o.Drift))) {
		if !o.has(n) {
			return fmt.Errorf("a clock for node %q, which the lab does not have: want n1 to %s", n, nodeName(o.Nodes-1))
		}
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(string) {} // nobody listens
	}
	return o.findPrograms()
}

func (o *Options) has(n id.Node) bool {
	for i := range o.Nodes {
		if nodeName(i) == n {
			return true
		}
	}
	return false
}

func (o *Options) findPrograms() error {
	if o.Mosixctl == "" {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the running program: %w", err)
		}
		o.Mosixctl = exe
	}
	var err error
	if o.Mosixctl, err = filepath.Abs(o.Mosixctl); err != nil {
		return err
	}
	if o.Mosixd == "" {
		o.Mosixd = filepath.Join(filepath.Dir(o.Mosixctl), "mosixd")
	}
	if _, err := os.Stat(o.Mosixd); err != nil && !o.NoAgents {
		return fmt.Errorf("find the agent: %w; build it next to mosixctl, or name it with --mosixd", err)
	}
	names := map[string]string{"mosixd": "the agent", "mosixctl": "mosixctl"}
	for i, b := range o.Bind {
		if o.Bind[i], err = filepath.Abs(b); err != nil {
			return err
		}
		if st, err := os.Stat(b); err != nil {
			return fmt.Errorf("bind a file: %w", err)
		} else if !st.Mode().IsRegular() && !st.IsDir() {
			return fmt.Errorf("bind %s: it is neither a file nor a folder", b)
		}
		base := filepath.Base(o.Bind[i])
		if other, taken := names[base]; taken {
			return fmt.Errorf("bind %s: the name %s is taken by %s", b, base, other)
		}
		names[base] = b
	}
	return nil
}

func (l *Lab) build(o Options) error {
	h, err := findHierarchies()
	if err != nil {
		return err
	}
	for i := range o.Nodes {
		n := Node{Name: nodeName(i), Address: nodeAddress(i), Memory: o.Memory, ClockSkew: o.Clock[nodeName(i)], ClockDrift: o.Drift[nodeName(i)]}
		switch len(o.CPUs) {
		case 0:
		case 1:
			n.CPUs = o.CPUs[0]
		default:
			n.CPUs = o.CPUs[i]
		}
		if err := h.makeCgroups(o.Name, &n); err != nil {
			return err
		}
		l.rec.Nodes = append(l.rec.Nodes, n)
	}
	if err := l.writeState(o); err != nil {
		return err
	}
	hub, err := newHub()
	if err != nil {
		return err
	}
	defer hub.close()
	for _, n := range l.rec.Nodes {
		if err := cancelled(o.Cancel); err != nil {
			return err
		}
		if err := l.startNode(n, o, hub); err != nil {
			return fmt.Errorf("make node %s: %w", n.Name, err)
		}
		o.Progress(fmt.Sprintf("%s is up at %s", n.Name, n.Address))
	}
	if o.NoAgents {
		return nil
	}
	for _, n := range l.rec.Nodes {
		if _, err := l.AgentStart(n.Name, o.AgentEnv...); err != nil {
			return err
		}
	}
	if o.NoWait {
		return nil
	}
	o.Progress("waiting until the agents know each other")
	return l.WaitReady(o.Patience, o.Cancel)
}

func cancelled(c <-chan struct{}) error {
	select {
	case <-c:
		return errors.New("interrupted")
	default:
		return nil
	}
}

// startNode makes the namespaces of n with their init. The init waits for the rest of its orders until it is written down
// who it is, and ends if they never come: whenever this program dies, every init is either known to Down or gone.
func (l *Lab) startNode(n Node, o Options, h *hub) error {
	listener, err := listen(initSocket(o.Name, n.Name))
	if err != nil {
		return err
	}
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "setup"), os.NewFile(uintptr(pair[1]), "setup")
	defer ours.Close()
	defer theirs.Close()
	log, err := os.OpenFile(initLogFile(o.Name, n.Name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()

	cmd := exec.Command(o.Mosixctl, InitCommand, o.Name, string(n.Name)) // the last two are for people who read ps
	cmd.Env = []string{"PATH=" + searchPath, "HOME=/"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{socket, theirs, h.file}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS |
			syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start its init in new namespaces (needs CAP_SYS_ADMIN): %w", err)
	}
	go func() { _ = cmd.Wait() }() // reaps it, where this program lives that long; how it ended is in its log
	theirs.Close()
	_, start, err := procStat(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("look at its init: %w", err)
	}
	if err := writeJSON(initRecFile(o.Name, n.Name), initRecord{PID: cmd.Process.Pid, Start: start}); err != nil {
		return err
	}
	if err := h.plug(string(n.Name), cmd.Process.Pid); err != nil {
		return err
	}
	fc, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	c := conn{fc.(*net.UnixConn)}
	defer c.Close()
	spec := initSpec{Lab: o.Name, Dir: nodeDir(o.Name, n.Name), Node: n, Binds: o.binds()}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if err := c.send(spec, 0); err != nil {
		return fmt.Errorf("tell its init what to make: %w", err)
	}
	var r reply
	if _, _, err := c.receive(&r); err != nil {
		return fmt.Errorf("its init ended early: %w; it wrote:\n%s", err, tail(initLogFile(o.Name, n.Name)))
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}

// binds lists what the first folder of the nodes' PATH gets.
func (o Options) binds() []bindFile {
	b := []bindFile{{Path: o.Mosixctl, Name: "mosixctl"}}
	if !o.NoAgents || exists(o.Mosixd) {
		b = append(b, bindFile{Path: o.Mosixd, Name: "mosixd"})
	}
	for _, path := range o.Bind {
		b = append(b, bindFile{Path: path, Name: filepath.Base(path)})
	}
	return b
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
