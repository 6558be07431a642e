// Package self is for programs that know of migration: where am I, move me, stay here. Its one invariant: it speaks with the agent of the
// process's home, wherever the process computes, by the control socket, and changes nothing of any other process.
//
// It works in any process of a machine with an agent; nobody needs it to be moved.
package self

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/node/api"
	"mosix/node/control"
)

// Socket is where the agent listens; MOSIX_SOCKET names another place.
const Socket = "/run/mosix/control.sock"

// ErrNoAgent says that this machine has no agent, or that it does not answer.
var ErrNoAgent = errors.New("no mosix agent answers")

// ErrStays says that the agent has refused a move; the error that wraps it says why.
var ErrStays = errors.New("the process stays")

func agent() *control.Client {
	if s := os.Getenv("MOSIX_SOCKET"); s != "" {
		return control.NewClient(s)
	}
	return control.NewClient(Socket)
}

func failed(what string, err error) error {
	if errors.Is(err, control.ErrUnreachable) {
		err = fmt.Errorf("%w (%v)", ErrNoAgent, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Where names the node on which this process computes, and its home.
func Where(ctx context.Context) (node, home string, err error) {
	a := agent()
	defer a.Close()
	e, err := a.Explain(ctx, id.HomePID(os.Getpid()), "")
	if err != nil {
		return "", "", failed("ask where this process is", err)
	}
	return string(e.Process.Where), string(e.Process.Home), nil
}

// Move moves this process to a node, and returns when it is there; Home and Best stand for nodes. Where it may not go the error wraps
// ErrStays and says why.
func Move(ctx context.Context, node string) error {
	a := agent()
	defer a.Close()
	r, err := a.Migrate(ctx, api.MigrateRequest{PID: id.HomePID(os.Getpid()), To: node})
	switch {
	case err != nil:
		return failed("move to "+node, err)
	case r.Result == api.ResultMoved || slices.ContainsFunc(r.Refusals, func(x image.Refusal) bool { return x.What == "already-there" }):
		return nil
	case r.Result == api.ResultRefused:
		return fmt.Errorf("move to %s: %w: %s", node, ErrStays, r.Refusals)
	}
	return fmt.Errorf("move to %s: %w: %s", node, ErrStays, r.Error)
}

// Names that Move takes for nodes.
const (
	Home = api.ToHome
	Best = api.ToBest
)

// Stay keeps the balancer from moving this process, until Go. Somebody's order still does.
func Stay(ctx context.Context) error { return order(ctx, api.OpLock) }

// Go lets the balancer move this process again.
func Go(ctx context.Context) error { return order(ctx, api.OpUnlock) }

func order(ctx context.Context, op string) error {
	a := agent()
	defer a.Close()
	if _, err := a.Owner(ctx, api.OwnerRequest{Op: op, PID: id.HomePID(os.Getpid())}); err != nil {
		return failed(op, err)
	}
	return nil
}
