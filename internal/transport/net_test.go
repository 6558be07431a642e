package transport_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/identity"
	"mosix/internal/transport"
	"mosix/internal/transport/transporttest"
)

// loopback is a cluster of real transports on 127.0.0.1.
type loopback struct {
	t         testing.TB
	authority *identity.Authority
	dir       string

	mu    sync.Mutex
	addrs map[id.Node]transport.Address
}

func newLoopback(t testing.TB) *loopback {
	t.Helper()
	dir := t.TempDir()
	a, err := identity.NewAuthority(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	return &loopback{t: t, authority: a, dir: dir, addrs: make(map[id.Node]transport.Address)}
}

func (l *loopback) resolve(n id.Node) (transport.Address, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.addrs[n]
	return a, ok
}

// identity admits name by authority and loads what came of it.
func (l *loopback) identity(authority *identity.Authority, name id.Node, validity time.Duration) *identity.Identity {
	l.t.Helper()
	state := filepath.Join(l.dir, string(name))
	if err := authority.Admit(state, name, validity); err != nil {
		l.t.Fatal(err)
	}
	if err := identity.NewClusterKey(filepath.Join(state, identity.ClusterKeyFile)); err != nil {
		l.t.Fatal(err)
	}
	i, err := identity.Load(state)
	if err != nil {
		l.t.Fatal(err)
	}
	return i
}

func (l *loopback) start(cred transport.Credentials) *transport.Net {
	l.t.Helper()
	n, err := transport.New(context.Background(), transport.Options{Identity: cred, Bind: "127.0.0.1", Resolve: l.resolve})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { n.Close() })
	return n
}

func (l *loopback) publish(name id.Node, peerID string, n *transport.Net) {
	p2p, direct := n.Ports()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addrs[name] = transport.Address{Host: "127.0.0.1", P2P: p2p, Direct: direct, PeerID: peerID}
}

func (l *loopback) Node(name id.Node) transport.Transport {
	i := l.identity(l.authority, name, time.Hour)
	n := l.start(i)
	l.publish(name, i.PeerID(), n)
	return n
}

func (l *loopback) Stranger(name id.Node) transport.Transport {
	other, err := identity.NewAuthority(filepath.Join(l.dir, "other authority"))
	if err != nil {
		l.t.Fatal(err)
	}
	return l.start(trusting{l.identity(other, name, time.Hour)})
}

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.Cluster { return newLoopback(t) })
}

var roads = []string{transport.ProtoControl, transport.ProtoService}

// Who comes with the wrong papers gets in on neither road, and his handler never runs.
func TestWrongPapers(t *testing.T) {
	tests := []struct {
		name string
		cred func(l *loopback) transport.Credentials
	}{
		{"expired certificate", func(l *loopback) transport.Credentials {
			i := l.identity(l.authority, "x", time.Hour)
			c, err := l.authority.Sign(i.Cert.Key, "x", -time.Second)
			if err != nil {
				l.t.Fatal(err)
			}
			return shows{i, c.Encode()}
		}},
		{"certificate of another node", func(l *loopback) transport.Credentials {
			victim := l.identity(l.authority, "victim", time.Hour)
			return shows{l.identity(l.authority, "x", time.Hour), victim.Certificate()}
		}},
		{"no certificate", func(l *loopback) transport.Credentials {
			return shows{l.identity(l.authority, "x", time.Hour), nil}
		}},
		{"certificate by itself", func(l *loopback) transport.Credentials {
			other, err := identity.NewAuthority(filepath.Join(l.dir, "own authority"))
			if err != nil {
				l.t.Fatal(err)
			}
			return trusting{l.identity(other, "x", time.Hour)}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoopback(t)
			b := l.Node("b")
			served := make(chan id.Node, len(roads))
			for _, proto := range roads {
				b.Handle(proto, func(c transport.Conn) {
					defer c.Close()
					served <- c.Peer()
				})
			}
			x := l.start(tt.cred(l))
			for _, proto := range roads {
				if c, err := x.Dial(context.Background(), "b", proto); err == nil {
					c.Close()
					t.Errorf("%s: got in", proto)
				}
			}
			if err := b.Close(); err != nil { // waits for whoever is at the door
				t.Error(err)
			}
			select {
			case n := <-served:
				t.Errorf("served %q", n)
			default:
			}
		})
	}
}

