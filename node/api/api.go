// Package api is the contract of the agent's control socket: HTTP with JSON over a unix socket. Its one invariant: names
// and meanings of fields that were released never change; fields are only added.
package api

import (
	"mosix/internal/id"
	"mosix/internal/image"
)

// Socket is where the local agent listens, unless its configuration says otherwise.
const Socket = "/run/mosix/control.sock"

// Status answers GET /v1/status.
type Status struct {
	Nodes []Node `json:"nodes"`
}

// Node is one row of mosixctl status.
type Node struct {
	Name          id.Node `json:"name"`
	ID            string  `json:"id"` // libp2p peer id
	Address       string  `json:"address"`
	State         string  `json:"state"` // alive suspect dead left
	Self          bool    `json:"self"`
	Load          float64 `json:"load"` // ready processes per unit of capacity
	CPUs          float64 `json:"cpus"` // the quota where there is one
	Speed         float64 `json:"speed"`
	MemTotalBytes uint64  `json:"mem_total_bytes"`
	MemFreeBytes  uint64  `json:"mem_free_bytes"`
	Guests        int     `json:"guests"`
	Away          int     `json:"away"`
	AgeSeconds    float64 `json:"age_seconds"`
	// What its processor lacks of what this node's has: nothing that may have found it here moves there. And what it has beyond.
	CPUModel    string   `json:"cpu_model"`
	CPULacks    []string `json:"cpu_lacks"`
	CPUAlsoHas  []string `json:"cpu_also_has"`
	OtherKernel bool     `json:"other_kernel"` // another build: processes take this one's vDSO along
}

// Processes answers GET /v1/processes[?all=1].
type Processes struct {
	Processes []Process `json:"processes"`
}

// Process is one row of mosixctl ps: a process whose home is this node, or a guest of this node.
type Process struct {
	PID        id.HomePID `json:"pid"`
	Home       id.Node    `json:"home"`
	Where      id.Node    `json:"where"`
	User       string     `json:"user"`
	Command    string     `json:"command"`
	State      string     `json:"state"` // home moving away
	CPUSeconds float64    `json:"cpu_seconds"`
	RSSBytes   uint64     `json:"rss_bytes"`
	Threads    int        `json:"threads"`
	Moves      int        `json:"moves"`
	Epoch      id.Epoch   `json:"epoch"`
	Locked     bool       `json:"locked"`
	// Of one that is away, since it is on its host: what it asks of home, and the seconds that it waits for it per second of computing.
	ForwardedCalls uint64  `json:"forwarded_calls"`
	ForwardedBytes uint64  `json:"forwarded_bytes"`
	Talk           float64 `json:"talk"`
	// Bytes per second that it wrote to its memory while it was copied for its last move from home; 0: not known.
	WrittenPerSecond float64        `json:"written_per_second"`
	Refusals         image.Refusals `json:"refusals"`
	Hidden           bool           `json:"hidden,omitempty"` // another user's: the command and the evidence were taken out
}

// MigrateRequest is the body of POST /v1/migrate.
type MigrateRequest struct {
	PID             id.HomePID `json:"pid"`
	Home            id.Node    `json:"home,omitempty"` // empty: this node
	To              string     `json:"to"`             // a node's name, "home" or "best"
	AllowPrivileged bool       `json:"allow_privileged,omitempty"`
	Strategy        string     `json:"strategy,omitempty"` // "precopy" (default) or "stop-and-copy"
}

// MigrateResult answers it, also when the move was refused (HTTP 409) or failed (HTTP 502).
type MigrateResult struct {
	PID      id.HomePID     `json:"pid"`
	Home     id.Node        `json:"home"`
	From     id.Node        `json:"from"`
	To       id.Node        `json:"to"`
	Result   string         `json:"result"` // moved refused failed
	Strategy string         `json:"strategy"`
	FreezeMS float64        `json:"freeze_ms"`
	TotalMS  float64        `json:"total_ms"`
	Bytes    uint64         `json:"bytes"`
	Rounds   int            `json:"rounds"`
	Refusals image.Refusals `json:"refusals"`
	Error    string         `json:"error,omitempty"` // why it failed
}

// Explanation answers GET /v1/explain?pid=N: everything that is known about whether PID may move.
type Explanation struct {
	Process   Process        `json:"process"`
	Movable   bool           `json:"movable"`          // by an explicit command of the asking user
	Candidate bool           `json:"candidate"`        // by the balancer, now
	Refusals  image.Refusals `json:"refusals"`         // why not movable; of one that moves only together with others, why not by itself
	Family    []id.HomePID   `json:"family,omitempty"` // the others of its home that move together with it
	Unfit     image.Refusals `json:"unfit"`            // why not a candidate, though movable
}

// Error is the body of every answer with a status of 400 or more that is not a MigrateResult.
type Error struct {
	Error string `json:"error"`
}
