// Package peer runs membership and gossip for a node: hashicorp/memberlist says who seems to be alive, and gossip.Machine,
// driven here once per period, what their loads are. Its one invariant: who shows no certificate of the cluster's authority
// for its name, key and address is in no list, is sent nothing and is not believed, whatever keys it has besides.
//
// Locks, in this order: memberlist's own, then table.mu. Peer.mu guards the machine and is held during neither.
package peer

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"mosix/gossip"
	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/internal/identity"
	"mosix/internal/transport"
)

// Streams is the node's transport, as far as membership concerns it.
type Streams interface {
	Ports() (p2p, direct int)       // published to the other members
	SetResolver(transport.Resolver) // gets Peer.Resolve
}

// Options of a Peer.
type Options struct {
	Config    config.Config // Bind, Port, Seeds, MDNS, Period; a Port of 0 picks a free one
	Identity  *identity.Identity
	Transport Streams
	Rand      *rand.Rand          // the Peer's own from now on
	Self      func() gossip.Entry // called once per period, by Refresh, and for each message that is acknowledged
	OnChange  func(Member)        // member events, in their order, from one goroutine; may be nil
	Logger    *slog.Logger
}

// Peer is a node's place in the cluster.
type Peer struct {
	o        Options
	log      *slog.Logger
	started  time.Time
	addr     netip.AddrPort
	table    *table
	stats    counters
	list     *memberlist.Memberlist
	inbox    chan []byte
	refresh  chan struct{}
	seq      uint64 // of the last datagram sent; run's
	leaving  atomic.Bool
	heard    atomic.Int64 // when a member last sent gossip, as time since started
	stop     context.CancelFunc
	stopped  sync.WaitGroup
	closing  sync.Once
	closeErr error

	mu      sync.Mutex
	machine *gossip.Machine
	roster  roster
}

// roster lets the machine see the list of live members as it was when the machine was last called.
type roster struct{ *gossip.List }

// Start joins the cluster: it listens, and goes on trying to reach the seeds, and whoever mDNS finds, until Close.
func Start(o Options) (*Peer, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Config.Name != "" && id.Node(o.Config.Name) != o.Identity.Name() {
		return nil, fmt.Errorf("this node is configured as %q, but was admitted as %q; set name = %q in the configuration, or have it admitted again",
			o.Config.Name, o.Identity.Name(), o.Identity.Name())
	}
	p := &Peer{
		o: o, log: o.Logger, started: time.Now(), table: newTable(o.Identity), inbox: make(chan []byte, 1024),
		refresh: make(chan struct{}, 1), roster: roster{gossip.NewList()},
	}
	p.seq = uint64(p.started.UnixNano()) // above whatever an earlier life of this node has sent
	p.machine = gossip.New(o.Identity.Name(), &p.roster, o.Rand, gossip.Config{Period: p.period()})
	if err := p.listen(); err != nil {
		return nil, fmt.Errorf("join the cluster as %s: %w", o.Identity.Name(), err)
	}
	o.Transport.SetResolver(p.Resolve)
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.stopped.Go(func() { p.run(ctx) })
	p.stopped.Go(func() { p.notify(ctx) })
	p.stopped.Go(func() { p.joinForever(ctx) })
	return p, nil
}

func (p *Peer) period() time.Duration { return time.Duration(p.o.Config.Period) }

func (p *Peer) listen() error {
	host, err := advertise(p.o.Config)
	if err != nil {
		return err
	}
	bind := p.o.Config.Bind
	if bind == "" {
		bind = "0.0.0.0"
	}
	logger := log.New(logs{p.log, p.table.suspect}, "", 0)
	nt, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{bind}, BindPort: p.o.Config.Port, Logger: logger})
	if err != nil {
		return err
	}
	port := nt.GetAutoBindPort()
	p.addr = netip.AddrPortFrom(host, uint16(port))

	d := &delegate{meta: p.meta, inbox: p.inbox, table: p.table, stats: &p.stats}
	c := memberlist.DefaultLANConfig()
	c.Name = string(p.o.Identity.Name())
	c.Transport = newWire(nt, &p.stats)
	c.BindAddr, c.BindPort = bind, port
	c.AdvertiseAddr, c.AdvertisePort = host.String(), port
	c.SecretKey = p.o.Identity.ClusterKey
	c.Delegate, c.Alive, c.Merge, c.Events, c.Ping = d, d, d, d, d
	c.TCPTimeout = 5 * time.Second
	c.EnableCompression = false // keys and signatures do not compress
	c.HandoffQueueDepth = 4096
	// A certificate and a signature say whose a name is, not the address that had it first: who is dead may return elsewhere.
	c.DeadNodeReclaimTime = time.Nanosecond
	c.PushPullInterval = 15 * time.Second
	c.Logger = logger
	if p.list, err = memberlist.Create(c); err != nil {
		return errors.Join(err, c.Transport.Shutdown())
	}
	return nil
}

