package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"mosix/internal/id"
)

const (
	// securityID differs from libp2p's own: a libp2p host that is not an agent of mosix cannot even negotiate.
	securityID = "/mosix/tls/1"
	linkProto  = "/mosix/link" // what the hello of a connection, before any stream, asks for

	maxStreamsOfPeer = 256
	maxConnsOfPeer   = 8 // both sides may dial at once, and a dead connection may linger
	acceptTimeout    = 10 * time.Second
)

// swarmRoad is the road for requests and answers: streams over one libp2p connection to each peer. It is libp2p's swarm
// without libp2p's host: no identify, no address push, no ping, no relay, no DHT, nothing that a stranger could ask for.
type swarmRoad struct {
	net   *Net
	swarm *swarm.Swarm
	links *links
	rc    network.ResourceManager
	port  int
}

func listenSwarm(n *Net, bind string, port int) (*swarmRoad, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(n.cred.PrivateKey())
	if err != nil {
		return nil, err
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	rc, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits()), rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, err
	}
	r := &swarmRoad{net: n, links: &links{cred: n.cred}, rc: rc}
	if err := r.listen(key, self, bind, port); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *swarmRoad) listen(key crypto.PrivKey, self peer.ID, bind string, port int) error {
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return err
	}
	if err := errors.Join(store.AddPrivKey(self, key), store.AddPubKey(self, key.GetPublic())); err != nil {
		return err
	}
	gater := &gater{links: r.links}
	r.swarm, err = swarm.NewSwarm(self, store, eventbus.NewBus(), swarm.WithConnectionGater(gater),
		swarm.WithResourceManager(r.rc), swarm.WithDialTimeout(dialTimeout), swarm.WithDialTimeoutLocal(dialTimeout),
		swarm.WithDialRanker(swarm.NoDelayDialRanker))
	if err != nil {
		return errors.Join(err, store.Close())
	}
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: muxer()}}
	inner, err := libp2ptls.New(securityID, key, muxers)
	if err != nil {
		return err
	}
	up, err := upgrader.New([]sec.SecureTransport{&certified{Transport: inner, links: r.links}}, muxers, nil, r.rc, gater,
		upgrader.WithAcceptTimeout(acceptTimeout))
	if err != nil {
		return err
	}
	t, err := tcp.NewTCPTransport(up, r.rc, nil, tcp.DisableReuseport(), tcp.WithConnectionTimeout(dialTimeout))
	if err != nil {
		return err
	}
	if err := r.swarm.AddTransport(t); err != nil {
		return err
	}
	ip := net.ParseIP(bind)
	if ip == nil {
		ip = net.IPv4zero
	}
	addr, err := manet.FromNetAddr(&net.TCPAddr{IP: ip, Port: port})
	if err != nil {
		return err
	}
	r.swarm.SetStreamHandler(r.serve)
	if err := r.swarm.Listen(addr); err != nil {
		return fmt.Errorf("%s: %w", addr, err)
	}
	got, err := manet.ToNetAddr(r.swarm.ListenAddresses()[0])
	if err != nil {
		return err
	}
	r.port = got.(*net.TCPAddr).Port
	return nil
}

// muxer is yamux that notices a cut link in about ten seconds.
func muxer() network.Multiplexer {
	conf := *yamux.DefaultTransport.Config()
	conf.EnableKeepAlive = true
	conf.KeepAliveInterval = 4 * time.Second
	conf.ConnectionWriteTimeout = 5 * time.Second
	conf.MaxStreamWindowSize = 1 << 20 // requests are small; bulk takes the direct road
	conf.MaxIncomingStreams = maxStreamsOfPeer
	return (*yamux.Transport)(&conf)
}

