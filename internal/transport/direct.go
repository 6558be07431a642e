package transport

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"sync"
	"time"

	"mosix/internal/id"
)

const (
	tlsTimeout      = 5 * time.Second
	maxDirectOfPeer = 1024 // streams that one member may have open to this node: one for each guest, and a few moves
	directALPN      = "mosix/1"
)

// direct is the road for bulk pages and forwarded calls: a TCP connection of its own for each stream, so that none waits
// behind another, with TLS 1.3 and the node's key itself as the certificate's.
type direct struct {
	net  *Net
	ln   net.Listener
	conf *tls.Config
	port int
	gate *gate
	wg   sync.WaitGroup

	mu     sync.Mutex
	open   map[*directConn]struct{}
	peers  map[id.Node]int // accepted streams
	closed bool
}

func listenDirect(ctx context.Context, n *Net, bind string, port int) (*direct, error) {
	conf, err := tlsConfig(n.cred.PrivateKey())
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(bind, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	d := &direct{
		net: n, ln: ln, conf: conf, port: ln.Addr().(*net.TCPAddr).Port, gate: newGate(),
		open: make(map[*directConn]struct{}), peers: make(map[id.Node]int),
	}
	d.wg.Add(1)
	go d.acceptLoop()
	return d, nil
}

// tlsConfig makes the configuration of both roles. The X.509 certificate is only an envelope for the key: who may come in is
// decided by mosix' own certificate, in the hello.
func tlsConfig(key ed25519.PrivateKey) (*tls.Config, error) {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280: no well-defined end
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the TLS certificate: %w", err)
	}
	return &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{directALPN},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // no chain to verify: VerifyConnection and the hello judge the key
		SessionTicketsDisabled: true,
		// Records of full size from the first byte: a move sends megabytes, and a call fits into one record anyway.
		DynamicRecordSizingDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := peerKey(s)
			return err
		},
	}, nil
}

// peerKey is the key that the other end has proved to hold: TLS 1.3 signs the handshake with it.
func peerKey(s tls.ConnectionState) (ed25519.PublicKey, error) {
	if len(s.PeerCertificates) != 1 {
		return nil, fmt.Errorf("the other end shows %d certificates, want 1", len(s.PeerCertificates))
	}
	key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("the other end has no Ed25519 key")
	}
	return key, nil
}

func (d *direct) dial(ctx context.Context, to target, proto string) (Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(to.addr.Host, strconv.Itoa(to.addr.Direct)))
	if err != nil {
		return nil, err
	}
	c, err := d.secure(ctx, raw, to, proto)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

func (d *direct) secure(ctx context.Context, raw net.Conn, to target, proto string) (*directConn, error) {
	if err := tuneTCP(raw); err != nil {
		return nil, err
	}
	conf := d.conf.Clone()
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		key, err := peerKey(s)
		if err == nil && !key.Equal(to.key) {
			err = fmt.Errorf("%w: the node at %s has another key than %s", ErrNotMember, raw.RemoteAddr(), to.name)
		}
		return err
	}
	c := tls.Client(raw, conf)
	stop := interruptible(ctx, raw)
	err := c.HandshakeContext(ctx)
	if err == nil {
		err = greet(c, d.net.cred, to.key, to.name, proto)
	}
	if err = stop(err); err != nil {
		return nil, err
	}
	dc := &directConn{Conn: c, road: d, peer: to.name}
	if !d.register(dc) {
		return nil, net.ErrClosed
	}
	return dc, nil
}

func (d *direct) acceptLoop() {
	defer d.wg.Done()
	for {
		raw, err := d.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely: it passes, and hurrying does not help
			d.net.log.Warn("cannot accept a stream; trying again", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		leave, ok := d.gate.enter(raw.RemoteAddr())
		if !ok {
			raw.Close()
			continue
		}
		d.wg.Add(1)
		go func() {
			defer d.wg.Done()
			d.serve(raw, leave)
		}()
	}
}

// serve takes a connection through the handshakes and gives it to its handler, in a goroutine of its own.
func (d *direct) serve(raw net.Conn, leave func()) {
	defer leave()
	c := tls.Server(raw, d.conf)
	dc := &directConn{Conn: c, road: d, accepted: true}
	h, err := d.admit(raw, c, dc)
	if err != nil {
		d.net.log.Debug("connection turned away", "road", "direct", "addr", raw.RemoteAddr().String(), "err", err)
		dc.Close()
		return
	}
	go h(dc)
}

func (d *direct) admit(raw net.Conn, c *tls.Conn, dc *directConn) (func(Conn), error) {
	if err := tuneTCP(raw); err != nil {
		return nil, err
	}
	if !d.register(dc) {
		return nil, net.ErrClosed
	}
	ctx, cancel := context.WithTimeout(context.Background(), tlsTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	key, err := peerKey(c.ConnectionState())
	if err != nil {
		return nil, err
	}
	var h func(Conn)
	_, _, err = welcome(c, d.net.cred, key, func(from id.Node, proto string) string {
		if h = d.net.table.get(proto); h == nil || !isDirect(proto) {
			return "no such protocol here: " + proto
		}
		if !d.count(dc, from) {
			return fmt.Sprintf("%s has %d streams open to this node already", from, maxDirectOfPeer)
		}
		return ""
	})
	return h, err
}

// register remembers c so that close ends it.
func (d *direct) register(c *directConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.open[c] = struct{}{}
	return true
}

// count gives c to the member from, unless that has too many.
func (d *direct) count(c *directConn, from id.Node) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.peers[from] >= maxDirectOfPeer {
		return false
	}
	d.peers[from]++
	c.peer = from
	return true
}

func (d *direct) forget(c *directConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.open[c]; !ok {
		return
	}
	delete(d.open, c)
	if c.accepted && c.peer != "" {
		if d.peers[c.peer]--; d.peers[c.peer] == 0 {
			delete(d.peers, c.peer)
		}
	}
}

func (d *direct) close() error {
	d.mu.Lock()
	d.closed = true
	open := make([]*directConn, 0, len(d.open))
	for c := range d.open {
		open = append(open, c)
	}
	d.mu.Unlock()
	err := d.ln.Close()
	for _, c := range open {
		c.Close()
	}
	d.wg.Wait()
	return err
}

// directConn is a stream of the direct road. CloseWrite, of tls.Conn, half-closes it.
type directConn struct {
	*tls.Conn
	road     *direct
	peer     id.Node
	accepted bool
}

// Peer implements Conn.
func (c *directConn) Peer() id.Node { return c.peer }

// Close implements net.Conn.
func (c *directConn) Close() error {
	c.road.forget(c)
	return c.Conn.Close()
}
