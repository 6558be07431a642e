// Package control serves the agent's control socket, and is its client: HTTP with JSON over a unix socket. Its one
// invariant: every request is answered for the user whom the kernel names at the other end of the socket, never for whom
// the request names, and no answer shows that user the command of another, unless the user is root.
package control

import (
	"context"
	"errors"
	"slices"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/node/api"
)

// Asker is who sent a request, as the kernel says it (SO_PEERCRED, SO_PEERGROUPS) at the moment of connect.
type Asker struct {
	UID    uint32
	GID    uint32
	PID    int32    // in the agent's PID namespace; 0 when the asker lives in one that the agent cannot see
	Groups []uint32 // supplementary
}

// Root says whether the asker is root.
func (a Asker) Root() bool { return a.UID == 0 }

// InGroup says whether gid is one of the asker's groups.
func (a Asker) InGroup(gid uint32) bool { return a.GID == gid || slices.Contains(a.Groups, gid) }

// NoOwner is the UID of a process whose user means nothing on this node: a guest from a home with users of its own. Only
// root sees its command.
const NoOwner = ^uint32(0)

// Process is a row of the process table with its owner. The server takes command and evidence out of the rows of others.
type Process struct {
	UID uint32
	api.Process
}

// Explanation is an explanation with the owner of the process.
type Explanation struct {
	UID uint32
	api.Explanation
}

// Move is a move that has ended, with the owner of the process.
type Move struct {
	UID uint32
	api.Move
}

// Backend is the agent behind the socket. Its methods are called concurrently. A context ends when the asker hangs up or the
// server shuts down; a move that has passed its point of no return goes on regardless.
type Backend interface {
	// Status is everything that this node knows about the cluster; everybody may read it.
	Status(ctx context.Context) (api.Status, error)

	// Processes lists the processes whose home is this node and that are candidates, moving or away, and all guests. With
	// all, also those that are no candidates.
	Processes(ctx context.Context, asker Asker, all bool) ([]Process, error)

	// Migrate moves one process and returns when the move has ended. Refused and failed moves are results, not errors. The
	// backend decides whether the asker could trace the process; the server has only checked that req is well formed and
	// that AllowPrivileged comes from root.
	Migrate(ctx context.Context, asker Asker, req api.MigrateRequest) (api.MigrateResult, error)

	// Explain says everything that is known about whether a process may move for this asker, without touching it. An empty
	// home is this node.
	Explain(ctx context.Context, asker Asker, pid id.HomePID, home id.Node) (Explanation, error)

	// Owner does what the owner of this machine, or its administrator, wants. The server has only checked that root asks for what root alone may.
	Owner(ctx context.Context, asker Asker, req api.OwnerRequest) (api.OwnerState, error)

	// Events lists what happened on this node after event since, oldest first.
	Events(ctx context.Context, asker Asker, since uint64) (api.Events, error)

	// WhyNot says why the balancer does not move a process now.
	WhyNot(ctx context.Context, asker Asker, pid id.HomePID) (WhyNot, error)

	// Place says where a process is to begin that is about to execute a program. The backend decides whether it is the asker's.
	Place(ctx context.Context, asker Asker, req api.PlaceRequest) (api.Placement, error)

	// Moves lists the latest moves of processes whose home is this node, oldest first.
	Moves(ctx context.Context, asker Asker) ([]Move, error)
}

// WhyNot is an explanation with what the policy says.
type WhyNot struct {
	Explanation
	Policy string
	Would  bool
	To     id.Node
	Why    string
	Began  string
	Inputs *api.DecisionInputs
}

// Errors that a Backend wraps to choose the status of the answer. Any other error is an Internal Server Error.
var (
	ErrNoProcess   = errors.New("no such process")      // 404
	ErrNoNode      = errors.New("no such node")         // 404
	ErrForbidden   = errors.New("not permitted")        // 403
	ErrInvalid     = errors.New("invalid request")      // 400
	ErrUnavailable = errors.New("agent is not able to") // 503: starting, or shutting down
)

func (a Asker) mayRead(owner uint32) bool { return a.Root() || (owner != NoOwner && a.UID == owner) }

func (a Asker) processes(in []Process) api.Processes {
	out := api.Processes{Processes: make([]api.Process, 0, len(in))}
	for _, p := range in {
		out.Processes = append(out.Processes, a.process(p.UID, p.Process))
	}
	return out
}

func (a Asker) process(owner uint32, p api.Process) api.Process {
	p.Refusals = a.refusals(owner, p.Refusals)
	if !a.mayRead(owner) {
		p.Command, p.Hidden = "", true
	}
	return p
}

func (a Asker) explanation(e Explanation) api.Explanation {
	out := e.Explanation
	out.Process = a.process(e.UID, out.Process)
	out.Refusals = a.refusals(e.UID, out.Refusals)
	out.Unfit = a.refusals(e.UID, out.Unfit)
	return out
}

func (a Asker) moves(in []Move) api.Moves {
	out := api.Moves{Moves: make([]api.Move, 0, len(in))}
	for _, m := range in {
		m.Refusals = a.refusals(m.UID, m.Refusals)
		if !a.mayRead(m.UID) {
			m.Error = ""
		}
		out.Moves = append(out.Moves, m.Move)
	}
	return out
}

// refusals copies rs without the evidence (open files, mapped files) that only the owner may see. It is never nil: programs
// get a list, not null.
func (a Asker) refusals(owner uint32, rs image.Refusals) image.Refusals {
	out := make(image.Refusals, 0, len(rs))
	for _, r := range rs {
		if !a.mayRead(owner) {
			r.Evidence = ""
		}
		out = append(out, r)
	}
	return out
}
