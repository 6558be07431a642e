package api

import (
	"mosix/internal/id"
	"mosix/internal/image"
)

// Why a move was begun: values of Move.Cause.
const (
	CauseCommand  = "command"   // mosixctl migrate, run or bench
	CauseBalancer = "balancer"  // the policy decided
	CauseComeHome = "come-home" // the guest asked for something that only home can do
	CauseOwner    = "owner"     // the owner of the host came back
	CauseShutdown = "shutdown"  // an agent ends and sends guests away, or brings its own home
)

// Moves answers GET /v1/moves: the latest moves, oldest first, that processes made whose home is this node. An agent
// remembers at least the last 1000.
type Moves struct {
	Moves []Move `json:"moves"`
}

// Move is one move that has ended, also when it was refused by the other side or failed.
type Move struct {
	PID         id.HomePID     `json:"pid"`
	Home        id.Node        `json:"home"`
	From        id.Node        `json:"from"`
	To          id.Node        `json:"to"`
	Cause       string         `json:"cause"`
	Result      string         `json:"result"`
	Strategy    string         `json:"strategy"`
	Epoch       id.Epoch       `json:"epoch"` // after the move
	FreezeMS    float64        `json:"freeze_ms"`
	TotalMS     float64        `json:"total_ms"`
	Bytes       uint64         `json:"bytes"`
	Rounds      int            `json:"rounds"`
	Refusals    image.Refusals `json:"refusals"`
	Error       string         `json:"error,omitempty"`
	EndedUnixMS int64          `json:"ended_unix_ms"`
}
