package peer

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"mosix/gossip"
	"mosix/internal/id"
	"mosix/internal/identity"
	"mosix/internal/transport"
)

// State is how a member seems to be doing. The words are those of `mosixctl status --json`.
type State string

// States of a member.
const (
	Alive   State = "alive"
	Suspect State = "suspect" // did not answer this node's last probe, nor anybody whom it asked to try
	Dead    State = "dead"
	Left    State = "left" // said so itself
)

// Member is a node as membership sees it.
type Member struct {
	Name    id.Node
	PeerID  string
	Addr    netip.AddrPort // of membership
	State   State
	Since   time.Time // of the state
	Expires time.Time // of its certificate; from then on nobody speaks with it
	Self    bool
}

const (
	keepLeft = 10 * time.Minute // how long who has left, or died, is still shown
	keepDead = 24 * time.Hour
	maxGone  = 1024 // dead and left members that are kept at most
)

// table is what this node knows about the members. It is filled by memberlist's callbacks, which hold memberlist's lock:
// nothing here calls memberlist.
type table struct {
	self      id.Node
	selfKey   []byte
	authority func(cert []byte, now time.Time) (identity.Certificate, error)
	now       func() time.Time

	mu      sync.Mutex
	members map[id.Node]*member
	events  []Member
	wake    chan struct{} // has a token while events are waiting
	dirty   bool          // the set of live members has changed since roster was last called
	list    *gossip.List
}

type member struct {
	node  memberlist.Node // a copy
	meta  meta
	cert  identity.Certificate
	state State
	since time.Time
	seen  window
}

func newTable(ident *identity.Identity) *table {
	return &table{
		self: ident.Name(), selfKey: ident.Cert.Key,
		authority: func(raw []byte, now time.Time) (identity.Certificate, error) {
			c, err := identity.DecodeCertificate(raw)
			if err == nil {
				err = c.Verify(ident.Authority, now)
			}
			return c, err
		},
		now: time.Now, members: make(map[id.Node]*member), wake: make(chan struct{}, 1), list: gossip.NewList(),
	}
}

// Why a node is not taken for a member.
var (
	errOutdated = errors.New("its certificate was replaced by a later one")
	errOther    = errors.New("its metadata is not its own")
)

// verify says who n is, or why it is nobody.
func (t *table) verify(n *memberlist.Node) (meta, identity.Certificate, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.verifyLocked(n)
}

func (t *table) verifyLocked(n *memberlist.Node) (meta, identity.Certificate, error) {
	known := t.members[id.Node(n.Name)]
	if known != nil && bytes.Equal(known.node.Meta, n.Meta) && known.node.Addr.Equal(n.Addr) && known.node.Port == n.Port &&
		t.now().Before(known.cert.Expires) {
		return known.meta, known.cert, nil // the same words as before: signatures need not be checked again
	}
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return meta{}, identity.Certificate{}, err
	}
	cert, err := t.authority(m.Cert, t.now())
	if err != nil {
		return meta{}, identity.Certificate{}, err
	}
	addr, _ := netip.AddrFromSlice(n.Addr)
	switch {
	case cert.Name != id.Node(n.Name):
		err = fmt.Errorf("%w: it shows the certificate of %s", errOther, cert.Name)
	case !signedBy(n.Meta, cert.Key):
		err = fmt.Errorf("%w: the signature is not %s's", errOther, cert.Name)
	case addr.Unmap() != m.Addr.Unmap() || n.Port != m.Port:
		err = fmt.Errorf("%w: it names %s:%d, but came as %s:%d", errOther, m.Addr, m.Port, addr, n.Port)
	case !m.Addr.IsValid() || m.Addr.IsUnspecified() || m.Addr.IsMulticast() || m.Port == 0:
		err = fmt.Errorf("%w: %s:%d is no address of a node", errMeta, m.Addr, m.Port)
	case cert.Name == t.self && !bytes.Equal(cert.Key, t.selfKey):
		err = fmt.Errorf("%w: this node has the name %s; admit the other one under another name", errOther, t.self)
	case known != nil && known.cert.Serial > cert.Serial:
		err = errOutdated
	}
	if err != nil {
		return meta{}, identity.Certificate{}, err
	}
	return m, cert, nil
}

// join, update and leave record what memberlist says of a node that has passed verify.
func (t *table) join(n *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recordLocked(n, true)
}

func (t *table) update(n *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recordLocked(n, false)
}

func (t *table) recordLocked(n *memberlist.Node, joined bool) {
	m, cert, err := t.verifyLocked(n)
	if err != nil {
		return // it expired between two calls, or is a node that this one never took for a member
	}
	x := t.members[cert.Name]
	if x == nil {
		x = &member{}
		t.members[cert.Name] = x
	}
	if joined || x.meta.Started != m.Started {
		x.seen = window{} // a new life counts from anew
	}
	x.node, x.meta, x.cert = *n, m, cert
	x.node.Meta = bytes.Clone(n.Meta)
	x.node.Addr = slices.Clone(n.Addr)
	t.dirty = true
	t.setLocked(x, Alive)
}

