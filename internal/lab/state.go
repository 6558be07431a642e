package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/internal/identity"
	"mosix/node/api"
	"mosix/node/sampler"
)

// validity of the nodes' certificates: longer than any machine that holds a lab stays up.
const validity = 10 * 365 * 24 * time.Hour

// writeState makes what the agents need to know before they start: who they are, and how they are configured.
func (l *Lab) writeState(o Options) error {
	authority, err := identity.NewAuthority(l.AuthorityDir())
	if err != nil {
		return err
	}
	key := filepath.Join(l.Dir(), identity.ClusterKeyFile)
	if err := identity.NewClusterKey(key); err != nil {
		return err
	}
	secret, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	// One machine, one speed: agents that measured it all at once would disturb each other, and take equal nodes for unequal ones.
	speed := sampler.Calibrate()
	for _, n := range l.rec.Nodes {
		if err := os.MkdirAll(l.StateDir(n.Name), 0o700); err != nil {
			return err
		}
		if err := sampler.SetSpeed(l.StateDir(n.Name), speed); err != nil {
			return err
		}
		if err := authority.Admit(l.StateDir(n.Name), n.Name, validity); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(l.StateDir(n.Name), identity.ClusterKeyFile), secret, 0o600); err != nil {
			return err
		}
		c := l.configOf(n, o)
		if o.Configure != nil {
			o.Configure(n.Name, &c)
		}
		if err := c.Check(); err != nil {
			return fmt.Errorf("configuration of %s: %w", n.Name, err)
		}
		if err := writeConfig(l.ConfigFile(n.Name), c); err != nil {
			return err
		}
	}
	return writeJSON(filepath.Join(l.Dir(), "lab.json"), l.rec)
}

// configOf is the configuration of n's agent, with paths as the node has them.
func (l *Lab) configOf(n Node, o Options) config.Config {
	c := config.Default()
	c.Name = string(n.Name)
	c.StateDir = filepath.Join(nodeState, "id")
	c.RunDir = nodeRun
	c.Bind = n.Address
	for _, other := range l.rec.Nodes {
		if other.Name != n.Name {
			c.Seeds = append(c.Seeds, other.Address)
		}
	}
	c.MDNS, c.Owner = false, "none" // whoever is at this machine owns no node of a lab
	c.CPUs = n.CPUs
	c.Memory = config.Bytes(n.Memory)
	c.Cgroup = n.Guests
	c.ClockSkew, c.ClockDrift = config.Duration(n.ClockSkew), n.ClockDrift
	if o.Policy != "" {
		c.Policy = o.Policy
	}
	if o.Period != 0 {
		c.Period = config.Duration(o.Period)
	}
	if o.LogLevel != "" {
		c.LogLevel = o.LogLevel
	}
	return c
}

// WriteConfig replaces the configuration of node's agent, which reads it at its next start. Paths are as the node has them.
func (l *Lab) WriteConfig(node id.Node, c config.Config) error {
	return writeConfig(l.ConfigFile(node), c)
}

func writeConfig(path string, c config.Config) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := toml.NewEncoder(f).Encode(c); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}

// WaitReady waits until every node's agent answers and knows all nodes as alive, at most d.
func (l *Lab) WaitReady(d time.Duration, cancel <-chan struct{}) error {
	deadline := time.Now().Add(d)
	for _, n := range l.rec.Nodes {
		for {
			err := l.ready(n.Name)
			if err == nil {
				break
			}
			if errors.As(err, new(*agentGone)) {
				return err
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("the agents did not find each other within %s: %w; the log of %s's agent ends:\n%s", d, err, n.Name, tail(l.AgentLogFile(n.Name)))
			}
			select {
			case <-cancel:
				return errors.New("interrupted")
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// agentGone is the end of an agent that should run.
type agentGone struct {
	node     id.Node
	how, log string
}

func (e *agentGone) Error() string {
	return fmt.Sprintf("the agent of %s has ended (%s); its log ends:\n%s", e.node, e.how, e.log)
}

// WaitAgent waits until node's agent answers at its control socket, at most d.
func (l *Lab) WaitAgent(node id.Node, d time.Duration) error {
	deadline := time.Now().Add(d)
	for {
		_, err := l.statusOf(node)
		if err == nil || errors.As(err, new(*agentGone)) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the agent of %s does not answer within %s: %w; its log ends:\n%s", node, d, err, tail(l.AgentLogFile(node)))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (l *Lab) statusOf(node id.Node) (s api.Status, err error) {
	if err = l.Get(node, "/v1/status", &s); err == nil {
		return s, nil
	}
	a, aerr := l.Agent(node)
	if aerr != nil {
		return s, aerr
	}
	if !a.Running {
		return s, &agentGone{node, firstWord(a.Ended, "never started"), tail(l.AgentLogFile(node))}
	}
	return s, err
}

func (l *Lab) ready(node id.Node) error {
	s, err := l.statusOf(node)
	if err != nil {
		return err
	}
	state := map[id.Node]string{}
	for _, n := range s.Nodes {
		state[n.Name] = n.State
	}
	var missing []string
	for _, n := range l.rec.Nodes {
		if state[n.Name] != "alive" {
			missing = append(missing, fmt.Sprintf("%s is %s", n.Name, firstWord(state[n.Name], "unknown")))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("to %s, %s", node, strings.Join(missing, ", "))
	}
	return nil
}

// tail is the end of a log, indented: as much as tells what went wrong.
func tail(path string) string {
	const limit = 20
	b, err := os.ReadFile(path)
	if err != nil {
		return "  (" + err.Error() + ")"
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	if len(lines) > limit {
		lines = lines[len(lines)-limit:]
	}
	if len(lines) == 1 && lines[0] == "" {
		return "  (it is empty)"
	}
	return "  " + strings.Join(lines, "\n  ")
}
