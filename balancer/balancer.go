// Package balancer decides which process should go where, and whether a node takes a process that is offered to it. Its one
// invariant: a decision depends on nothing but the view, the time and the random numbers that are handed in, and every
// decision, also the one to do nothing, says why in words with numbers.
//
// Loads are ready processes per unit of capacity (see package load); a process of one thread adds 1/capacity to a node.
package balancer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"mosix/balancer/load"
	"mosix/internal/id"
)

// Node is what is known about a node. Fields that say "self" are only known, and only read, of the own node.
type Node struct {
	Name     id.Node
	Unfit    string        // why it cannot be a target now ("suspect", "blocked by its owner", "lacks avx512f"); "" = it can
	Exported float64       // load it exports, which includes what it promised
	Load     float64       // load, which falls at once: an idle node looks idle
	Age      time.Duration // of what is known about it
	CPUs     float64       // processors, or the quota
	Speed    float64       // of one processor, 1 = standard
	MemFree  uint64        // bytes
	MemTotal uint64        // bytes

	Mean        float64 // self: own slow view of the load (load.Meter.Mean)
	True        float64 // self: measured load with promises, without departures (load.Meter.True)
	Now         float64 // self: load at this moment, with promises; True where nothing newer than the last period is known
	MemPromised uint64  // self: bytes promised to processes that have not arrived
	MemFalls    uint64  // self: bytes per second by which MemFree has been falling for two periods at least
}

// Capacity of the node.
func (n Node) Capacity() load.Capacity { return load.Capacity{CPUs: n.CPUs, Speed: n.Speed} }

// Candidate is a process that uses the processor of this node: one whose home is here, or a guest.
type Candidate struct {
	Process   id.Process
	CPU       time.Duration      // used so far, here and elsewhere: its age in work, the best guess of what remains
	Ready     time.Duration      // running or waiting for a processor, in all
	ReadyLast float64            // tasks that were ready on average over the last period; 1 for one busy thread
	Bytes     uint64             // memory to move
	Residency time.Duration      // since it arrived here, or started
	Left      []Departure        // nodes that it has left
	Talk      float64            // seconds that its calls wait for home per second of computing while it is away, or would; 0: not known
	Written   float64            // bytes per second that it wrote to its memory when it moved last; 0: not known
	Barred    map[id.Node]string // nodes to which it does not go, and why
	Unmovable string             // why it cannot move now ("locked", "desktop session", "own seccomp filter"); "" = it can
}

// Departure is a node that a process has left.
type Departure struct {
	Node id.Node
	Ago  time.Duration
}

// Outcome of an attempt to move a process.
type Outcome int

// Outcomes.
const (
	Pending Outcome = iota // offered or under way
	Moved
	Refused // by the target
	Failed
)

// Attempt is a move that this node decided and began, as a source.
type Attempt struct {
	Process id.Process
	To      id.Node
	Ready   float64 // of the process: what it adds to the target
	At      time.Duration
	Outcome Outcome
}

// View is everything that a policy may look at.
type View struct {
	Self      Node
	Nodes     []Node // the others
	Processes []Candidate
	Attempts  []Attempt // of the last minute, at least
	Costs     Costs
}

// Move is a decision to send a process away.
type Move struct {
	Process id.Process
	To      id.Node
	Ask     []id.Node // nodes that are asked, To among them; the best answer decides. None: To alone
	Reason  string
	Gain    float64 // slowdown here minus slowdown there
	Cost    time.Duration
	Offer   Offer // for the target
}

// Decision is what a policy wants done now.
type Decision struct {
	Moves []Move // each to another node; they may be carried out at once
	Why   string // why there are no more than these
}

// Offer is what a target is told about a process that somebody wants to send to it.
type Offer struct {
	Process  id.Process
	From     id.Node
	Load     float64 // of the source, counting the process
	CPUs     float64 // of the source
	Speed    float64 // of the source
	Ready    float64 // what the process adds, in ready tasks
	Bytes    uint64
	Explicit bool // somebody ordered this move: whether it helps is not asked
	Birth    bool // it has not begun yet
	Booked   bool `json:"-"` // the target has said yes before, and knows it itself: whether it helps is not asked again
	Relief   bool // memory is short at the source: whether its processor helps is not asked
}

// Answer to an offer. Its numbers are news for the source, whichever way it went.
type Answer struct {
	OK  bool
	Why string
	// Load that the target exports, with this process if it was accepted.
	Load    float64
	There   float64 // slowdown that the process would have
	MemFree uint64  // bytes, without what was promised
}

// Policy decides.
type Policy interface {
	Name() string
	// Decide is called once per period. It changes nothing; what comes of its moves it learns by the next view.
	Decide(v View, now time.Duration, rng *rand.Rand) Decision
}

// Birth is a process that is about to begin, at its home or elsewhere.
type Birth struct {
	Life   time.Duration      // CPU time that it is expected to use
	Bytes  uint64             // memory that it is expected to need
	Cost   time.Duration      // of beginning elsewhere
	Talk   float64            // as a Candidate's
	Barred map[id.Node]string // as a Candidate's
}

// Told is what a node has answered.
type Told struct {
	Node   id.Node
	Answer Answer
}

// Placement says where a process begins, or whom to ask before that is known.
type Placement struct {
	Ask  []id.Node
	To   id.Node // "": at home
	Done bool    // To is decided; otherwise the nodes in Ask are asked, and then the policy again
	Why  string
}

// Placer is a policy that chooses where a process begins.
type Placer interface {
	// Place is called with what has been told up to now, until it is done.
	Place(v View, b Birth, told []Told, now time.Duration, rng *rand.Rand) Placement
}

// Puller is a policy by which idle nodes ask for work.
type Puller interface {
	// Pull names the nodes to ask: none unless this node is idle.
	Pull(v View, now time.Duration, rng *rand.Rand) []id.Node
	// Give chooses what to send to the idle node asker, or says why nothing.
	Give(v View, asker Node, now time.Duration, rng *rand.Rand) (Move, string)
}

// Choose returns which of the answers is the best place, or -1 where all have refused.
func Choose(told []Told) int {
	best := -1
	for i, x := range told {
		if x.Answer.OK && (best < 0 || x.Answer.There < told[best].Answer.There) {
			best = i
		}
	}
	return best
}

// policies is the list of all policies. A policy is added here, and has a file of its own.
func policies() []Policy {
	return []Policy{None{}, NewRandom(), NewMosix(), NewHBD(), NewOpportunity(), NewDefault()}
}

// ByName returns the policy of that name.
func ByName(name string) (Policy, error) {
	for _, p := range policies() {
		if p.Name() == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("policy %q is not known: want one of %s", name, strings.Join(Names(), ", "))
}

// Names lists the policies, in the order in which help texts show them.
func Names() []string {
	var names []string
	for _, p := range policies() {
		names = append(names, p.Name())
	}
	return names
}
