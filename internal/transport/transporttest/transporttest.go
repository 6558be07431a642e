// Package transporttest judges implementations of transport.Transport. Its one invariant: it knows only the interface, so
// whatever passes it can take the place of whatever else passed.
package transporttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/transport"
)

// Cluster makes nodes that can reach each other. It closes them when the test ends.
type Cluster interface {
	// Node gives the transport of an admitted node.
	Node(name id.Node) transport.Transport
	// Stranger gives the transport of a node that was not admitted but knows where the admitted ones listen.
	Stranger(name id.Node) transport.Transport
}

// All is the suite. Each function gets a cluster of its own.
var All = map[string]func(t *testing.T, c Cluster){
	"Echo":             testEcho,
	"PeerNames":        testPeerNames,
	"HalfClose":        testHalfClose,
	"CloseIsSeen":      testCloseIsSeen,
	"Bulk":             testBulk,
	"ManyStreams":      testManyStreams,
	"ReadDeadline":     testReadDeadline,
	"WriteDeadline":    testWriteDeadline,
	"UnknownProtocol":  testUnknownProtocol,
	"UnknownNode":      testUnknownNode,
	"Stranger":         testStranger,
	"CancelledDial":    testCancelledDial,
	"TransportClose":   testTransportClose,
	"DialBothWays":     testDialBothWays,
	"ReturnAfterClose": testReturnAfterClose,
}

// Run runs the suite. Each test has a cluster from factory.
func Run(t *testing.T, factory func(t *testing.T) Cluster) {
	for name, f := range All {
		t.Run(name, func(t *testing.T) { f(t, factory(t)) })
	}
}

// Both kinds of road, by one protocol each.
var roads = []string{transport.ProtoControl, transport.ProtoService}

const patience = 20 * time.Second

func dial(t *testing.T, from transport.Transport, to id.Node, proto string) transport.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := from.Dial(ctx, to, proto)
	if err != nil {
		t.Fatalf("dial %s %s: %v", to, proto, err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// half is what both kinds of Conn offer beside net.Conn.
type half interface{ CloseWrite() error }

func echo(c transport.Conn) {
	defer c.Close()
	_, _ = io.Copy(c, c)
}

func testEcho(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range []string{transport.ProtoMove, transport.ProtoService, transport.ProtoControl, transport.ProtoGossip} {
		b.Handle(proto, echo)
		conn := dial(t, a, "b", proto)
		for i := range 3 {
			msg := fmt.Appendf(nil, "%s %d", proto, i)
			if _, err := conn.Write(msg); err != nil {
				t.Fatalf("%s: write: %v", proto, err)
			}
			got := make([]byte, len(msg))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("%s: sent %q, got %q, %v", proto, msg, got, err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Errorf("%s: close: %v", proto, err)
		}
	}
}

func testPeerNames(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range roads {
		seen := make(chan id.Node, 1)
		b.Handle(proto, func(c transport.Conn) {
			defer c.Close()
			seen <- c.Peer()
		})
		conn := dial(t, a, "b", proto)
		if conn.Peer() != "b" {
			t.Errorf("%s: the dialler sees %q", proto, conn.Peer())
		}
		if from := <-seen; from != "a" {
			t.Errorf("%s: the handler sees %q", proto, from)
		}
		if conn.LocalAddr() == nil || conn.RemoteAddr() == nil {
			t.Errorf("%s: a stream without addresses", proto)
		}
		conn.Close()
	}
}

func testHalfClose(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range roads {
		b.Handle(proto, func(c transport.Conn) {
			defer c.Close()
			got, err := io.ReadAll(c) // ends only by the dialler's half-close
			if err == nil {
				fmt.Fprintf(c, "had %d bytes", len(got))
			}
		})
		conn := dial(t, a, "b", proto)
		if _, err := conn.Write(make([]byte, 5000)); err != nil {
			t.Fatal(err)
		}
		h, ok := conn.(half)
		if !ok {
			t.Fatalf("%s: %T has no CloseWrite", proto, conn)
		}
		if err := h.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "had 5000 bytes" {
			t.Errorf("%s: after half-close: %q, %v", proto, got, err)
		}
		conn.Close()
	}
}

func testCloseIsSeen(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range roads {
		result := make(chan error, 1)
		b.Handle(proto, func(c transport.Conn) {
			defer c.Close()
			_, err := c.Read(make([]byte, 1))
			result <- err
		})
		conn := dial(t, a, "b", proto)
		conn.Close()
		if err := <-result; err == nil {
			t.Errorf("%s: a closed stream gave a byte", proto)
		}
		if _, err := conn.Write([]byte{1}); err == nil {
			t.Errorf("%s: wrote to a stream closed by ourselves", proto)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: read from a stream closed by ourselves", proto)
		}
	}
}

func testBulk(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	const size = 8 << 20
	for _, proto := range roads {
		b.Handle(proto, func(c transport.Conn) {
			defer c.Close()
			h := sha256.New()
			if n, err := io.Copy(h, c); err == nil && n == size {
				_, _ = c.Write(h.Sum(nil))
			}
		})
		conn := dial(t, a, "b", proto)
		want := sha256.New()
		src := rand.NewChaCha8([32]byte{1})
		if _, err := io.Copy(io.MultiWriter(conn, want), io.LimitReader(src, size)); err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		if err := conn.(half).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, want.Sum(nil)) {
			t.Errorf("%s: digest %x, %v; want %x", proto, got, err, want.Sum(nil))
		}
		conn.Close()
	}
}

func testManyStreams(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range roads {
		b.Handle(proto, echo)
		first := dial(t, a, "b", proto) // stays idle: no stream waits for another
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				conn, err := a.Dial(ctx, "b", proto)
				if err != nil {
					t.Errorf("%s: stream %d: %v", proto, i, err)
					return
				}
				defer conn.Close()
				msg := bytes.Repeat([]byte{byte(i)}, 10_000)
				go func() { _, _ = conn.Write(msg) }()
				got := make([]byte, len(msg))
				if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, msg) {
					t.Errorf("%s: stream %d mixed up with another: %v", proto, i, err)
				}
			})
		}
		wg.Wait()
		first.Close()
	}
}

