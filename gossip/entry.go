package gossip

import (
	"time"

	"mosix/internal/id"
)

// Entry is what one node has said of itself, and how long ago. It is a hint: others may have forwarded it, and any of them
// could lie; no process moves before the target itself has answered.
type Entry struct {
	Node id.Node

	LoadMilli    uint32 // own view: run-queue length over capacity, in thousandths of a process per standard processor
	UpperMilli   uint32 // exported view: rises at once, falls slowly, with what was promised to incoming processes
	CPUMilli     uint32 // processors, in thousandths: a quota can be half a one
	SpeedMilli   uint32 // of one processor; 1000 is the calibrated standard
	MemTotal     uint64 // bytes
	MemFree      uint64 // bytes
	Guests       uint32 // processes of other nodes that run here
	Away         uint32 // processes of this node that run elsewhere
	Caps         uint64 // bits, named by whoever fills them: features of kernel and processor
	ReserveMilli uint32 // load promised to processes that are on their way, part of UpperMilli

	Age time.Duration // since the node said it; to the millisecond on the wire
}

// Kind says why a message was sent. The numbers are those on the wire.
type Kind uint8

// Kinds of messages.
const (
	KindPush   Kind = 1 // the newest half of a vector; to be acknowledged
	KindAck    Kind = 2 // the acknowledgement: the receiver's own entry
	KindUrgent Kind = 3 // own entry, out of turn, because it has just become good news; not acknowledged
)

func (k Kind) String() string {
	switch k {
	case KindPush:
		return "push"
	case KindAck:
		return "ack"
	case KindUrgent:
		return "urgent"
	}
	return "unknown"
}

// Message is one datagram.
type Message struct {
	Kind    Kind
	Entries []Entry // the sender's own first
}

// Packet is a message and where it is to go.
type Packet struct {
	To  id.Node
	Msg Message
}

// Roster is the nodes that membership takes for alive, this node among them or not. A Machine only reads it, so that
// thousands of machines in one simulation can share one.
type Roster interface {
	Len() int
	At(i int) id.Node
	Has(n id.Node) bool
}

// List is a Roster that does not change.
type List struct {
	nodes []id.Node
	index map[id.Node]struct{}
}

// NewList makes a Roster of nodes.
func NewList(nodes ...id.Node) *List {
	l := &List{nodes: nodes, index: make(map[id.Node]struct{}, len(nodes))}
	for _, n := range nodes {
		l.index[n] = struct{}{}
	}
	return l
}

// Len implements Roster.
func (l *List) Len() int { return len(l.nodes) }

// At implements Roster.
func (l *List) At(i int) id.Node { return l.nodes[i] }

// Has implements Roster.
func (l *List) Has(n id.Node) bool { _, ok := l.index[n]; return ok }
