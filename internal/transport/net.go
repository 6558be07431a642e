package transport

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"mosix/internal/id"
)

// dialTimeout bounds a Dial whose context has no end of its own.
const dialTimeout = 5 * time.Second

// Address is where a member can be reached and which key it must hold.
type Address struct {
	Host   string // an IP address
	P2P    int    // TCP port for ProtoControl and ProtoGossip
	Direct int    // TCP port for ProtoMove and ProtoService
	PeerID string
}

// Resolver finds a member by name; ok is false for whoever is none.
type Resolver func(id.Node) (a Address, ok bool)

// Options of a Net.
type Options struct {
	Identity Credentials
	Bind     string   // IP address to listen on; "" for all
	Port     int      // of membership: streams use Port+1 (libp2p) and Port+2 (direct TLS); 0 picks free ones
	Resolve  Resolver // may be set later by SetResolver: until then nobody can be dialled
	Logger   *slog.Logger
}

// Net is the Transport of a running agent. Requests and answers travel as streams of one libp2p connection for each pair of
// nodes; moves and guests' calls, whose latency and throughput matter, have a TLS 1.3 connection of their own for each stream.
type Net struct {
	cred   Credentials
	log    *slog.Logger
	table  handlers
	direct *direct
	swarm  *swarmRoad

	mu      sync.Mutex
	resolve Resolver
}

var _ Transport = (*Net)(nil)

// New listens. The context bounds the set-up only; Close ends what New has started.
func New(ctx context.Context, o Options) (*Net, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Bind != "" && net.ParseIP(o.Bind) == nil {
		return nil, fmt.Errorf("listen for streams: bind = %q is not an IP address", o.Bind)
	}
	n := &Net{cred: o.Identity, log: o.Logger, resolve: o.Resolve}
	p2pPort, directPort := 0, 0
	if o.Port != 0 {
		p2pPort, directPort = o.Port+1, o.Port+2
	}
	var err error
	if n.direct, err = listenDirect(ctx, n, o.Bind, directPort); err != nil {
		return nil, fmt.Errorf("listen for moves and guests: %w", err)
	}
	if n.swarm, err = listenSwarm(n, o.Bind, p2pPort); err != nil {
		n.direct.close()
		return nil, fmt.Errorf("listen for requests: %w", err)
	}
	return n, nil
}

// Ports says on which ports the node listens; members learn them from its metadata.
func (n *Net) Ports() (p2p, direct int) { return n.swarm.port, n.direct.port }

// SetResolver says how members are found from now on.
func (n *Net) SetResolver(r Resolver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resolve = r
}

// Handle implements Transport.
func (n *Net) Handle(proto string, h func(Conn)) { n.table.set(proto, h) }

// isDirect says by which road a protocol travels.
func isDirect(proto string) bool { return proto == ProtoMove || proto == ProtoService }

// Dial implements Transport. It returns once the other end has proved to be the node to and has accepted the protocol.
func (n *Net) Dial(ctx context.Context, to id.Node, proto string) (Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	n.mu.Lock()
	resolve := n.resolve
	n.mu.Unlock()
	if to == n.cred.Name() {
		return nil, fmt.Errorf("dial %s for %s: that is this node itself", to, proto)
	}
	var a Address
	ok := false
	if resolve != nil {
		a, ok = resolve(to)
	}
	if !ok {
		return nil, fmt.Errorf("dial %s for %s: %w; see mosixctl status for who is", to, proto, ErrNotMember)
	}
	pid, key, err := parsePeerID(a.PeerID)
	if err != nil {
		return nil, fmt.Errorf("dial %s for %s: %w", to, proto, err)
	}
	dial := n.swarm.dial
	if isDirect(proto) {
		dial = n.direct.dial
	}
	c, err := dial(ctx, target{name: to, addr: a, id: pid, key: key}, proto)
	if err != nil {
		return nil, fmt.Errorf("dial %s for %s: %w", to, proto, err)
	}
	return c, nil
}

// Close stops listening and ends every stream.
func (n *Net) Close() error { return errors.Join(n.direct.close(), n.swarm.close()) }

// target is a member that is being dialled.
type target struct {
	name id.Node
	addr Address
	id   peer.ID
	key  ed25519.PublicKey
}

func parsePeerID(s string) (peer.ID, ed25519.PublicKey, error) {
	pid, err := peer.Decode(s)
	if err != nil {
		return "", nil, fmt.Errorf("peer ID %q: %w", s, err)
	}
	pub, err := pid.ExtractPublicKey()
	if err != nil {
		return "", nil, fmt.Errorf("peer ID %s: %w", s, err)
	}
	key, err := rawEd25519(pub)
	return pid, key, err
}

func rawEd25519(pub crypto.PubKey) (ed25519.PublicKey, error) {
	if pub == nil || pub.Type() != crypto.Ed25519 {
		return nil, errors.New("the other end has no Ed25519 key")
	}
	raw, err := pub.Raw()
	return ed25519.PublicKey(raw), err
}

// interruptible makes a blocked read or write of c return when ctx ends; stop ends that, and says in ctx's words why the
// work in between failed, where it was ctx that failed it.
func interruptible(ctx context.Context, c interface{ SetDeadline(time.Time) error }) (stop func(error) error) {
	release := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return func(err error) error {
		if !release() && ctx.Err() != nil {
			return fmt.Errorf("no answer in time: %w", ctx.Err())
		}
		return err
	}
}

// handlers says who serves which protocol.
type handlers struct {
	mu sync.RWMutex
	m  map[string]func(Conn)
}

func (t *handlers) set(proto string, h func(Conn)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[string]func(Conn))
	}
	t.m[proto] = h
}

func (t *handlers) get(proto string) func(Conn) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[proto]
}