func testReadDeadline(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range roads {
		b.Handle(proto, echo)
		conn := dial(t, a, "b", proto)
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: read past its deadline: %v", proto, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte{7}); err != nil {
			t.Errorf("%s: write after a read deadline: %v", proto, err)
		}
		got := make([]byte, 1)
		if _, err := io.ReadFull(conn, got); err != nil || got[0] != 7 {
			t.Errorf("%s: a stream must live on after a missed read deadline: %v", proto, err)
		}
		conn.Close()
	}
}

func testWriteDeadline(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range roads {
		done := make(chan struct{})
		b.Handle(proto, func(c transport.Conn) {
			defer c.Close()
			<-done // never reads
		})
		conn := dial(t, a, "b", proto)
		if err := conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		var err error
		for range 1000 { // more than any buffer on the way holds
			if _, err = conn.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: a write that nobody reads ended with %v", proto, err)
		}
		close(done)
		conn.Close()
	}
}

func testUnknownProtocol(t *testing.T, c Cluster) {
	a, _ := c.Node("a"), c.Node("b")
	for _, proto := range []string{transport.ProtoMove, "/mosix/unheard-of"} {
		if conn, err := a.Dial(context.Background(), "b", proto); err == nil {
			conn.Close()
			t.Errorf("a stream of %s, which nobody serves", proto)
		}
	}
}

func testUnknownNode(t *testing.T, c Cluster) {
	a := c.Node("a")
	for _, proto := range roads {
		if _, err := a.Dial(context.Background(), "nobody", proto); !errors.Is(err, transport.ErrNotMember) {
			t.Errorf("%s: dial of an unknown node: %v, want %v", proto, err, transport.ErrNotMember)
		}
		if _, err := a.Dial(context.Background(), "a", proto); err == nil {
			t.Errorf("%s: a node dialled itself", proto)
		}
	}
}

func testStranger(t *testing.T, c Cluster) {
	b, s := c.Node("b"), c.Stranger("s")
	served := make(chan id.Node, 8)
	for _, proto := range roads {
		b.Handle(proto, func(c transport.Conn) {
			defer c.Close()
			served <- c.Peer()
		})
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		conn, err := s.Dial(ctx, "b", proto)
		cancel()
		if err == nil {
			conn.Close()
			t.Errorf("%s: a stranger got a stream", proto)
		}
	}
	// An admitted node comes in after it, on each road: had the stranger been served, it would be first in the queue.
	a := c.Node("a")
	for _, proto := range roads {
		conn := dial(t, a, "b", proto)
		if from := <-served; from != "a" {
			t.Errorf("%s: %q was served", proto, from)
		}
		conn.Close()
	}
}

func testCancelledDial(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, proto := range roads {
		b.Handle(proto, echo)
		if conn, err := a.Dial(ctx, "b", proto); !errors.Is(err, context.Canceled) {
			if err == nil {
				conn.Close()
			}
			t.Errorf("%s: dial with a cancelled context: %v", proto, err)
		}
	}
}

func testTransportClose(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range roads {
		b.Handle(proto, echo)
	}
	var conns []transport.Conn
	for _, proto := range roads {
		conns = append(conns, dial(t, a, "b", proto))
	}
	if err := b.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	for i, conn := range conns {
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: read %d bytes from a closed node", roads[i], n)
		}
		if _, err := a.Dial(context.Background(), "b", roads[i]); err == nil {
			t.Errorf("%s: dialled a closed node", roads[i])
		}
		if _, err := b.Dial(context.Background(), "a", roads[i]); err == nil {
			t.Errorf("%s: a closed node dialled", roads[i])
		}
		conn.Close()
	}
	if err := a.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func testDialBothWays(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range roads {
		a.Handle(proto, echo)
		b.Handle(proto, echo)
		var wg sync.WaitGroup
		for range 5 { // at once: neither side's first connection is in the other's way
			for from, to := range map[transport.Transport]id.Node{a: "b", b: "a"} {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					conn, err := from.Dial(ctx, to, proto)
					if err != nil {
						t.Errorf("%s: to %s: %v", proto, to, err)
						return
					}
					defer conn.Close()
					got := make([]byte, 1)
					if _, err := conn.Write([]byte{9}); err != nil {
						t.Error(err)
					} else if _, err := io.ReadFull(conn, got); err != nil || got[0] != 9 {
						t.Errorf("%s: to %s: %v", proto, to, err)
					}
				})
			}
		}
		wg.Wait()
	}
}

func testReturnAfterClose(t *testing.T, c Cluster) {
	a, b := c.Node("a"), c.Node("b")
	for _, proto := range roads {
		b.Handle(proto, echo)
		conn := dial(t, a, "b", proto)
		conn.Close()
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = c.Node("b") // as after a restart of the agent
	for _, proto := range roads {
		b.Handle(proto, echo)
		conn := dial(t, a, "b", proto)
		got := make([]byte, 1)
		if _, err := conn.Write([]byte{3}); err != nil {
			t.Error(err)
		} else if _, err := io.ReadFull(conn, got); err != nil || got[0] != 3 {
			t.Errorf("%s: %v", proto, err)
		}
		conn.Close()
	}
}
