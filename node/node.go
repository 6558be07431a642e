// Package node is the agent: it introduces the brains to the world and to each other, owns the goroutines, and turns decisions
// into trips. Its one invariant: what it knows of a process that is away, or of a guest, can be learnt again from the
// process itself; nothing that a crash loses is needed to go on.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"mosix/gossip/peer"
	"mosix/internal/config"
	"mosix/internal/fault"
	"mosix/internal/id"
	"mosix/internal/identity"
	"mosix/internal/kern"
	"mosix/internal/stub"
	"mosix/internal/transport"
	"mosix/migrator/eligible"
	"mosix/migrator/ferry"
	"mosix/node/control"
	"mosix/node/metrics"
)

// Node is a running agent.
type Node struct {
	conf    config.Config
	log     *slog.Logger
	ident   *identity.Identity
	name    id.Node
	code    *stub.Code
	net     *transport.Net
	peer    *peer.Peer
	met     *metrics.Metrics
	target  *eligible.Target
	env     ferry.Env
	ctx     context.Context // ends when the agent does
	adopted chan struct{}   // closed when it is known what an earlier agent left: before that nobody is answered
	wg      sync.WaitGroup

	mu      sync.Mutex
	records map[id.Process]*record // of processes whose home this is and that have moved, or are moving
	guests  map[id.Process]*tenant
	leaving map[id.Process]int // guests that are ended just now, by how many have that name
	strays  []stray            // what this agent could not take up, and may be guests
	history []control.Move
	closing bool

	targets targets
	kin     kin
	own     ownership
	events  events
	indices indices
	rules   rules
	wanted  wanted

	balance balance
}

// Run is the agent's life: it returns when ctx ends and everything was brought to where it belongs.
func Run(ctx context.Context, conf config.Config, log *slog.Logger) error {
	n := &Node{conf: conf, log: log, code: stub.Load(), records: map[id.Process]*record{}, guests: map[id.Process]*tenant{}, leaving: map[id.Process]int{}, adopted: make(chan struct{})}
	life, end := context.WithCancel(context.Background())
	defer end()
	n.ctx = life
	if conf.FaultsFile != "" {
		if err := fault.Arm(conf.FaultsFile); err != nil {
			return err
		}
	}
	n.openOwner()
	if err := n.open(); err != nil {
		return err
	}
	defer n.net.Close()
	if err := n.adopt(); err != nil {
		return err
	}
	close(n.adopted)
	if err := n.join(); err != nil {
		return err
	}
	defer n.peer.Close()
	stopControl, err := n.serveControl()
	if err != nil {
		return err
	}
	n.goes(n.run)
	n.goes(n.watchOwner)
	n.goes(n.watchIndices)
	log.Info("ready", "node", n.name, "policy", conf.Policy, "id", n.ident.PeerID())
	<-ctx.Done()
	n.shutdown()
	stopControl()
	end()
	n.wg.Wait()
	return nil
}

// goes runs f until the agent ends.
func (n *Node) goes(f func()) {
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		f()
	}()
}

// open loads who this node is, and listens for streams.
func (n *Node) open() error {
	var err error
	if n.ident, err = identity.Load(n.conf.StateDir); err != nil {
		return err
	}
	if n.name = n.ident.Name(); n.conf.Name != string(n.name) {
		return fmt.Errorf("this node is called %q by its configuration and %q by its certificate in %s: change name, or admit the node anew", n.conf.Name, n.name, n.conf.StateDir)
	}
	if n.target, err = eligible.LocalTarget(string(n.name)); err != nil {
		return err
	}
	n.env = ferry.Env{Node: n.name, Code: n.code, Log: n.log, MoveLease: time.Duration(n.conf.MoveLease), Lease: time.Duration(n.conf.Lease),
		Rounds: ferry.MaxRounds, Skew: time.Duration(n.conf.ClockSkew),
		DriftPPM: float64(n.conf.ClockDrift), Began: kern.Now(kern.ClockMonotonic)}
	n.met = metrics.New(n.snapshot)
	n.net, err = transport.New(n.ctx, transport.Options{Identity: n.ident, Bind: n.conf.Bind, Port: n.conf.Port, Logger: n.log})
	if err != nil {
		return err
	}
	n.net.Handle(transport.ProtoMove, n.afterAdoption(n.onMove))
	n.net.Handle(transport.ProtoService, n.afterAdoption(n.onService))
	n.net.Handle(transport.ProtoControl, n.afterAdoption(n.onControl))
	return nil
}

