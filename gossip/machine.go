// Package gossip spreads what nodes say of their load, as a state machine without clock, network or goroutines. Its one
// invariant: what a node knows of another is never older after a message than before it, and the vector, each message and
// each period's work stay bounded however large the cluster is.
//
// Every period a node refreshes its own entry and sends the newest half of its vector to two random nodes, at least one of
// which it has heard from recently; these acknowledge with their own entry; both merge by age. See balancing.md, section 2,
// for where the scheme comes from and for the age law that its tests check.
package gossip

import (
	"math/rand/v2"
	"slices"
	"time"

	"mosix/internal/id"
)

// Config has the numbers of the scheme. The zero value of each field stands for its default.
type Config struct {
	Period    time.Duration // between two Ticks; 1 s
	Vector    int           // entries kept, the own one counted; 64
	Fanout    int           // nodes told each period; 2
	Urgent    int           // nodes told at once when this node has become idle; 16
	Recent    int           // periods for which a node counts as heard from, itself or through others; 3
	Forget    int           // periods after which an entry is dropped; 120
	IdleMilli uint32        // below this load a node is idle; 500
	BusyMilli uint32        // from this load on it is not; 1000
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if c.Period == 0 {
		c.Period = time.Second
	}
	def(&c.Vector, 64)
	def(&c.Fanout, 2)
	def(&c.Urgent, 16)
	def(&c.Recent, 3)
	def(&c.Forget, 120)
	if c.IdleMilli == 0 {
		c.IdleMilli = 500
	}
	if c.BusyMilli == 0 {
		c.BusyMilli = 1000
	}
	return c
}

// Ready is what the driver has to do. It owns it.
type Ready struct{ Send []Packet }

// Machine is the gossip of one node. It is not safe for concurrent use. All times are of one monotonic clock of the node.
type Machine struct {
	conf   Config
	name   id.Node
	roster Roster
	rng    *rand.Rand

	self     Entry
	selfAt   time.Duration // when self was said
	busy     bool          // since it was last idle
	urgentAt time.Duration // when urgent news was last sent
	started  bool

	vec   []known // of others, in no order
	index map[id.Node]int

	send  []Packet
	order []ranked // scratch
}

// known is an entry and the moment at which it was said, on this node's clock.
type known struct {
	e    Entry
	said time.Duration
}

// ranked orders entries by age, and equally old ones at random: by node, the same ones would always lose and never be
// refreshed.
type ranked struct {
	said time.Duration
	tie  uint32
	i    int // index into vec
}

func newest(a, b ranked) int {
	switch {
	case a.said != b.said:
		if a.said > b.said {
			return -1
		}
		return 1
	case a.tie < b.tie:
		return -1
	case a.tie > b.tie:
		return 1
	}
	return 0
}

// New makes the machine of the node name.
func New(name id.Node, roster Roster, rng *rand.Rand, conf Config) *Machine {
	return &Machine{
		conf: conf.withDefaults(), name: name, roster: roster, rng: rng,
		self: Entry{Node: name}, index: make(map[id.Node]int), urgentAt: -1 << 62,
	}
}

// Update says what this node's entry is from now on. Call it before each Tick, before each Step that takes a push, and whenever the load has fallen much: a node
// that becomes idle tells others at once, at most once per period.
func (m *Machine) Update(e Entry, now time.Duration) {
	e.Node, e.Age = m.name, 0
	m.self, m.selfAt, m.started = e, now, true
	switch {
	case e.LoadMilli >= m.conf.BusyMilli:
		m.busy = true
	case m.busy && e.LoadMilli < m.conf.IdleMilli && now-m.urgentAt >= m.conf.Period:
		m.busy, m.urgentAt = false, now
		msg := Message{Kind: KindUrgent, Entries: []Entry{m.own(now)}}
		for _, n := range m.pick(m.conf.Urgent) {
			m.send = append(m.send, Packet{To: n, Msg: msg})
		}
	}
}

// Tick does what is due once per period. Periods of different nodes should not be in step.
func (m *Machine) Tick(now time.Duration) {
	m.forget(now)
	if !m.started {
		return
	}
	targets := m.targets(now)
	if len(targets) == 0 {
		return
	}
	msg := Message{Kind: KindPush, Entries: m.newestHalf(now)}
	for _, n := range targets {
		m.send = append(m.send, Packet{To: n, Msg: msg})
	}
}

// Step takes a message that the node from has sent. The driver knows who that is; who the entries are about is hearsay.
func (m *Machine) Step(from id.Node, msg Message, now time.Duration) {
	if from == m.name || !m.roster.Has(from) {
		return
	}
	for i := range msg.Entries {
		m.merge(&msg.Entries[i], now)
	}
	if msg.Kind == KindPush && m.started {
		m.send = append(m.send, Packet{To: from, Msg: Message{Kind: KindAck, Entries: []Entry{m.own(now)}}})
	}
}

// Ready hands over what is to be sent since it was last called.
func (m *Machine) Ready() Ready {
	r := Ready{Send: m.send}
	m.send = nil
	return r
}

// View is what the node knows of others, newest first, with ages as of now.
func (m *Machine) View(now time.Duration) []Entry {
	return m.AppendView(make([]Entry, 0, len(m.vec)), now)
}

