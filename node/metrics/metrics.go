// Package metrics is what the agent tells Prometheus. Its one invariant: labels name nodes and classes from closed or bounded
// sets, never commands, users or processes, because every user of the machine may read the port.
package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mosix/internal/id"
	"mosix/node/api"
)

// Snapshot is the state of the node at the moment of a scrape.
type Snapshot struct {
	Load       float64 // ready processes per unit of capacity, measured over the last period
	Mean       float64 // own view: rises slowly
	Upper      float64 // exported view: falls slowly
	Capacity   float64 // CPUs times speed
	MemTotal   uint64  // bytes
	MemFree    uint64  // bytes
	Guests     int     // processes of other homes that run here
	Away       int     // processes of this home that run elsewhere
	Candidates int     // processes that the balancer may move now
	Locked     int     // processes that came home and must stay for a while

	Members map[string]int // number of nodes by state (api.NodeAlive, …), as membership sees them
	Vector  []Entry        // what gossip has brought about other nodes
}

// Entry is one entry of the load vector.
type Entry struct {
	Node id.Node
	Load float64
	Age  time.Duration // since the node measured it
}

// Direction of a move as this node sees it: values of Move.Direction.
const (
	Out  = "out"  // from home to a host
	In   = "in"   // a guest arrives
	Home = "home" // a process of this home comes back
	Back = "back" // a guest leaves
)

// Move is a move that has ended. The times count for moves that were committed.
type Move struct {
	Result    string // api.ResultMoved, …
	Direction string // Out, …
	Cause     string // api.CauseBalancer, …
	Freeze    time.Duration
	Total     time.Duration
	Bytes     uint64 // sent or received
	Rounds    int    // of precopy, before the freeze
}

// Metrics counts. Its methods may be called from any goroutine.
type Metrics struct {
	registry *prometheus.Registry

	moves     *prometheus.CounterVec
	freeze    *prometheus.HistogramVec
	total     *prometheus.HistogramVec
	bytes     *prometheus.CounterVec
	rounds    prometheus.Histogram
	calls     *bounded[prometheus.Observer]
	comeHomes *bounded[prometheus.Counter]
	refusals  *bounded[prometheus.Counter]
	gossip    *prometheus.CounterVec
	gossipB   *prometheus.CounterVec
	decisions *prometheus.CounterVec
	owner     prometheus.Histogram
	expelled  *prometheus.CounterVec
}

// Bounds on names that arrive at run time, so that a defect elsewhere cannot fill the agent's memory with series.
const (
	maxCalls    = 400 // the table of amd64 calls has fewer rows
	maxRefusals = 100
	other       = "other" // label of what is beyond the bound, or not a known word
)

// New makes the metrics of one agent with a registry of their own. snapshot is called once per scrape.
func New(snapshot func() Snapshot) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mosix_moves_total", Help: "Moves that have ended, by result (moved, refused, failed), direction (out, in, home, back) and cause (balancer, command, come-home, owner, shutdown).",
		}, []string{"result", "direction", "cause"}),
		freeze: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mosix_move_freeze_seconds", Help: "Time for which a moved process ran nowhere.",
			Buckets: []float64{.001, .002, .005, .01, .02, .03, .05, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"direction"}),
		total: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mosix_move_total_seconds", Help: "Time from the offer of a move to its end.",
			Buckets: []float64{.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 120},
		}, []string{"direction"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mosix_move_bytes_total", Help: "Bytes of process images carried by committed moves.",
		}, []string{"direction"}),
		rounds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mosix_move_precopy_rounds", Help: "Rounds of precopy of a committed move.",
			Buckets: []float64{0, 1, 2, 3, 4, 6, 8, 12, 16},
		}),
		gossip: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mosix_gossip_messages_total", Help: "Load messages, by direction (sent, received).",
		}, []string{"direction"}),
		gossipB: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mosix_gossip_bytes_total", Help: "Bytes of load messages, by direction (sent, received).",
		}, []string{"direction"}),
		owner: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mosix_owner_return_seconds", Help: "How long it took until guests had gone when the owner of the machine came back.",
			Buckets: []float64{0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 7.5, 10, 20, 30},
		}),
		expelled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mosix_owner_return_guests_total", Help: "Guests when the owner came back, by outcome (went, left).",
		}, []string{"outcome"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mosix_balancer_decisions_total", Help: "Ends of the balancer's periods, by outcome (stay, move).",
		}, []string{"outcome"}),
	}
	calls := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "mosix_forwarded_call_seconds", Help: "Time from a guest's system call on this host to its answer by home, by name of the call. Calls that wait, wait at home: a blocked read counts with its waiting.",
		Buckets: []float64{.00005, .0001, .0002, .0005, .001, .005, .02, .1, 1, 10},
	}, []string{"call"})
	comeHomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mosix_come_homes_total", Help: "Guests that had to come home for a system call, by name of the call.",
	}, []string{"call"})
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mosix_refusals_total", Help: "Reasons for which a process was not moved, by kind.",
	}, []string{"what"})
	m.calls = newBounded(maxCalls, func(name string) prometheus.Observer { return calls.WithLabelValues(name) })
	m.comeHomes = newBounded(maxCalls, func(name string) prometheus.Counter { return comeHomes.WithLabelValues(name) })
	m.refusals = newBounded(maxRefusals, func(what string) prometheus.Counter { return refusals.WithLabelValues(what) })

	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.moves, m.freeze, m.total, m.bytes, m.rounds, m.gossip, m.gossipB, m.decisions, m.owner, m.expelled, calls, comeHomes, refusals,
		&nodeCollector{snapshot},
	)
	return m
}