// afterAdoption lets a stream wait until this agent knows the processes that an earlier one has left.
func (n *Node) afterAdoption(h func(transport.Conn)) func(transport.Conn) {
	return func(c transport.Conn) {
		select {
		case <-n.adopted:
			h(c)
		case <-n.ctx.Done():
			c.Close()
		}
	}
}

// join begins to measure and to gossip.
func (n *Node) join() error {
	if err := n.balance.open(n); err != nil {
		return err
	}
	p, err := peer.Start(peer.Options{Config: n.conf, Identity: n.ident, Transport: n.net, Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Self: n.balance.entry, Logger: n.log})
	if err != nil {
		return err
	}
	n.peer = p
	n.net.SetResolver(p.Resolve)
	return nil
}

func (n *Node) serveControl() (func(), error) {
	l, err := control.Listen(n.conf.ControlSocket())
	if err != nil {
		return nil, err
	}
	srv := control.NewServer(n, n.log)
	n.goes(func() {
		if err := srv.Serve(l); err != nil && n.ctx.Err() == nil {
			n.log.Error("the control socket has failed", "err", err)
		}
	})
	var stopMetrics context.CancelFunc = func() {}
	if n.conf.Metrics != "" {
		var mctx context.Context
		mctx, stopMetrics = context.WithCancel(context.Background())
		n.goes(func() {
			if err := n.met.Serve(mctx, n.conf.Metrics); err != nil && n.ctx.Err() == nil {
				n.log.Error("metrics cannot be served", "address", n.conf.Metrics, "err", err)
			}
		})
	}
	return func() {
		stopMetrics()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
	}, nil
}

// dial opens a stream to another node.
func (n *Node) dial(ctx context.Context, to id.Node, proto string) (*ferry.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := n.net.Dial(ctx, to, proto)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return ferry.NewStream(c), nil
}

// shutdown sends guests home and brings this home's processes back, as far as the others can be reached.
func (n *Node) shutdown() {
	n.mu.Lock()
	n.closing = true
	n.mu.Unlock()
	const all = 1 << 10
	var wg sync.WaitGroup
	wg.Go(func() {
		_, left := n.expel(context.Background(), causeShutdown, all)
		for _, x := range left {
			n.log.Warn("a guest stays behind; its calls wait for the next agent", "process", id.Process{Home: x.Home, PID: x.PID}, "err", x.Why)
		}
	})
	wg.Go(func() {
		_, left := n.bring(n.ctx, causeShutdown, all, 20*time.Second)
		for _, x := range left {
			n.log.Warn("a process stays away; the next agent takes it up again", "process", id.Process{Home: x.Home, PID: x.PID}, "err", x.Why)
		}
	})
	wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := n.peer.Leave(ctx); err != nil {
		n.log.Debug("leave", "err", err)
	}
}

// onMove serves a stream on which a process wants to come.
func (n *Node) onMove(c transport.Conn) {
	defer c.Close()
	s := ferry.NewStream(c)
	offer, err := ferry.ReadOffer(s)
	if err != nil {
		n.log.Warn("a move that did not begin well", "from", c.Peer(), "err", err)
		return
	}
	if offer.Homeward {
		n.welcome(c.Peer(), s, offer)
		return
	}
	n.receive(c.Peer(), s, offer)
}

// snapshot is what /metrics shows of the present.
func (n *Node) snapshot() metrics.Snapshot {
	s := metrics.Snapshot{Members: map[string]int{}}
	n.balance.describe(&s)
	n.mu.Lock()
	s.Guests = len(n.guests)
	for _, r := range n.records {
		if r.away != nil {
			s.Away++
		}
		if time.Now().Before(r.lockedUntil) {
			s.Locked++
		}
	}
	n.mu.Unlock()
	if n.peer != nil {
		for _, m := range n.peer.Members() {
			s.Members[string(m.State)]++
		}
		for _, e := range n.peer.View() {
			s.Vector = append(s.Vector, metrics.Entry{Node: e.Node, Load: float64(e.UpperMilli) / 1000, Age: e.Age})
		}
	}
	return s
}

var _ control.Backend = (*Node)(nil)