// meta is what this node says of itself, signed.
func (p *Peer) meta() []byte {
	p2p, direct := p.o.Transport.Ports()
	m := meta{
		Started: uint64(p.started.UnixNano()), Addr: p.addr.Addr(), Port: p.addr.Port(), P2P: uint16(p2p), Direct: uint16(direct),
		Cert: p.o.Identity.Certificate(),
	}
	if p.leaving.Load() {
		m.Flags |= flagLeaving
	}
	return m.sign(p.o.Identity.PrivateKey())
}

// run drives the machine: one tick per period, at a random phase and with jitter, and every message as it comes.
func (p *Peer) run(ctx context.Context) {
	timer := time.NewTimer(p.random(p.period()))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			p.table.prune()
			self := p.o.Self()
			p.step(func(now time.Duration) {
				p.machine.Update(self, now)
				p.machine.Tick(now)
			})
			timer.Reset(p.period()*95/100 + p.random(p.period()/10))
		case <-p.refresh:
			self := p.o.Self()
			p.step(func(now time.Duration) { p.machine.Update(self, now) })
		case raw := <-p.inbox:
			p.receive(raw)
		}
	}
}

// random is a duration below limit. The machine draws from the same source, also for View: hence the lock.
func (p *Peer) random(limit time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Duration(p.o.Rand.Int64N(int64(limit)))
}

// step does one thing with the machine and sends what comes of it.
func (p *Peer) step(do func(now time.Duration)) {
	list, gone, changed := p.table.roster()
	p.mu.Lock()
	if changed {
		p.roster.List = list
		for _, n := range gone {
			p.machine.Remove(n)
		}
	}
	do(time.Since(p.started))
	send := p.machine.Ready().Send
	p.mu.Unlock()
	for _, packet := range send {
		p.send(packet)
	}
}

func (p *Peer) send(packet gossip.Packet) {
	node, ok := p.table.target(packet.To)
	if !ok {
		return
	}
	p.seq++
	e := envelope{From: p.o.Identity.Name(), Seq: p.seq, Msg: packet.Msg.Encode()}
	raw := e.seal(packet.To, p.o.Identity.PrivateKey())
	if err := p.list.SendBestEffort(node, raw); err != nil {
		p.log.Debug("gossip not sent", "to", packet.To, "err", err)
		return
	}
	p.stats.sent.Add(1)
	p.stats.sentBytes.Add(uint64(len(raw)))
}

func (p *Peer) receive(raw []byte) {
	e, err := p.table.accept(raw)
	var msg gossip.Message
	if err == nil {
		msg, err = gossip.Decode(e.Msg)
	}
	if err != nil {
		p.stats.rejected.Add(1)
		p.log.Debug("gossip rejected", "err", err)
		return
	}
	p.stats.received.Add(1)
	p.stats.receivedBytes.Add(uint64(len(raw)))
	p.table.answered(e.From)
	p.heard.Store(int64(time.Since(p.started)))
	if msg.Kind != gossip.KindPush {
		p.step(func(now time.Duration) { p.machine.Step(e.From, msg, now) })
		return
	}
	self := p.o.Self() // the acknowledgement says how it is now, with what has been promised since the last period
	p.step(func(now time.Duration) {
		p.machine.Update(self, now)
		p.machine.Step(e.From, msg, now)
	})
}

// notify hands member events on.
func (p *Peer) notify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.table.wake:
		}
		for _, m := range p.table.takeEvents() {
			if !m.Self {
				p.log.Info("member", "node", string(m.Name), "state", string(m.State), "addr", m.Addr.String())
			}
			if p.o.OnChange != nil {
				p.o.OnChange(m)
			}
		}
	}
}

// Refresh makes the node's entry new out of turn: when its load has changed much, so that urgent news does not wait.
func (p *Peer) Refresh() {
	select {
	case p.refresh <- struct{}{}:
	default:
	}
}

