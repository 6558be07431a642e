package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mosix/internal/id"
	"mosix/node/api"
)

// Lab is one that is up, or was left over.
type Lab struct {
	rec record
}

// Open finds the lab called name.
func Open(name string) (*Lab, error) {
	if err := checkRoot(); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	l := &Lab{}
	err := readJSON(filepath.Join(labDir(name), "lab.json"), &l.rec)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noSuchLab(name)
	}
	return l, err
}

func noSuchLab(name string) error {
	labs, err := List()
	if err != nil || len(labs) == 0 {
		return fmt.Errorf("there is no lab %q and no other; mosixctl lab up makes one", name)
	}
	return fmt.Errorf("there is no lab %q; there is %s (choose by --lab or MOSIX_LAB)", name, strings.Join(labs, ", "))
}

// List names the labs of this machine, those that were left over too.
func List() ([]string, error) {
	if err := checkRoot(); err != nil {
		return nil, err
	}
	dir, err := os.ReadDir(Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range dir {
		if e.IsDir() && checkName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Name is how the lab is called.
func (l *Lab) Name() string { return l.rec.Name }

// Dir is where the machine keeps the lab's state.
func (l *Lab) Dir() string { return labDir(l.rec.Name) }

// Nodes are the lab's nodes, n1 first.
func (l *Lab) Nodes() []Node { return slices.Clone(l.rec.Nodes) }

// Node finds a node by its name.
func (l *Lab) Node(name id.Node) (Node, error) {
	for _, n := range l.rec.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("lab %s has no node %q: it has n1 to %s", l.rec.Name, name, nodeName(len(l.rec.Nodes)-1))
}

// AuthorityDir holds the authority that admitted the nodes.
func (l *Lab) AuthorityDir() string { return filepath.Join(l.Dir(), "authority") }

// StateDir is the state directory of node's agent: its identity. ConfigFile is its configuration, AgentLogFile its log.
func (l *Lab) StateDir(node id.Node) string { return filepath.Join(nodeDir(l.rec.Name, node), "id") }

// ConfigFile is the configuration of node's agent; a change counts from its next start.
func (l *Lab) ConfigFile(node id.Node) string {
	return filepath.Join(nodeDir(l.rec.Name, node), "mosixd.toml")
}

// AgentLogFile is where node's agents write, one after the other.
func (l *Lab) AgentLogFile(node id.Node) string { return agentLogFile(l.rec.Name, node) }

// AgentLog is what node's agents wrote so far.
func (l *Lab) AgentLog(node id.Node) (string, error) {
	b, err := os.ReadFile(l.AgentLogFile(node))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

func (l *Lab) dial(node id.Node) (conn, error) {
	if _, err := l.Node(node); err != nil {
		return conn{}, err
	}
	c, err := dial(initSocket(l.rec.Name, node))
	if err != nil {
		return conn{}, fmt.Errorf("node %s of lab %s is down (its init does not answer: %w); mosixctl lab down, then lab up, makes it anew", node, l.rec.Name, err)
	}
	return c, nil
}

// ask sends one request to the init of node and waits for its one reply.
func (l *Lab) ask(node id.Node, req request) (r reply, pid int, err error) {
	c, err := l.dial(node)
	if err != nil {
		return reply{}, 0, err
	}
	defer c.Close()
	if err := c.send(req, 0); err != nil {
		return reply{}, 0, fmt.Errorf("ask the init of node %s: %w", node, err)
	}
	_, pid, err = c.receive(&r)
	if err != nil {
		return reply{}, 0, fmt.Errorf("the init of node %s did not answer: %w; it wrote:\n%s", node, err, tail(initLogFile(l.rec.Name, node)))
	}
	if r.Error != "" {
		return r, pid, fmt.Errorf("node %s: %s", node, r.Error)
	}
	return r, pid, nil
}

// HostPID is the number on the machine of the process that node knows as pid.
func (l *Lab) HostPID(node id.Node, pid int) (int, error) {
	if pid <= 0 {
		return 0, fmt.Errorf("node %s: %d is not a process number", node, pid)
	}
	_, host, err := l.ask(node, request{Op: opHostPID, PID: pid})
	return host, err
}

// Agent is the state of a node's agent.
type Agent struct {
	Running bool   `json:"running"`
	PID     int    `json:"pid,omitempty"`      // in the node
	HostPID int    `json:"host_pid,omitempty"` // on the machine
	Ended   string `json:"ended,omitempty"`    // how the last one ended
}

func (l *Lab) agent(node id.Node, req request) (Agent, *initInfo, error) {
	r, pid, err := l.ask(node, req)
	if err != nil {
		return Agent{}, nil, err
	}
	if r.Info == nil {
		return Agent{}, nil, fmt.Errorf("the init of node %s answered nothing", node)
	}
	a := Agent{Running: r.Info.Agent.Running, PID: r.Info.Agent.PID, Ended: r.Info.Agent.Ended}
	if a.Running {
		a.HostPID = pid
	}
	return a, r.Info, nil
}

// Agent tells how node's agent is.
func (l *Lab) Agent(node id.Node) (Agent, error) {
	a, _, err := l.agent(node, request{Op: opInfo})
	return a, err
}

// AgentStart starts the agent of node, with env on top of its environment, and returns at once: see WaitReady.
func (l *Lab) AgentStart(node id.Node, env ...string) (Agent, error) {
	a, _, err := l.agent(node, request{Op: opAgent, Action: agentStart, Env: env})
	return a, err
}

// AgentKill ends the agent of node by SIGKILL, and returns when it has ended.
func (l *Lab) AgentKill(node id.Node) (Agent, error) {
	a, _, err := l.agent(node, request{Op: opAgent, Action: agentKill})
	return a, err
}

// AgentStop asks the agent of node by SIGTERM to end, and returns when it has, at the latest after a minute.
func (l *Lab) AgentStop(node id.Node) (Agent, error) {
	a, _, err := l.agent(node, request{Op: opAgent, Action: agentStop})
	return a, err
}

// Link cuts what two nodes send to each other, or lets it through again.
func (l *Lab) Link(a, b id.Node, cut bool) error {
	na, err := l.Node(a)
	if err != nil {
		return err
	}
	nb, err := l.Node(b)
	if err != nil {
		return err
	}
	if a == b {
		return fmt.Errorf("node %s has no link to itself", a)
	}
	_, _, err = l.ask(a, request{Op: opLink, Peer: nb.Address, Cut: cut})
	if err != nil {
		return err
	}
	_, _, err = l.ask(b, request{Op: opLink, Peer: na.Address, Cut: cut})
	return err
}

// Get fetches path, such as /v1/status, from the control socket of node's agent, as root, into out.
func (l *Lab) Get(node id.Node, path string, out any) error {
	r, _, err := l.ask(node, request{Op: opStatus, Path: path})
	if err != nil {
		return err
	}
	if r.HTTP != http.StatusOK {
		var e api.Error
		_ = json.Unmarshal(r.Body, &e) // what is no JSON is shown as it came
		return fmt.Errorf("agent of %s answers %s with %d: %s", node, path, r.HTTP, firstWord(e.Error, string(r.Body)))
	}
	if err := json.Unmarshal(r.Body, out); err != nil {
		return fmt.Errorf("agent of %s answers %s with what is no JSON: %w", node, path, err)
	}
	return nil
}

// NodeStatus is a node of a lab as lab status shows it.
type NodeStatus struct {
	Node
	Up       bool      `json:"up"` // its init runs
	InitPID  int       `json:"init_pid,omitempty"`
	Agent    Agent     `json:"agent"`
	CutFrom  []id.Node `json:"cut_from,omitempty"`
	AgentLog string    `json:"agent_log"`
}

// Status is what mosixctl lab status shows.
type Status struct {
	Name    string       `json:"name"`
	Dir     string       `json:"dir"`
	Created time.Time    `json:"created"`
	Policy  string       `json:"policy,omitempty"` // empty: the agent's own default
	Nodes   []NodeStatus `json:"nodes"`
}

// Status looks at every node.
func (l *Lab) Status() (Status, error) {
	s := Status{Name: l.rec.Name, Dir: l.Dir(), Created: l.rec.Created, Policy: l.rec.Policy}
	for _, n := range l.rec.Nodes {
		ns := NodeStatus{Node: n, AgentLog: l.AgentLogFile(n.Name)}
		r, ok, err := readInit(l.rec.Name, n.Name)
		if err != nil {
			return s, err
		}
		if ok && r.alive() {
			ns.Up, ns.InitPID = true, r.PID
			var info *initInfo
			if ns.Agent, info, err = l.agent(n.Name, request{Op: opInfo}); err != nil {
				return s, err
			}
			for _, other := range l.rec.Nodes {
				if slices.Contains(info.Cut, other.Address) {
					ns.CutFrom = append(ns.CutFrom, other.Name)
				}
			}
		}
		s.Nodes = append(s.Nodes, ns)
	}
	return s, nil
}