// AppendView appends View to out.
func (m *Machine) AppendView(out []Entry, now time.Duration) []Entry {
	for _, r := range m.rank() {
		out = append(out, m.at(r.i, now))
	}
	return out
}

// Self is the node's own entry, with its age.
func (m *Machine) Self(now time.Duration) Entry { return m.own(now) }

// Remove drops what is known of a node that has left or died.
func (m *Machine) Remove(n id.Node) {
	if i, ok := m.index[n]; ok {
		m.drop(i)
	}
}

func (m *Machine) own(now time.Duration) Entry {
	e := m.self
	e.Age = max(now-m.selfAt, 0)
	return e
}

func (m *Machine) at(i int, now time.Duration) Entry {
	e := m.vec[i].e
	e.Age = max(now-m.vec[i].said, 0)
	return e
}

// merge takes an entry if it is news.
func (m *Machine) merge(e *Entry, now time.Duration) {
	if e.Node == m.name || e.Age > m.maxAge() || e.Age < 0 || !m.roster.Has(e.Node) {
		return
	}
	said := now - e.Age
	if i, ok := m.index[e.Node]; ok {
		if said > m.vec[i].said {
			m.vec[i] = known{*e, said}
		}
		return
	}
	if len(m.vec) < m.conf.Vector-1 {
		m.index[e.Node] = len(m.vec)
		m.vec = append(m.vec, known{*e, said})
		return
	}
	i := m.oldest()
	if i < 0 || m.vec[i].said > said || m.vec[i].said == said && m.rng.IntN(2) == 0 {
		return
	}
	delete(m.index, m.vec[i].e.Node)
	m.index[e.Node] = i
	m.vec[i] = known{*e, said}
}

// oldest gives the index of the oldest entry, of equally old ones a random one; -1 if there is none.
func (m *Machine) oldest() int {
	best, same := -1, 0
	for i := range m.vec {
		switch {
		case best < 0 || m.vec[i].said < m.vec[best].said:
			best, same = i, 1
		case m.vec[i].said == m.vec[best].said:
			if same++; m.rng.IntN(same) == 0 {
				best = i
			}
		}
	}
	return best
}

// rank orders the vector, newest first. The result lives until the next call.
func (m *Machine) rank() []ranked {
	m.order = m.order[:0]
	for i := range m.vec {
		m.order = append(m.order, ranked{m.vec[i].said, m.rng.Uint32(), i})
	}
	slices.SortFunc(m.order, newest)
	return m.order
}

// newestHalf is the own entry and as many of the newest others as make half a vector.
func (m *Machine) newestHalf(now time.Duration) []Entry {
	n := min((m.conf.Vector+1)/2, 1+(len(m.vec)+1)/2)
	out := append(make([]Entry, 0, n), m.own(now))
	for _, r := range m.rank() {
		if len(out) == n {
			break
		}
		out = append(out, m.at(r.i, now))
	}
	return out
}

// targets picks whom to tell: one of whom there was news recently, if there is one, and for the rest anyone. News need not have
// come from the node itself: to prefer those who have just written to us mixes worse, by 8 % in the mean age.
func (m *Machine) targets(now time.Duration) []id.Node {
	limit := now - time.Duration(m.conf.Recent)*m.conf.Period
	first, seen := -1, 0
	for i := range m.vec {
		if m.vec[i].said >= limit {
			if seen++; m.rng.IntN(seen) == 0 {
				first = i
			}
		}
	}
	if first < 0 {
		return m.pick(m.conf.Fanout)
	}
	n := m.vec[first].e.Node
	return append([]id.Node{n}, m.pick(m.conf.Fanout-1, n)...)
}

// pick gives up to n different random nodes, without this one and without those in but.
func (m *Machine) pick(n int, but ...id.Node) []id.Node {
	var out []id.Node
	all := m.roster.Len()
	wanted := func(c id.Node) bool {
		return c != m.name && !slices.Contains(but, c) && !slices.Contains(out, c)
	}
	if all <= 4*n {
		for _, i := range m.rng.Perm(all) {
			if c := m.roster.At(i); len(out) < n && wanted(c) {
				out = append(out, c)
			}
		}
		return out
	}
	for len(out) < n { // at most a quarter of the draws is in vain, and but and this node a few more
		if c := m.roster.At(m.rng.IntN(all)); wanted(c) {
			out = append(out, c)
		}
	}
	return out
}

func (m *Machine) maxAge() time.Duration { return time.Duration(m.conf.Forget) * m.conf.Period }

// forget drops entries that are too old to mean anything, or whose node membership no longer knows.
func (m *Machine) forget(now time.Duration) {
	for i := len(m.vec) - 1; i >= 0; i-- {
		if now-m.vec[i].said > m.maxAge() || !m.roster.Has(m.vec[i].e.Node) {
			m.drop(i)
		}
	}
}

func (m *Machine) drop(i int) {
	last := len(m.vec) - 1
	delete(m.index, m.vec[i].e.Node)
	if i != last {
		m.vec[i] = m.vec[last]
		m.index[m.vec[i].e.Node] = i
	}
	m.vec[last] = known{}
	m.vec = m.vec[:last]
}
