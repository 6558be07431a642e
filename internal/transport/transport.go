// Package transport carries streams between the agents of a cluster. Its one invariant: a stream exists only between two
// nodes that were both admitted, authenticated and encrypted; whoever holds a Conn knows who is at its other end.
package transport

import (
	"context"
	"errors"
	"net"

	"mosix/internal/id"
)

// Protocols that agents speak with each other. A protocol carries its own version range in its first frame.
const (
	ProtoMove    = "/mosix/move"    // one move: offer to run
	ProtoService = "/mosix/service" // the life of one guest: calls, signals, leases
	ProtoControl = "/mosix/control" // one request, one answer: ask for a place, pull, recall
	ProtoGossip  = "/mosix/gossip"  // load vectors, where they do not travel by datagram
)

// ErrNotMember says that a node was not admitted, or is not known.
var ErrNotMember = errors.New("not a member of the cluster")

// Conn is an authenticated stream. Close, deadlines and half-close behave as for TCP.
type Conn interface {
	net.Conn
	Peer() id.Node // the other end, as its certificate names it
}

// Transport dials and accepts streams. Handle must be called before the first stream of that protocol arrives; each
// accepted stream runs h in a goroutine of its own, and h closes it.
type Transport interface {
	Dial(ctx context.Context, to id.Node, proto string) (Conn, error)
	Handle(proto string, h func(Conn))
	Close() error
}
