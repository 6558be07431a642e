package api

import "mosix/internal/id"

// Values of OwnerRequest.Op.
const (
	OpBlock    = "block"    // take no guests
	OpUnblock  = "unblock"  // take guests again
	OpStay     = "stay"     // the balancer sends none of this node's processes away
	OpNoStay   = "nostay"   // it may again
	OpExpel    = "expel"    // send all guests home, and return when they have gone
	OpBring    = "bring"    // bring all of this node's processes home, and return when they are here
	OpLock     = "lock"     // the balancer leaves process PID where it is
	OpUnlock   = "unlock"   // it may move it again
	OpSetSpeed = "setspeed" // of a processor, 1 = standard; 0: as measured
	OpHere     = "here"     // the owner of this machine is at it, whatever is seen
	OpGone     = "gone"     // the owner is not
	OpAuto     = "auto"     // what is seen decides
	OpShow     = "show"     // nothing changes
)

// OwnerRequest is the body of POST /v1/owner.
type OwnerRequest struct {
	Op    string     `json:"op"`
	PID   id.HomePID `json:"pid,omitempty"`   // of lock and unlock
	Speed float64    `json:"speed,omitempty"` // of setspeed
}

// OwnerState answers it, also to GET /v1/owner.
type OwnerState struct {
	Node    id.Node `json:"node"`
	Blocked bool    `json:"blocked"` // by command: it takes no guests
	Stay    bool    `json:"stay"`    // the balancer sends none of its processes away
	Speed   float64 `json:"speed"`   // in force
	Owner   string  `json:"owner"`   // here, gone or auto
	Present bool    `json:"present"` // somebody is at the machine, or is said to be
	Why     string  `json:"why"`     // it is taken for so
	Guests  int     `json:"guests"`  // here now
	Away    int     `json:"away"`    // its processes elsewhere
	Moved   int     `json:"moved"`   // by this expel or bring
	Left    []Left  `json:"left"`    // what expel or bring could not move
	TookMS  float64 `json:"took_ms"`
}

// Left is a process that could not be moved.
type Left struct {
	PID  id.HomePID `json:"pid"`
	Home id.Node    `json:"home"`
	Why  string     `json:"why"`
}

// Kinds of events.
const (
	EventDecision = "decision" // the balancer decided, or has another reason for deciding nothing
	EventMove     = "move"     // one of this node's processes moved, or did not
	EventGuest    = "guest"    // a guest came, or went
	EventOwner    = "owner"    // block, expel, the owner's return, and their kin
)

// Events answers GET /v1/events?since=N: what happened after event N, oldest first. An agent remembers at least the last 1000.
type Events struct {
	Events []Event `json:"events"`
}

// Event is something that happened on this node.
type Event struct {
	Seq    uint64          `json:"seq"`
	UnixMS int64           `json:"unix_ms"`
	Kind   string          `json:"kind"`
	PID    id.HomePID      `json:"pid,omitempty"`
	Home   id.Node         `json:"home,omitempty"`
	To     id.Node         `json:"to,omitempty"`
	Text   string          `json:"text"` // in words, with numbers
	Inputs *DecisionInputs `json:"inputs,omitempty"`
}

// DecisionInputs is what a decision was made from.
type DecisionInputs struct {
	Policy    string         `json:"policy"`
	Mean      float64        `json:"mean"` // own view of the load, which rises slowly
	Load      float64        `json:"load"` // measured, with what is promised
	MemFree   uint64         `json:"mem_free_bytes"`
	Processes []ProcessInput `json:"processes"`
	Nodes     []NodeInput    `json:"nodes"`
	Pending   int            `json:"pending"` // moves under way
}

// ProcessInput is a candidate as the policy saw it.
type ProcessInput struct {
	PID        id.HomePID `json:"pid"`
	Home       id.Node    `json:"home"`
	CPUSeconds float64    `json:"cpu_seconds"`
	Ready      float64    `json:"ready"` // tasks that were ready on average over the last period
	Bytes      uint64     `json:"bytes"`
	Talk       float64    `json:"talk"` // seconds for which it would wait for home, away, per second of its computing
	Unmovable  string     `json:"unmovable,omitempty"`
}

// NodeInput is another node as the policy saw it.
type NodeInput struct {
	Name       id.Node `json:"name"`
	Exported   float64 `json:"exported"`
	Load       float64 `json:"load"`
	AgeSeconds float64 `json:"age_seconds"`
	Unfit      string  `json:"unfit,omitempty"`
}

// WhyNot answers GET /v1/why-not?pid=N: why the balancer does not move a process now, or that it would.
type WhyNot struct {
	Explanation
	Policy string          `json:"policy"`
	Would  bool            `json:"would"` // it would move it now
	To     id.Node         `json:"to,omitempty"`
	Why    string          `json:"why"`             // in words, with numbers
	Began  string          `json:"began,omitempty"` // where it began, or went on when it had just begun, and why; nothing where it was not looked at then
	Inputs *DecisionInputs `json:"inputs,omitempty"`
}

// PlaceRequest is the body of POST /v1/place: where a process is to begin that is about to execute a program.
type PlaceRequest struct {
	PID     id.HomePID `json:"pid"`
	Program string     `json:"program"`          // path of its file
	Select  string     `json:"select,omitempty"` // a condition for the node, kept for as long as the process lives
	Order   string     `json:"order,omitempty"`  // numbers: the node with the smallest is the best
}

// Placement is the answer.
type Placement struct {
	Home id.Node `json:"home"`
	To   id.Node `json:"to,omitempty"` // empty: it begins at home
	Why  string  `json:"why"`
}