// Members gives all members, this node included, by name; those that died or left recently too.
func (p *Peer) Members() []Member { return p.table.all() }

// View is what is known of the loads of others, newest first, with ages. Each entry is a hint.
func (p *Peer) View() []gossip.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machine.View(time.Since(p.started))
}

// Resolve finds a member for the transport.
func (p *Peer) Resolve(n id.Node) (transport.Address, bool) { return p.table.resolve(n) }

// Addr is where the node tells others to reach its membership.
func (p *Peer) Addr() netip.AddrPort { return p.addr }

// Stats is a snapshot of what a Peer has counted since its start.
type Stats struct {
	Sent, SentBytes         uint64 // gossip messages, with their signatures
	Received, ReceivedBytes uint64
	Rejected                uint64 // malformed, forged, repeated or from strangers
	Overrun                 uint64 // came faster than they were taken
	Strangers               uint64 // times that a node which was not admitted wanted in
	Packets, PacketBytes    uint64 // all datagrams sent, membership and gossip, encrypted
	Ages                    []time.Duration
	Members                 map[State]int
}

// Stats says what the Peer has counted, for metrics.
func (p *Peer) Stats() Stats {
	s := Stats{
		Sent: p.stats.sent.Load(), SentBytes: p.stats.sentBytes.Load(),
		Received: p.stats.received.Load(), ReceivedBytes: p.stats.receivedBytes.Load(),
		Rejected: p.stats.rejected.Load(), Overrun: p.stats.overrun.Load(), Strangers: p.stats.strangers.Load(),
		Packets: p.stats.packets.Load(), PacketBytes: p.stats.packetBytes.Load(),
		Members: map[State]int{Alive: 0, Suspect: 0, Dead: 0, Left: 0},
	}
	for _, e := range p.View() {
		s.Ages = append(s.Ages, e.Age)
	}
	for _, m := range p.Members() {
		s.Members[m.State]++
	}
	return s
}

// Leave tells the others that this node goes of its own will. It returns when they know, or when ctx ends; Close is still
// to be called.
func (p *Peer) Leave(ctx context.Context) error {
	p.leaving.Store(true)
	if err := p.list.UpdateNode(timeLeft(ctx) / 2); err != nil {
		p.log.Debug("announce leaving", "err", err) // the others will take this node for dead, a little later
	}
	if err := p.list.Leave(timeLeft(ctx)); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}

// timeLeft is what ctx leaves, and 5 s if it sets no limit.
func timeLeft(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(time.Until(end), time.Millisecond)
	}
	return 5 * time.Second
}

// Close ends membership without a word: to the others a node that has not called Leave is dead.
func (p *Peer) Close() error {
	p.closing.Do(func() {
		p.stop()
		p.closeErr = p.list.Shutdown()
		p.stopped.Wait()
	})
	return p.closeErr
}

// advertise chooses the address under which others reach this node: the bound one; else the one from which the first seed
// is reached; else a private one; else loopback, which serves a cluster on one machine.
func advertise(c config.Config) (netip.Addr, error) {
	if c.Bind != "" {
		a, err := netip.ParseAddr(c.Bind)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("bind = %q is not an IP address", c.Bind)
		}
		if !a.IsUnspecified() {
			return a.Unmap(), nil
		}
	}
	for _, s := range c.Seeds {
		conn, err := net.Dial("udp4", withPort(s, c.Port)) // sends nothing: it only asks the routing table
		if err != nil {
			continue
		}
		a := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		conn.Close()
		if !a.IsLoopback() {
			return a, nil
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list the network interfaces: %w; set bind in the configuration", err)
	}
	best := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, x := range addrs {
		ipn, ok := x.(*net.IPNet)
		if !ok {
			continue
		}
		a, ok := netip.AddrFromSlice(ipn.IP)
		if a = a.Unmap(); !ok || !a.Is4() || a.IsLoopback() || a.IsLinkLocalUnicast() {
			continue
		}
		if a.IsPrivate() {
			return a, nil
		}
		best = a
	}
	return best, nil
}

// withPort completes a seed that is a host without a port.
func withPort(seed string, port int) string {
	if _, _, err := net.SplitHostPort(seed); err == nil {
		return seed
	}
	return net.JoinHostPort(seed, strconv.Itoa(port))
}