// limits bounds what all peers, one peer, and those who are not yet known take.
func limits() rcmgr.ConcreteLimitConfig {
	l := rcmgr.PartialLimitConfig{
		Transient: rcmgr.ResourceLimits{ConnsInbound: maxHalfOpen, Conns: 2 * maxHalfOpen, StreamsInbound: 1024, Streams: 2048, FD: 2 * maxHalfOpen},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: maxConnsOfPeer, ConnsInbound: maxConnsOfPeer, ConnsOutbound: maxConnsOfPeer, FD: maxConnsOfPeer,
			Streams: 2 * maxStreamsOfPeer, StreamsInbound: maxStreamsOfPeer, StreamsOutbound: maxStreamsOfPeer,
			Memory: 64 << 20,
		},
	}
	return l.Build(rcmgr.DefaultLimits.AutoScale())
}

func (r *swarmRoad) dial(ctx context.Context, to target, proto string) (Conn, error) {
	addr, err := manet.FromNetAddr(&net.TCPAddr{IP: net.ParseIP(to.addr.Host), Port: to.addr.P2P})
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", to.addr.Host, err)
	}
	// What the swarm remembers of earlier addresses and failures is older than what membership says now.
	store := r.swarm.Peerstore()
	store.ClearAddrs(to.id)
	store.AddAddrs(to.id, []ma.Multiaddr{addr}, time.Minute)
	r.swarm.Backoff().Clear(to.id)

	reused := len(r.swarm.ConnsToPeer(to.id)) > 0
	c, err := r.open(ctx, to, proto)
	var refused *refusedError
	if err != nil && reused && ctx.Err() == nil && !errors.As(err, &refused) {
		// The connection was dead and nobody had noticed. A new one decides.
		_ = r.swarm.ClosePeer(to.id)
		c, err = r.open(ctx, to, proto)
	}
	return c, err
}

func (r *swarmRoad) open(ctx context.Context, to target, proto string) (Conn, error) {
	if reused := len(r.swarm.ConnsToPeer(to.id)) > 0; reused {
		// Leave time for a second attempt, should the connection turn out to be dead.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dialTimeout/2)
		defer cancel()
	}
	s, err := r.swarm.NewStream(network.WithDialPeerTimeout(ctx, dialTimeout), to.id)
	if err != nil {
		return nil, err
	}
	c := newSwarmConn(s, to.name)
	stop := interruptible(ctx, c)
	err = s.SetProtocol(protocol.ID(proto))
	if err == nil {
		err = greet(c, r.net.cred, to.key, to.name, proto)
	}
	if err = stop(err); err != nil {
		_ = s.Reset()
		return nil, err
	}
	return c, nil
}

// serve is called by the swarm in a goroutine of its own for every incoming stream.
func (r *swarmRoad) serve(s network.Stream) {
	c := newSwarmConn(s, "")
	key, err := rawEd25519(s.Conn().RemotePublicKey())
	if err != nil {
		_ = s.Reset()
		return
	}
	var h func(Conn)
	from, proto, err := welcome(c, r.net.cred, key, func(_ id.Node, proto string) string {
		if h = r.net.table.get(proto); h == nil || isDirect(proto) {
			return "no such protocol here: " + proto
		}
		return ""
	})
	if err == nil {
		err = s.SetProtocol(protocol.ID(proto))
	}
	if err != nil {
		r.net.log.Debug("stream turned away", "road", "libp2p", "addr", s.Conn().RemoteMultiaddr().String(), "err", err)
		if from == "" {
			_ = s.Reset()
		} else {
			_ = s.Close() // the refusal must arrive
		}
		return
	}
	c.peer = from
	go h(c) // the swarm's own goroutine ends here, or closing the swarm would wait for the handler
}

func (r *swarmRoad) close() error {
	var err error
	if r.swarm != nil {
		err = errors.Join(r.swarm.Close(), r.swarm.Peerstore().Close())
	}
	return errors.Join(err, r.rc.Close())
}

// swarmConn is a stream of the libp2p road. CloseWrite, of network.Stream, half-closes it.
type swarmConn struct {
	network.Stream
	peer          id.Node
	local, remote net.Addr
}

