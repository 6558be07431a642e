package peer

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"mosix/internal/id"
	"mosix/internal/identity"
	"mosix/internal/transport"
)

// intruder is memberlist without our rules: it believes everybody and says of itself what it likes.
type intruder struct{ meta []byte }

func (d *intruder) NodeMeta(int) []byte                                        { return d.meta }
func (d *intruder) NotifyMsg([]byte)                                           {}
func (d *intruder) GetBroadcasts(int, int) [][]byte                            { return nil }
func (d *intruder) LocalState(bool) []byte                                     { return nil }
func (d *intruder) MergeRemoteState([]byte, bool)                              {}
func (d *intruder) NotifyPingComplete(*memberlist.Node, time.Duration, []byte) {}

func intrude(t *testing.T, name id.Node, key []byte, meta func(addr netip.AddrPort) []byte) *memberlist.Memberlist {
	t.Helper()
	conf := memberlist.DefaultLANConfig()
	conf.Name, conf.BindAddr, conf.AdvertiseAddr, conf.SecretKey, conf.LogOutput = string(name), "127.0.0.1", "127.0.0.1", key, io.Discard
	nt, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, Logger: nil})
	if err != nil {
		t.Fatal(err)
	}
	port := nt.GetAutoBindPort()
	conf.Transport, conf.BindPort, conf.AdvertisePort = nt, port, port
	conf.Delegate = &intruder{meta(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)))}
	list, err := memberlist.Create(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = list.Shutdown() })
	return list
}

// Whoever was not admitted is in nobody's list, whatever it has got hold of; the cluster goes on growing meanwhile.
func TestStrangersStayOut(t *testing.T) {
	honest := func(i *identity.Identity, cert []byte) func(netip.AddrPort) []byte {
		return func(a netip.AddrPort) []byte {
			return meta{Started: 1, Addr: a.Addr(), Port: a.Port(), P2P: 1, Direct: 2, Cert: cert}.sign(i.PrivateKey())
		}
	}
	tests := []struct {
		name string
		// arrange gives the name, cluster key and metadata of the intruder.
		arrange func(t *testing.T, c *cluster, n1 *node) (id.Node, []byte, func(netip.AddrPort) []byte)
	}{
		{"wrong cluster key", func(t *testing.T, c *cluster, _ *node) (id.Node, []byte, func(netip.AddrPort) []byte) {
			i := c.identity(c.authority, "x")
			return "x", bytes.Repeat([]byte{9}, 32), honest(i, i.Certificate())
		}},
		{"no certificate", func(t *testing.T, c *cluster, _ *node) (id.Node, []byte, func(netip.AddrPort) []byte) {
			return "x", c.key, func(netip.AddrPort) []byte { return nil }
		}},
		{"garbage", func(t *testing.T, c *cluster, _ *node) (id.Node, []byte, func(netip.AddrPort) []byte) {
			return "x", c.key, func(netip.AddrPort) []byte { return bytes.Repeat([]byte{1}, 400) }
		}},
		{"expired certificate", func(t *testing.T, c *cluster, _ *node) (id.Node, []byte, func(netip.AddrPort) []byte) {
			i := c.identity(c.authority, "x")
			cert, err := c.authority.Sign(i.Cert.Key, "x", -time.Second)
			if err != nil {
				t.Fatal(err)
			}
			return "x", c.key, honest(i, cert.Encode())
		}},
		{"certificate of another peer", func(t *testing.T, c *cluster, n1 *node) (id.Node, []byte, func(netip.AddrPort) []byte) {
			return "n1x", c.key, honest(c.identity(c.authority, "x"), n1.o.Identity.Certificate())
		}},
		{"certificate of another peer, under its name", func(t *testing.T, c *cluster, _ *node) (id.Node, []byte, func(netip.AddrPort) []byte) {
			victim := c.identity(c.authority, "victim")
			return "victim", c.key, honest(c.identity(c.authority, "x"), victim.Certificate())
		}},
		{"own certificate, another name", func(t *testing.T, c *cluster, _ *node) (id.Node, []byte, func(netip.AddrPort) []byte) {
			i := c.identity(c.authority, "x")
			return "y", c.key, honest(i, i.Certificate())
		}},
		{"copied metadata", func(t *testing.T, c *cluster, _ *node) (id.Node, []byte, func(netip.AddrPort) []byte) {
			i := c.identity(c.authority, "x")
			elsewhere := netip.MustParseAddrPort("127.0.0.1:7946")
			return "x", c.key, func(netip.AddrPort) []byte { return honest(i, i.Certificate())(elsewhere) }
		}},
		{"another authority", func(t *testing.T, c *cluster, _ *node) (id.Node, []byte, func(netip.AddrPort) []byte) {
			other, err := identity.NewAuthority(filepath.Join(c.dir, "other authority"))
			if err != nil {
				t.Fatal(err)
			}
			i := c.identity(other, "x")
			return "x", c.key, honest(i, i.Certificate())
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			n1 := c.start("n1")
			name, key, meta := tt.arrange(t, c, n1)
			x := intrude(t, name, key, meta)
			_, err := x.Join([]string{n1.Addr().String()})
			if bytes.Equal(key, c.key) {
				eventually(t, "it was noticed", func() bool { return n1.Stats().Strangers > 0 })
			} else if err == nil {
				t.Error("joined with another cluster key")
			}
			n2 := c.start("n2")
			eventually(t, "the cluster grows", allAlive(n1, n2))
			for _, n := range []*node{n1, n2} {
				for _, m := range n.Members() {
					if m.Name != "n1" && m.Name != "n2" {
						t.Errorf("%s lists %+v", n.o.Identity.Name(), m)
					}
				}
				if _, ok := n.Resolve(name); ok {
					t.Errorf("%s would dial %s", n.o.Identity.Name(), name)
				}
			}
		})
	}
}

