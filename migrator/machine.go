package migrator

import (
	"fmt"
	"time"
)

// State is where one end of a move stands.
type State string

// States of both ends.
const (
	Offered   State = "Offered"
	Preparing State = "Preparing"
	Copying   State = "Copying"
	Frozen    State = "Frozen"
	Finishing State = "Finishing"
	Parking   State = "Parking"
	Parked    State = "Parked"
	Committed State = "Committed"
	Gone      State = "Gone"   // source: the process runs at the target
	Stayed    State = "Stayed" // source: the process runs on here
	Building  State = "Building"
	Complete  State = "Complete"
	Running   State = "Running"
	Dropped   State = "Dropped" // target: nothing is left here
)

// Event is what happens to an end.
type Event string

// Events.
const (
	Accepted Event = "Accepted" // the target has reserved a place
	Refused  Event = "Refused"
	Prepared Event = "Prepared" // the empty process stands
	Froze    Event = "Froze"    // every thread is held
	SentAll  Event = "SentAll"  // the image is on its way
	BeReady  Event = "Ready"    // the target needs only Run
	DidPark  Event = "DidPark"  // the source's copy cannot run by itself any more
	DoCommit Event = "Commit"   // sent by the source, received by the target
	IsRun    Event = "Running"  // the target has let it run
	Lost     Event = "Lost"     // the connection is gone
	Failed   Event = "Failed"   // something went wrong here
	DoAbort  Event = "Abort"    // the other end gives up
	LeaseEnd Event = "LeaseEnd" // the time is over within which the target may run without being heard of
	GotFinal Event = "Final"
)

// Action is what an end does because of an event.
type Action string

// Actions.
const (
	Go      Action = "go"      // on with the next step
	Release Action = "release" // source: let the held process run on here
	Unpark  Action = "unpark"  // source: make the shadow be the process again
	Wait    Action = "wait"    // source: it may run there; until the lease ends nobody knows
	Discard Action = "discard" // target: end what was built
	Ignore  Action = "ignore"
)

type rule struct {
	to State
	do Action
}

type key struct {
	at State
	ev Event
}

// sourceRules is the whole of what a source can go through. A pair that is not here is a fault of the peer or of ours: Abort
// before Commit, silence after it.
var sourceRules = map[key]rule{
	{Offered, Accepted}:   {Preparing, Go},
	{Offered, Refused}:    {Stayed, Ignore},
	{Preparing, Prepared}: {Copying, Go},
	{Copying, Froze}:      {Frozen, Go},
	{Frozen, SentAll}:     {Finishing, Go},
	{Finishing, BeReady}:  {Parking, Go},
	{Parking, DidPark}:    {Parked, Go},
	{Parked, DoCommit}:    {Committed, Go},
	{Committed, IsRun}:    {Gone, Go},

	{Committed, Lost}:     {Committed, Wait},
	{Committed, Failed}:   {Committed, Wait},
	{Committed, DoAbort}:  {Stayed, Unpark}, // the target says that it came too late: it has discarded its copy
	{Committed, LeaseEnd}: {Stayed, Unpark},
}

var targetRules = map[key]rule{
	{Offered, Accepted}:  {Building, Go},
	{Offered, Refused}:   {Dropped, Ignore},
	{Building, GotFinal}: {Building, Go},
	{Building, BeReady}:  {Complete, Go},
	{Complete, DoCommit}: {Running, Go},
}

func init() {
	for _, s := range []State{Offered, Preparing, Copying} {
		for _, e := range []Event{Lost, Failed, DoAbort} {
			sourceRules[key{s, e}] = rule{Stayed, Release}
		}
	}
	for _, s := range []State{Frozen, Finishing, Parking} {
		for _, e := range []Event{Lost, Failed, DoAbort} {
			sourceRules[key{s, e}] = rule{Stayed, Release}
		}
	}
	for _, e := range []Event{Lost, Failed, DoAbort} {
		sourceRules[key{Parked, e}] = rule{Stayed, Unpark}
		for _, s := range []State{Offered, Building, Complete} {
			targetRules[key{s, e}] = rule{Dropped, Discard}
		}
	}
	targetRules[key{Complete, LeaseEnd}] = rule{Dropped, Discard}
}

// End is one end of a move.
type End struct {
	State State
	rules map[key]rule
	ready time.Duration // when the target said Ready
	lease time.Duration
}

// NewSource and NewTarget begin a move.
func NewSource() *End { return &End{State: Offered, rules: sourceRules} }

// NewTarget is the receiving end; its copy may run only if Commit comes within lease of its saying Ready.
func NewTarget(lease time.Duration) *End {
	return &End{State: Offered, rules: targetRules, lease: lease}
}

// On says what to do about ev at the time now, on any clock that does not stand still.
func (e *End) On(ev Event, now time.Duration) (Action, error) {
	if ev == DoCommit && e.State == Complete && now-e.ready >= e.lease {
		ev = LeaseEnd
	}
	r, ok := e.rules[key{e.State, ev}]
	if !ok {
		return Ignore, fmt.Errorf("a move in state %s met %s, which cannot be", e.State, ev)
	}
	if ev == BeReady {
		e.ready = now
	}
	e.State = r.to
	return r.do, nil
}

// Margin is what the source waits beyond the target's lease: for clocks that run apart, and for the keeper's turn.
const Margin = time.Second

// Round is what one round of copying did.
type Round struct {
	Bytes uint64        // sent
	Took  time.Duration // from its scan to its acknowledgement
}

// Written is how many bytes per second were written while rounds were sent: each but the first sends what was written during the one
// before. 0 where there was no second one.
func Written(done []Round) float64 {
	var bytes uint64
	var took time.Duration
	for i := 1; i < len(done); i++ {
		bytes += done[i].Bytes
		took += done[i-1].Took
	}
	if took <= 0 {
		return 0
	}
	return float64(bytes) / took.Seconds()
}

// NextRound decides whether another round before the freeze pays: as long as each round is clearly smaller than the last, and
// what would be left for the freeze is worth it. It returns the reason in words.
func NextRound(done []Round, limit int) (bool, string) {
	n := len(done)
	if n == 0 {
		return limit > 0, "the first round"
	}
	last := done[n-1]
	const small = 512 << 10
	switch {
	case n >= limit:
		return false, fmt.Sprintf("%d rounds are the limit", limit)
	case n > 1 && last.Bytes <= small:
		return false, fmt.Sprintf("only %d KiB were written during the last round", last.Bytes>>10)
	case n > 2 && last.Bytes*10 > done[n-2].Bytes*8:
		return false, fmt.Sprintf("the last round sent %d KiB, the one before it %d: it writes as fast as we copy", last.Bytes>>10, done[n-2].Bytes>>10)
	}
	return true, "less was written than copied"
}
