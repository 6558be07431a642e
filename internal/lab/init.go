package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"mosix/internal/config"
	"mosix/internal/kern"
)

// InitCommand is the hidden subcommand by which mosixctl becomes the init of a node.
const InitCommand = "lab-init"

// The descriptors that an init is born with.
const (
	fdListener = 3 // init.sock
	fdSetup    = 4 // to the starter: spec comes, one reply goes
	fdHub      = 5 // the bridge's network namespace, which lives as long as somebody holds it
)

// initSpec tells an init what to make of its namespaces.
type initSpec struct {
	Lab   string     `json:"lab"`
	Dir   string     `json:"dir"` // of the node, on the machine
	Node  Node       `json:"node"`
	Binds []bindFile `json:"binds"`
}

// bindFile is a file of the machine that gets into nodeBin by Name.
type bindFile struct {
	Path string `json:"path"`
	Name string `json:"name"`
}

// InitMain is the whole life of a node's init; it returns only when it could not become one. The lab started it as PID 1 of
// new namespaces.
func InitMain() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("%s is how the lab starts the first process of a node, not a command for people; see mosixctl lab --help", InitCommand)
	}
	holdSignals()
	closeStrays()
	syscall.Umask(0o022)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))

	l, err := net.FileListener(os.NewFile(fdListener, "init.sock"))
	if err != nil {
		return fmt.Errorf("take over init.sock: %w", err)
	}
	setup, err := net.FileConn(os.NewFile(fdSetup, "setup"))
	if err != nil {
		return fmt.Errorf("take over the starter's connection: %w", err)
	}
	starter := conn{setup.(*net.UnixConn)}
	var spec initSpec
	if _, _, err := starter.receive(&spec); err != nil {
		return fmt.Errorf("the starter ended before it said what to make: %w", err)
	}
	n := &nodeInit{spec: spec, log: log, procs: newProcesses(log)}
	err = errors.Join(makeMounts(spec), setUpNetwork(spec.Node))
	if err == nil {
		err = syscall.Sethostname([]byte(spec.Node.Name))
	}
	var answer reply
	if err != nil {
		answer.Error = err.Error()
	}
	if serr := starter.send(answer, 0); err == nil && serr != nil {
		err = fmt.Errorf("the starter ended: %w", serr)
	}
	starter.Close()
	if err != nil {
		return err
	}
	log.Info("node is up", "lab", spec.Lab, "node", spec.Node.Name)
	return n.serve(l.(*net.UnixListener))
}

// holdSignals makes the init deaf to what would end or stop a program. Handlers, and not "ignore": programs that the init
// starts inherit what is ignored, but not what is handled.
func holdSignals() {
	kern.HeedSignals()
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGTERM, syscall.SIGUSR1,
		syscall.SIGUSR2, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGWINCH, syscall.SIGIO, syscall.SIGPWR)
}

// closeStrays closes what the starter's caller left open, lest a pipe of theirs stay open as long as the lab.
func closeStrays() {
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range dir {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		switch {
		case errno != 0 || flags&syscall.FD_CLOEXEC != 0: // closed meanwhile, or the runtime's own
		case fd <= fdHub:
			syscall.CloseOnExec(fd)
		default:
			syscall.Close(fd)
		}
	}
}

// nodeInit serves requests on init.sock.
type nodeInit struct {
	spec  initSpec
	log   *slog.Logger
	procs *processes

	mu    sync.Mutex
	agent *child // nil before the first start
	asked bool   // to end the agent
	cut   []string
}

func (n *nodeInit) serve(l *net.UnixListener) error {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			// Out of descriptors or memory: the node lives on, and the next caller may have more luck.
			n.log.Error("accept on init.sock", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go n.handle(conn{c})
	}
}