// The metadata that the tests above spoil is taken when it is not spoiled: else they would prove nothing.
func TestTheSameWithoutFaultIsLetIn(t *testing.T) {
	c := newCluster(t)
	n1 := c.start("n1")
	i := c.identity(c.authority, "x")
	x := intrude(t, "x", c.key, func(a netip.AddrPort) []byte {
		return meta{Started: 1, Addr: a.Addr(), Port: a.Port(), P2P: 1, Direct: 2, Cert: i.Certificate()}.sign(i.PrivateKey())
	})
	if _, err := x.Join([]string{n1.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is a member", func() bool { return n1.state("x") == Alive })
	a, ok := n1.Resolve("x")
	if want := (transport.Address{Host: "127.0.0.1", P2P: 1, Direct: 2, PeerID: i.PeerID()}); !ok || a != want {
		t.Errorf("resolved %+v, %v; want %+v", a, ok, want)
	}
}

// admittedTable is a table that knows one other member.
func admittedTable(t *testing.T) (c *cluster, tab *table, other *identity.Identity, as func(*identity.Identity, meta) *memberlist.Node) {
	t.Helper()
	c = newCluster(t)
	self := c.identity(c.authority, "self")
	other = c.identity(c.authority, "other")
	as = func(i *identity.Identity, m meta) *memberlist.Node {
		m.Addr, m.Port = netip.MustParseAddr("127.0.0.1"), 1000
		if m.Cert == nil {
			m.Cert = i.Certificate()
		}
		return &memberlist.Node{Name: string(i.Name()), Addr: net.IPv4(127, 0, 0, 1).To4(), Port: 1000, Meta: m.sign(i.PrivateKey())}
	}
	tab = newTable(self)
	tab.join(as(other, meta{Started: 1}))
	if len(tab.all()) != 1 {
		t.Fatalf("table %+v", tab.all())
	}
	return c, tab, other, as
}

func TestGossipIsBelievedOnlyFromItsSender(t *testing.T) {
	c, tab, other, as := admittedTable(t)
	third := c.identity(c.authority, "third") // admitted, but not a member yet
	good := envelope{From: "other", Seq: 10, Msg: []byte("load")}
	tests := []struct {
		name string
		raw  []byte
		ok   bool
	}{
		{"garbage", []byte("garbage"), false},
		{"not a member", envelope{From: "third", Seq: 1}.seal("self", third.PrivateKey()), false},
		{"another's name", good.seal("self", third.PrivateKey()), false},
		{"for somebody else", good.seal("third", other.PrivateKey()), false},
		{"good", good.seal("self", other.PrivateKey()), true},
		{"again", good.seal("self", other.PrivateKey()), false},
		{"overtaken", envelope{From: "other", Seq: 9}.seal("self", other.PrivateKey()), true},
		{"overtaken, again", envelope{From: "other", Seq: 9}.seal("self", other.PrivateKey()), false},
		{"from ourselves", envelope{From: "self", Seq: 1}.seal("self", other.PrivateKey()), false},
	}
	for _, tt := range tests {
		if _, err := tab.accept(tt.raw); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	tab.update(as(other, meta{Started: 2})) // restarted, with its clock behind
	if _, err := tab.accept(good.seal("self", other.PrivateKey())); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestTableKnowsTheLaterCertificate(t *testing.T) {
	c, tab, other, as := admittedTable(t)
	old := other.Certificate()
	renewed := c.identity(c.authority, "other") // same key, later serial
	tab.update(as(renewed, meta{Started: 1}))
	if _, _, err := tab.verify(as(other, meta{Started: 3, Cert: old})); err == nil {
		t.Error("a certificate that was replaced is believed")
	}
	if _, _, err := tab.verify(as(renewed, meta{Started: 3})); err != nil {
		t.Errorf("the later certificate: %v", err)
	}
}

func TestExpiryEndsMembership(t *testing.T) {
	_, tab, other, _ := admittedTable(t)
	if list, _, _ := tab.roster(); !list.Has("other") {
		t.Fatal("not on the roster")
	}
	if _, ok := tab.resolve("other"); !ok {
		t.Fatal("cannot be dialled")
	}
	tab.now = func() time.Time { return other.Cert.Expires }
	tab.prune()
	if list, gone, _ := tab.roster(); list.Has("other") || fmt.Sprint(gone) != "[other]" {
		t.Errorf("on the roster after its certificate has expired; gone: %v", gone)
	}
	if _, ok := tab.resolve("other"); ok {
		t.Error("can be dialled after its certificate has expired")
	}
	raw := envelope{From: "other", Seq: 1}.seal("self", other.PrivateKey())
	if _, err := tab.accept(raw); err == nil {
		t.Error("gossip is believed after the certificate has expired")
	}
}

func TestTheGoneAreForgottenInTheEnd(t *testing.T) {
	for _, tt := range []struct {
		flags byte
		state State
		keep  time.Duration
	}{{0, Dead, keepDead}, {flagLeaving, Left, keepLeft}} {
		_, tab, other, as := admittedTable(t)
		n := as(other, meta{Started: 2, Flags: tt.flags})
		tab.update(n)
		start := time.Now()
		tab.now = func() time.Time { return start }
		tab.leave(n)
		if m := tab.all(); len(m) != 1 || m[0].State != tt.state {
			t.Fatalf("%+v", m)
		}
		tab.now = func() time.Time { return start.Add(tt.keep) }
		tab.prune()
		if len(tab.all()) != 1 {
			t.Errorf("%s member forgotten before its time", tt.state)
		}
		tab.now = func() time.Time { return start.Add(tt.keep + time.Second) }
		tab.prune()
		if len(tab.all()) != 0 {
			t.Errorf("%s member never forgotten", tt.state)
		}
	}
}