func (t *table) leave(n *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.members[id.Node(n.Name)]
	if x == nil {
		return
	}
	t.dirty = true
	if x.meta.Flags&flagLeaving != 0 {
		t.setLocked(x, Left)
	} else {
		t.setLocked(x, Dead)
	}
}

// suspect and answered record what this node's own probes, and messages, have shown.
func (t *table) suspect(n id.Node) { t.swap(n, Alive, Suspect) }

func (t *table) answered(n id.Node) { t.swap(n, Suspect, Alive) }

func (t *table) swap(n id.Node, from, to State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.members[n]; x != nil && x.state == from {
		t.setLocked(x, to)
	}
}

func (t *table) setLocked(x *member, s State) {
	if x.state == s {
		return
	}
	x.state, x.since = s, t.now()
	t.events = append(t.events, t.publicLocked(x))
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *table) publicLocked(x *member) Member {
	return Member{
		Name: x.cert.Name, PeerID: x.cert.PeerID(), Addr: netip.AddrPortFrom(x.meta.Addr, x.meta.Port), State: x.state, Since: x.since,
		Expires: x.cert.Expires, Self: x.cert.Name == t.self,
	}
}

// takeEvents gives the changes since it was last called, in their order.
func (t *table) takeEvents() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.events
	t.events = nil
	return e
}

// all gives every member, by name.
func (t *table) all() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Member, 0, len(t.members))
	for _, x := range t.members {
		out = append(out, t.publicLocked(x))
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return out
}

// resolve finds a member for the transport. A dead one too: it may live, and only this node not see it.
func (t *table) resolve(n id.Node) (transport.Address, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.members[n]
	if x == nil || x.state == Left || !t.now().Before(x.cert.Expires) {
		return transport.Address{}, false
	}
	return transport.Address{Host: x.meta.Addr.String(), P2P: int(x.meta.P2P), Direct: int(x.meta.Direct), PeerID: x.cert.PeerID()}, true
}

// target is where to send a datagram for n.
func (t *table) target(n id.Node) (*memberlist.Node, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.members[n]
	if x == nil {
		return nil, false
	}
	node := x.node
	return &node, true
}

// accept opens a gossip datagram, if it comes from a member and was not seen before.
func (t *table) accept(raw []byte) (envelope, error) {
	e, err := openEnvelope(raw)
	if err != nil {
		return envelope{}, err
	}
	t.mu.Lock()
	x := t.members[e.From]
	var cert identity.Certificate
	if x != nil {
		cert = x.cert
	}
	t.mu.Unlock()
	if x == nil || e.From == t.self || !t.now().Before(cert.Expires) {
		return envelope{}, fmt.Errorf("from %q: %w", e.From, transport.ErrNotMember)
	}
	if !sealedBy(raw, t.self, cert.Key) {
		return envelope{}, fmt.Errorf("from %q: forged", e.From)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !x.seen.fresh(e.Seq) {
		return envelope{}, fmt.Errorf("from %q: seen before", e.From)
	}
	return e, nil
}

// roster is the list of live members, with this node; changed says whether it is another one than last time, and gone who is
// no longer on it.
func (t *table) roster() (list *gossip.List, gone []id.Node, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dirty {
		return t.list, nil, false
	}
	t.dirty = false
	var names []id.Node
	for name, x := range t.members {
		if (x.state == Alive || x.state == Suspect) && t.now().Before(x.cert.Expires) {
			names = append(names, name)
		}
	}
	slices.Sort(names) // a map's order would make runs with equal seeds differ
	list = gossip.NewList(names...)
	for i := range t.list.Len() {
		if n := t.list.At(i); !list.Has(n) {
			gone = append(gone, n)
		}
	}
	t.list = list
	return list, gone, true
}

// prune forgets members that have been gone for long, and notices certificates that have expired.
func (t *table) prune() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	gone := 0
	for name, x := range t.members {
		age := now.Sub(x.since)
		switch x.state {
		case Left, Dead:
			if gone++; x.state == Left && age > keepLeft || age > keepDead || gone > maxGone {
				delete(t.members, name)
			}
		default:
			t.dirty = t.dirty || !now.Before(x.cert.Expires) && t.list.Has(name)
		}
	}
}

// addresses are where membership has seen live and dead nodes: who is alive need not be joined, who is dead may be a network
// that was cut in two and is whole again.
func (t *table) addresses() (alive map[netip.AddrPort]bool, dead []netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	alive = make(map[netip.AddrPort]bool)
	for _, x := range t.members {
		a := netip.AddrPortFrom(x.meta.Addr.Unmap(), x.meta.Port)
		switch x.state {
		case Alive, Suspect:
			alive[a] = true
		case Dead:
			dead = append(dead, a)
		}
	}
	return alive, dead
}
