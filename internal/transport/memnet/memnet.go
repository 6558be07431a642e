// Package memnet is a transport without a network: channels and memory, for tests of what runs over one. Its one invariant:
// all its waiting is on channels and timers, so that it runs in a bubble of testing/synctest, where time costs nothing.
package memnet

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"mosix/internal/id"
	"mosix/internal/transport"
)

// CutTimeout is how long a stream survives a cut link, as TCP's user timeout has it for a real one.
const CutTimeout = 10 * time.Second

// Network connects nodes. The zero value is not usable; see New.
type Network struct {
	mu    sync.Mutex
	nodes map[id.Node]*node
	links map[link]*wire
}

// link is an unordered pair of nodes.
type link struct{ a, b id.Node }

func between(a, b id.Node) link {
	if b < a {
		a, b = b, a
	}
	return link{a, b}
}

// New makes a network without nodes.
func New() *Network {
	return &Network{nodes: make(map[id.Node]*node), links: make(map[link]*wire)}
}

// Node attaches an admitted node under name. A node that is already there, closed or not, is replaced: an agent that was
// started again.
func (n *Network) Node(name id.Node) transport.Transport { return n.attach(name, true) }

// Stranger attaches a node that was not admitted: it gets in nowhere.
func (n *Network) Stranger(name id.Node) transport.Transport { return n.attach(name, false) }

func (n *Network) attach(name id.Node, admitted bool) *node {
	x := &node{net: n, name: name, admitted: admitted, handlers: make(map[string]func(transport.Conn)), open: make(map[*conn]struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[name] = x
	return x
}

// Cut stops everything between two nodes. Streams wait; those that wait for CutTimeout break.
func (n *Network) Cut(a, b id.Node) { n.wire(a, b).set(true) }

// Heal undoes Cut.
func (n *Network) Heal(a, b id.Node) { n.wire(a, b).set(false) }

func (n *Network) wire(a, b id.Node) *wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := between(a, b)
	w := n.links[k]
	if w == nil {
		w = newWire()
		n.links[k] = w
	}
	return w
}

func (n *Network) node(name id.Node) *node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[name]
}

type node struct {
	net      *Network
	name     id.Node
	admitted bool

	mu       sync.Mutex
	closed   bool
	handlers map[string]func(transport.Conn)
	open     map[*conn]struct{}
}

var _ transport.Transport = (*node)(nil)

// Handle implements transport.Transport.
func (x *node) Handle(proto string, h func(transport.Conn)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.handlers[proto] = h
}

// Dial implements transport.Transport.
func (x *node) Dial(ctx context.Context, to id.Node, proto string) (transport.Conn, error) {
	c, err := x.dial(ctx, to, proto)
	if err != nil {
		return nil, fmt.Errorf("dial %s for %s: %w", to, proto, err)
	}
	return c, nil
}

func (x *node) dial(ctx context.Context, to id.Node, proto string) (transport.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	y := x.net.node(to)
	switch {
	case to == x.name:
		return nil, fmt.Errorf("that is this node itself")
	case y == nil || !y.admitted || !x.admitted:
		return nil, transport.ErrNotMember
	}
	w := x.net.wire(x.name, to)
	if err := w.pass(ctx); err != nil {
		return nil, err
	}
	y.mu.Lock()
	h := y.handlers[proto]
	y.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("%s refuses: %q", to, "no such protocol here: "+proto)
	}
	there, back := newHalf(w), newHalf(w)
	there.twin, back.twin = back, there
	mine := &conn{node: x, peer: to, in: back, out: there}
	theirs := &conn{node: y, peer: x.name, in: there, out: back}
	if !x.register(mine) {
		return nil, net.ErrClosed
	}
	if !y.register(theirs) {
		x.forget(mine)
		return nil, fmt.Errorf("connection refused")
	}
	go h(theirs)
	return mine, nil
}

func (x *node) register(c *conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	x.open[c] = struct{}{}
	return true
}

func (x *node) forget(c *conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.open, c)
}

// Close implements transport.Transport.
func (x *node) Close() error {
	x.mu.Lock()
	x.closed = true
	open := make([]*conn, 0, len(x.open))
	for c := range x.open {
		open = append(open, c)
	}
	x.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
	return nil
}

// wire is what a pair of nodes has between them.
type wire struct {
	mu      sync.Mutex
	down    bool
	changed chan struct{} // closed, and replaced, whenever down changes
}

func newWire() *wire { return &wire{changed: make(chan struct{})} }

// state says whether the wire works, and what is closed when that changes.
func (w *wire) state() (up bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.down, w.changed
}

func (w *wire) set(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != down {
		w.down = down
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// pass waits until the wire works.
func (w *wire) pass(ctx context.Context) error {
	for {
		up, changed := w.state()
		if up {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// conn is one end of a stream.
type conn struct {
	node    *node
	peer    id.Node
	in, out *half
}

// Peer implements transport.Conn.
func (c *conn) Peer() id.Node { return c.peer }

func (c *conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.out.write(b) }

// CloseWrite says that nothing more will be written; what was written still arrives.
func (c *conn) CloseWrite() error { c.out.finish(); return nil }

func (c *conn) Close() error {
	c.out.finish()
	c.out.writeEnd.close()
	c.in.abandon()
	c.node.forget(c)
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	c.in.readEnd.set(t)
	c.out.writeEnd.set(t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error  { c.in.readEnd.set(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.out.writeEnd.set(t); return nil }

func (c *conn) LocalAddr() net.Addr  { return addr(c.node.name) }
func (c *conn) RemoteAddr() net.Addr { return addr(c.peer) }

// addr is the name of a node as a network address.
type addr id.Node

func (addr) Network() string  { return "mem" }
func (a addr) String() string { return string(a) }