func (n *nodeInit) handle(c conn) {
	defer c.Close()
	var req request
	files, _, err := c.receive(&req)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			n.log.Error("read a request", "err", err)
		}
		return
	}
	if req.Op == opExec {
		n.exec(c, req.Exec, files)
		return
	}
	var r reply
	pid := 0
	switch req.Op {
	case opInfo:
		r.Info = n.info()
		pid = r.Info.Agent.PID
	case opHostPID:
		pid = req.PID
	case opAgent:
		err = n.agentAction(req)
		r.Info = n.info()
		pid = r.Info.Agent.PID
	case opLink:
		err = n.link(req.Peer, req.Cut)
	case opStatus:
		r.HTTP, r.Body, err = askAgent(req.Path)
	default:
		err = fmt.Errorf("request %q is not known to this init: it is of another version of mosixctl; end the lab and start it again", req.Op)
	}
	if err != nil {
		r.Error = err.Error()
	}
	err = c.send(r, pid)
	if err != nil && pid > 0 {
		// The kernel found no process with that number.
		r = reply{Error: fmt.Sprintf("the node has no process %d", pid)}
		if req.Op != opHostPID { // the agent ended between the look and the send
			r = reply{Info: n.info()}
		}
		err = c.send(r, 0)
	}
	if err != nil && !errors.Is(err, syscall.EPIPE) { // an asker that is gone wants no answer
		n.log.Error("answer a request", "op", req.Op, "err", err)
	}
}

func (n *nodeInit) info() *initInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := &initInfo{Cut: slices.Clone(n.cut)}
	if n.agent == nil {
		return i
	}
	if st, ended := n.agent.ended(); ended {
		i.Agent = agentInfo{Ended: describe(st), Asked: n.asked}
	} else {
		i.Agent = agentInfo{Running: true, PID: n.agent.pid}
	}
	return i
}

func describe(st syscall.WaitStatus) string {
	if st.Signaled() {
		return "signal: " + st.Signal().String()
	}
	return "exit status " + strconv.Itoa(st.ExitStatus())
}

func (n *nodeInit) agentAction(req request) error {
	if req.Action == agentStart {
		return n.startAgent(req.Env)
	}
	n.mu.Lock()
	a := n.agent
	n.asked = true
	n.mu.Unlock()
	if a == nil {
		return errors.New("the agent was never started")
	}
	if st, ended := a.ended(); ended {
		return fmt.Errorf("the agent does not run: it ended before (%s)", describe(st))
	}
	sig, patience := syscall.SIGKILL, 10*time.Second
	if req.Action == agentStop {
		sig, patience = syscall.SIGTERM, 60*time.Second
	}
	n.procs.signal(a, a.pid, sig)
	select {
	case <-a.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the agent still runs %s after the signal (%s)", patience, sig)
	}
}

func (n *nodeInit) startAgent(env []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agent != nil {
		if _, ended := n.agent.ended(); !ended {
			return fmt.Errorf("the agent runs already, as process %d of the node", n.agent.pid)
		}
	}
	out, err := os.OpenFile(filepath.Join(nodeState, "agent.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	exe := filepath.Join(nodeBin, "mosixd")
	c, err := n.procs.start(func() (int, error) {
		return syscall.ForkExec(exe, []string{"mosixd", "--config", filepath.Join(nodeState, "mosixd.toml")}, &syscall.ProcAttr{
			Dir:   "/",
			Env:   append([]string{"PATH=" + searchPath, "HOME=" + homeOfRoot, "USER=root", "LOGNAME=root"}, env...),
			Files: []uintptr{rawFD(null), rawFD(out), rawFD(out)},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", exe, err)
	}
	n.agent, n.asked = c, false
	go func() {
		<-c.done
		st, _ := c.ended()
		n.log.Info("agent ended", "pid", c.pid, "how", describe(st))
	}()
	return nil
}

// askAgent fetches path from the agent's control socket. The lab asks through the init, so that the agent sees a peer that
// its PID namespace knows.
func askAgent(path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	socket := config.Config{RunDir: nodeRun}.ControlSocket()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, packetLimit/2)) // JSON carries it in base 64
	return resp.StatusCode, body, err
}