// A member that sits at another's address, or that holds another key than membership says, is not taken for the other.
func TestDialNamesItsTarget(t *testing.T) {
	l := newLoopback(t)
	a, b, c := l.Node("a"), l.Node("b"), l.Node("c")
	for _, n := range []transport.Transport{b, c} {
		for _, proto := range roads {
			n.Handle(proto, func(c transport.Conn) { c.Close() })
		}
	}
	l.mu.Lock()
	atB, atC := l.addrs["b"], l.addrs["c"]
	other := atC
	other.PeerID = atB.PeerID // b's name and key, c's address
	l.addrs["b"] = other
	l.mu.Unlock()
	for _, proto := range roads {
		if conn, err := a.Dial(context.Background(), "b", proto); err == nil {
			conn.Close()
			t.Errorf("%s: took c for b by its address", proto)
		}
	}
	l.mu.Lock()
	l.addrs["b"] = atC // c's key as well: only its certificate tells
	l.mu.Unlock()
	for _, proto := range roads {
		if conn, err := a.Dial(context.Background(), "b", proto); !errors.Is(err, transport.ErrNotMember) && (err == nil || !strings.Contains(err.Error(), "this is c, not b")) {
			if err == nil {
				conn.Close()
			}
			t.Errorf("%s: took c for b by its key: %v", proto, err)
		}
	}
}

func TestRefusalSaysWhy(t *testing.T) {
	l := newLoopback(t)
	a, _ := l.Node("a"), l.Node("b")
	for _, proto := range []string{"/mosix/unheard-of", transport.ProtoMove} {
		_, err := a.Dial(context.Background(), "b", proto)
		if err == nil || !strings.Contains(err.Error(), "no such protocol here: "+proto) {
			t.Errorf("%s: %v", proto, err)
		}
	}
}

// What a stranger without any key can send is answered by no byte of mosix: at most the first words of the handshakes.
func TestGarbageIsHungUpOn(t *testing.T) {
	l := newLoopback(t)
	b := l.Node("b")
	b.Handle(transport.ProtoService, func(c transport.Conn) { t.Error("served garbage"); c.Close() })
	at := l.addrs["b"]
	for _, port := range []int{at.P2P, at.Direct} {
		for _, garbage := range [][]byte{
			[]byte("GET / HTTP/1.1\r\nHost: b\r\n\r\n"), bytes.Repeat([]byte{0xff}, 4096), {0x16, 3, 1, 0xff, 0xff}, []byte("MOSX\x00\x04\x00\x01\x00\x01"),
		} {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write(garbage)
			_ = c.(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(c)
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				t.Errorf("port %d still listens to garbage", port)
			}
			if len(got) > 64 {
				t.Errorf("port %d answered %q", port, got)
			}
			c.Close()
		}
	}
}

// A stranger with a key of its own finishes the TLS handshake; without a certificate it is hung up on.
func TestStrangerGetsNothingBehindTLS(t *testing.T) {
	l := newLoopback(t)
	l.Node("b")
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.addrs["b"].Direct), &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"mosix/1"}, Certificates: []tls.Certificate{selfSigned(t)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("MOSX\x00\x0a\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); len(got) > 0 {
		t.Errorf("answered %q, %v", got, err)
	}
	if v := c.ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("TLS version %x", v)
	}
}

// One host that opens connections and says nothing cannot take the places of all.
func TestSilentStrangersAreBounded(t *testing.T) {
	l := newLoopback(t)
	l.Node("b")
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	refused := false
	for range 64 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.addrs["b"].Direct))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	last := held[len(held)-1]
	if err := last.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil { // well before a handshake times out
		t.Fatal(err)
	}
	if _, err := last.Read(make([]byte, 1)); err != nil {
		var ne net.Error
		refused = !errors.As(err, &ne) || !ne.Timeout()
	}
	if !refused {
		t.Error("64 silent connections from one host are all kept")
	}
}