func newSwarmConn(s network.Stream, to id.Node) *swarmConn {
	c := &swarmConn{Stream: s, peer: to, local: &net.TCPAddr{}, remote: &net.TCPAddr{}}
	if a, err := manet.ToNetAddr(s.Conn().LocalMultiaddr()); err == nil {
		c.local = a
	}
	if a, err := manet.ToNetAddr(s.Conn().RemoteMultiaddr()); err == nil {
		c.remote = a
	}
	return c
}

// Peer implements Conn.
func (c *swarmConn) Peer() id.Node { return c.peer }

// LocalAddr implements net.Conn.
func (c *swarmConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *swarmConn) RemoteAddr() net.Addr { return c.remote }

// Read implements net.Conn.
func (c *swarmConn) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	return n, asTCP(err)
}

// Write implements net.Conn.
func (c *swarmConn) Write(b []byte) (int, error) {
	n, err := c.Stream.Write(b)
	return n, asTCP(err)
}

// asTCP gives a stream's errors the names that they have for TCP.
func asTCP(err error) error {
	var ne net.Error
	switch {
	case errors.As(err, &ne) && ne.Timeout():
		return os.ErrDeadlineExceeded
	case errors.Is(err, network.ErrReset):
		return fmt.Errorf("%w: %w", syscall.ECONNRESET, err)
	}
	return err
}

// certified is libp2p's TLS with an exchange of certificates behind it, so that a connection exists only between members.
type certified struct {
	*libp2ptls.Transport
	links *links
}

var _ sec.SecureTransport = (*certified)(nil)

// SecureInbound implements sec.SecureTransport.
func (t *certified) SecureInbound(ctx context.Context, raw net.Conn, p peer.ID) (sec.SecureConn, error) {
	c, err := t.Transport.SecureInbound(ctx, raw, p)
	if err != nil {
		return nil, err
	}
	return t.finish(ctx, raw, c, func(cred Credentials) error {
		key, err := rawEd25519(c.RemotePublicKey())
		if err != nil {
			return err
		}
		_, _, err = welcome(c, cred, key, func(id.Node, string) string { return "" })
		return err
	})
}

// SecureOutbound implements sec.SecureTransport. Whose name the other end has is judged with the first stream; here it
// counts that it is a member and holds the key that was asked for.
func (t *certified) SecureOutbound(ctx context.Context, raw net.Conn, p peer.ID) (sec.SecureConn, error) {
	c, err := t.Transport.SecureOutbound(ctx, raw, p)
	if err != nil {
		return nil, err
	}
	return t.finish(ctx, raw, c, func(cred Credentials) error {
		key, err := rawEd25519(c.RemotePublicKey())
		if err != nil {
			return err
		}
		return greet(c, cred, key, "", linkProto)
	})
}

func (t *certified) finish(ctx context.Context, raw net.Conn, c sec.SecureConn, hellos func(Credentials) error) (sec.SecureConn, error) {
	err := tuneTCP(raw)
	if err == nil {
		stop := interruptible(ctx, raw)
		err = stop(hellos(t.links.cred))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	t.links.add(c.RemotePeer())
	return c, nil
}

// links are the peers whose certificate was seen to be good in a handshake.
type links struct {
	cred Credentials
	m    sync.Map // peer.ID → struct{}
}

func (l *links) add(p peer.ID)      { l.m.Store(p, struct{}{}) }
func (l *links) has(p peer.ID) bool { _, ok := l.m.Load(p); return ok }

// gater lets in members only. How many may be on their way to show that they are is bounded by the resource manager: its
// transient scope for all, its limit for each address for one.
type gater struct{ links *links }

// InterceptPeerDial implements connmgr.ConnectionGater. Dial has asked membership already.
func (g *gater) InterceptPeerDial(peer.ID) bool { return true }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept implements connmgr.ConnectionGater.
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured implements connmgr.ConnectionGater.
func (g *gater) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.links.has(p)
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gater) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	return g.links.has(c.RemotePeer()), 0
}
