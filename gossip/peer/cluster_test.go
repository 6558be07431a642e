package peer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"mosix/gossip"
	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/internal/identity"
	"mosix/internal/transport"
)

// cluster makes nodes on 127.0.0.1 with real membership and real transports.
type cluster struct {
	t         *testing.T
	dir       string
	authority *identity.Authority
	key       []byte // cluster key
	seeds     []string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir := t.TempDir()
	a, err := identity.NewAuthority(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, dir: dir, authority: a}
}

// identity admits name by authority. All identities of a cluster have its key.
func (c *cluster) identity(authority *identity.Authority, name id.Node) *identity.Identity {
	c.t.Helper()
	state := filepath.Join(c.dir, string(name))
	if err := authority.Admit(state, name, time.Hour); err != nil {
		c.t.Fatal(err)
	}
	if err := identity.NewClusterKey(filepath.Join(state, identity.ClusterKeyFile)); err != nil {
		c.t.Fatal(err)
	}
	i, err := identity.Load(state)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.key == nil {
		c.key = i.ClusterKey
	}
	i.ClusterKey = c.key
	return i
}

// node is a running node of a test.
type node struct {
	*Peer
	net *transport.Net
}

func (n *node) kill() {
	n.net.Close()
	n.Close()
}

func (c *cluster) start(name id.Node) *node {
	c.t.Helper()
	return c.startAs(c.identity(c.authority, name), config.Config{Bind: "127.0.0.1"}, nil)
}

func (c *cluster) startAs(i *identity.Identity, conf config.Config, onChange func(Member)) *node {
	c.t.Helper()
	tn, err := transport.New(context.Background(), transport.Options{Identity: i, Bind: conf.Bind})
	if err != nil {
		c.t.Fatal(err)
	}
	conf.Name, conf.Period = string(i.Name()), config.Duration(100*time.Millisecond)
	if !conf.MDNS {
		conf.Seeds = c.seeds
	}
	p, err := Start(Options{
		Config: conf, Identity: i, Transport: tn, Rand: rand.New(rand.NewPCG(1, uint64(len(c.seeds)))), OnChange: onChange,
		Self: func() gossip.Entry { return gossip.Entry{LoadMilli: 1000, CPUMilli: uint32(len(i.Name()))} },
	})
	if err != nil {
		tn.Close()
		c.t.Fatal(err)
	}
	n := &node{Peer: p, net: tn}
	c.t.Cleanup(n.kill)
	c.seeds = append(c.seeds, p.Addr().String())
	return n
}

// state is what n thinks of another; "" if it does not know it.
func (n *node) state(other id.Node) State {
	for _, m := range n.Members() {
		if m.Name == other {
			return m.State
		}
	}
	return ""
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func allAlive(nodes ...*node) func() bool {
	return func() bool {
		for _, n := range nodes {
			for _, m := range nodes {
				if n.state(m.o.Identity.Name()) != Alive {
					return false
				}
			}
		}
		return true
	}
}

func TestClusterForms(t *testing.T) {
	c := newCluster(t)
	n1, n2, n3 := c.start("n1"), c.start("node-2"), c.start("node-003")
	nodes := []*node{n1, n2, n3}
	eventually(t, "all see all", allAlive(nodes...))
	eventually(t, "each knows the load of the two others", func() bool {
		for _, n := range nodes {
			if len(n.View()) != 2 {
				return false
			}
		}
		return true
	})
	for _, n := range nodes {
		for _, e := range n.View() {
			if e.CPUMilli != uint32(len(e.Node)) || e.LoadMilli != 1000 {
				t.Errorf("%s knows of %s: %+v", n.o.Identity.Name(), e.Node, e)
			}
			if e.Age < 0 || e.Age > 10*time.Second {
				t.Errorf("entry of %s is %v old", e.Node, e.Age)
			}
		}
		for _, m := range n.Members() {
			if m.Self != (m.Name == n.o.Identity.Name()) || m.PeerID == "" || !m.Addr.IsValid() || m.Expires.IsZero() || m.Since.IsZero() {
				t.Errorf("member %+v", m)
			}
		}
	}
	// The transport finds members through membership.
	n3.net.Handle(transport.ProtoControl, func(c transport.Conn) { fmt.Fprintf(c, "hello %s", c.Peer()); c.Close() })
	conn, err := n1.net.Dial(context.Background(), "node-003", transport.ProtoControl)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	k, _ := conn.Read(got)
	if string(got[:k]) != "hello n1" {
		t.Errorf("%q", got[:k])
	}
	conn.Close()

	s := n1.Stats()
	if s.Sent == 0 || s.Received == 0 || s.Rejected != 0 || s.Packets < s.Sent || s.PacketBytes <= s.SentBytes || len(s.Ages) != 2 || s.Members[Alive] != 3 {
		t.Errorf("stats %+v", s)
	}
}

// One leaves, one falls silent and comes back: each is told from the other, and a silent one is suspect before it is dead.
func TestLeaveSilenceAndReturn(t *testing.T) {
	c := newCluster(t)
	seen := make(chan Member, 100)
	n1 := c.startAs(c.identity(c.authority, "n1"), config.Config{Bind: "127.0.0.1"}, func(m Member) { seen <- m })
	n2, n3 := c.start("n2"), c.start("n3")
	eventually(t, "all see all", allAlive(n1, n2, n3))

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := n2.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	n2.kill()
	n3.kill()
	eventually(t, "n2 has left", func() bool { return n1.state("n2") == Left })
	eventually(t, "n3 is dead", func() bool { return n1.state("n3") == Dead })
	eventually(t, "both are forgotten as loads", func() bool { return len(n1.View()) == 0 })
	if _, ok := n1.Resolve("n2"); ok {
		t.Error("who has left can be dialled")
	}
	if _, ok := n1.Resolve("n3"); !ok {
		t.Error("who seems dead cannot be dialled, though it may live")
	}
	again := c.startAs(n3.o.Identity, config.Config{Bind: "127.0.0.1"}, nil)
	eventually(t, "n3 is back", func() bool { return n1.state("n3") == Alive && again.state("n1") == Alive })
	eventually(t, "its load is known again", func() bool { return len(n1.View()) == 1 })

	history := map[id.Node][]State{}
	for len(history["n3"]) < 4 {
		select {
		case m := <-seen:
			history[m.Name] = append(history[m.Name], m.State)
		case <-time.After(20 * time.Second):
			t.Fatalf("events %v", history)
		}
	}
	if got := fmt.Sprint(history["n3"]); got != "[alive suspect dead alive]" {
		t.Errorf("n3 was %s", got)
	}
	if h := history["n2"]; len(h) < 2 || h[0] != Alive || h[len(h)-1] != Left {
		t.Errorf("n2 was %v", h)
	}
}

func TestNameMustBeTheAdmittedOne(t *testing.T) {
	c := newCluster(t)
	_, err := Start(Options{Config: config.Config{Name: "other"}, Identity: c.identity(c.authority, "n1")})
	if err == nil {
		t.Error("a node runs under a name that it was not admitted under")
	}
}