// MoveDone counts a move that has ended. Each end of a move counts it once, with its own direction.
func (m *Metrics) MoveDone(v Move) {
	direction := oneOf(v.Direction, Out, In, Home, Back)
	m.moves.WithLabelValues(
		oneOf(v.Result, api.ResultMoved, api.ResultRefused, api.ResultFailed), direction,
		oneOf(v.Cause, api.CauseBalancer, api.CauseCommand, api.CauseComeHome, api.CauseOwner, api.CauseShutdown),
	).Inc()
	if v.Result != api.ResultMoved {
		return
	}
	m.freeze.WithLabelValues(direction).Observe(v.Freeze.Seconds())
	m.total.WithLabelValues(direction).Observe(v.Total.Seconds())
	m.bytes.WithLabelValues(direction).Add(float64(v.Bytes))
	m.rounds.Observe(float64(v.Rounds))
}

// Call counts a call that this host forwarded to a guest's home and that took d. It costs well under a microsecond.
func (m *Metrics) Call(name string, d time.Duration) { m.calls.get(name).Observe(d.Seconds()) }

// ComeHome counts a guest that had to come home for the named call.
func (m *Metrics) ComeHome(call string) { m.comeHomes.get(call).Inc() }

// Refused counts a reason for which a process was not moved: image.Refusal.What.
func (m *Metrics) Refused(what string) { m.refusals.get(what).Inc() }

// GossipSent counts a load message of n bytes.
func (m *Metrics) GossipSent(n int) { m.gossipped("sent", n) }

// GossipReceived counts a load message of n bytes.
func (m *Metrics) GossipReceived(n int) { m.gossipped("received", n) }

func (m *Metrics) gossipped(direction string, n int) {
	m.gossip.WithLabelValues(direction).Inc()
	m.gossipB.WithLabelValues(direction).Add(float64(n))
}

// Decided counts one run of the balancer and whether it wanted a move.
func (m *Metrics) Decided(move bool) {
	outcome := "stay"
	if move {
		outcome = "move"
	}
	m.decisions.WithLabelValues(outcome).Inc()
}

func oneOf(word string, words ...string) string {
	for _, w := range words {
		if w == word {
			return w
		}
	}
	return other
}

// bounded remembers the series of each name, so that a hot path pays one map lookup without a lock, and stops making new ones
// at its bound.
type bounded[T any] struct {
	make func(name string) T
	max  int

	known atomic.Pointer[map[string]T] // never written in place
	mu    sync.Mutex                   // serializes replacement of known
}

func newBounded[T any](bound int, mk func(string) T) *bounded[T] {
	b := &bounded[T]{make: mk, max: bound}
	b.known.Store(&map[string]T{})
	return b
}

func (b *bounded[T]) get(name string) T {
	if v, ok := (*b.known.Load())[name]; ok {
		return v
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.known.Load()
	if len(old) >= b.max && name != other {
		name = other
	}
	if v, ok := old[name]; ok {
		return v
	}
	next := make(map[string]T, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	v := b.make(name)
	next[name] = v
	b.known.Store(&next)
	return v
}

// OwnerReturned counts guests that went when the owner of the machine came back, those that are left, and how long it took.
func (m *Metrics) OwnerReturned(went, left int, took time.Duration) {
	m.owner.Observe(took.Seconds())
	m.expelled.WithLabelValues("went").Add(float64(went))
	m.expelled.WithLabelValues("left").Add(float64(left))
}
