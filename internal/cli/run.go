package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/id"
	"mosix/internal/require"
	"mosix/node/api"
)

// moverName is the hidden command that asks for the move of what run has become.
const moverName = "run-mover"

func (a *app) runCommand() *cobra.Command {
	var w wish
	c := &cobra.Command{
		Use:   "run [--on NODE|home|best] [--select CONDITION] [--order NUMBERS] -- COMMAND [ARGUMENT]...",
		Short: "Run a command where it does best, or on a node of your choice",
		Long: `Run a command here, and move it as soon as it runs. mosixctl becomes the command, so PID, terminal, job control, signals
and exit status are the command's own. Where it may not move it goes on here, and the reasons are on standard error.

Without --on the balancing policy chooses where it begins, by what past processes of the same program have used; later it may move on.
With --on home it begins here, and the balancer moves it if that pays.

--select says which nodes it may run on, now and later, and --order which of them it begins on: the first of what --order
names is smallest. Conditions know the numbers ` + strings.Join(require.Names(), ", ") + ` (mem is free memory),
name, feature("avx512f"), tag("lab"), and the external indices of the nodes; sizes have units.

Exit status: the command's own; 125 if it was not started, 126 if it cannot be executed, 127 if it was not found.`,
		Example: `  mosixctl run --on n2 -- make -j4
  mosixctl run -- ./simulate --steps 1e9
  mosixctl run --select 'cpus >= 4 && mem >= 8GiB && feature("avx512f") && tag("lab")' --order 'load, -mem' -- ./simulate`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.become(c.Context(), w, args)
		},
	}
	c.Flags().SetInterspersed(false)
	c.Flags().StringVar(&w.on, "on", "", "node to move it to, "+api.ToHome+" or "+api.ToBest)
	c.Flags().StringVar(&w.sel, "select", "", "condition for the nodes that it may run on")
	c.Flags().StringVar(&w.order, "order", "", "numbers by which the node is chosen, the smallest first")
	c.MarkFlagsMutuallyExclusive("on", "select")
	c.MarkFlagsMutuallyExclusive("on", "order")
	c.Flags().BoolVar(&w.allowPrivileged, "allow-privileged", false, "move it also if it is root's (root only): the host computes with its rights")
	_ = c.RegisterFlagCompletionFunc("on", func(c *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return append(a.completeNodes(c), api.ToHome, api.ToBest), cobra.ShellCompDirectiveNoFileComp
	}) // fails only if the flag does not exist
	return c
}

// wish is where somebody wants a command to run.
type wish struct {
	on, sel, order  string
	allowPrivileged bool
}

// become replaces mosixctl by the command; it returns only if that did not happen. A helper that is nobody's child here asks
// for the move: a child of ours would become a child that the command never started.
func (a *app) become(ctx context.Context, w wish, args []string) error {
	path, err := exec.LookPath(args[0])
	switch {
	case errors.Is(err, fs.ErrPermission):
		return exitWith(ExitNotExecutable, fmt.Errorf("run %s: %w", args[0], err))
	case err != nil && !errors.Is(err, exec.ErrDot):
		return exitWith(ExitNotFound, fmt.Errorf("run: %w", err))
	}
	on := w.on
	if on == "" {
		if on, err = a.placed(ctx, w, path); err != nil {
			return exitWith(ExitNotStarted, fmt.Errorf("run: %w", err))
		}
	} else if on != api.ToHome {
		if err := a.checkTarget(ctx, on); err != nil {
			return exitWith(ExitNotStarted, fmt.Errorf("run --on %s: %w", on, err))
		}
	}
	if on == api.ToHome {
		return notExecuted(path, syscall.Exec(path, args, os.Environ()))
	}
	r, gate, err := os.Pipe() // w closes when the command is executed
	if err != nil {
		return exitWith(ExitNotStarted, fmt.Errorf("run: %w", err))
	}
	mover := exec.Command("/proc/self/exe", "--socket", a.socket, moverName, "--allow-privileged="+strconv.FormatBool(w.allowPrivileged),
		"--started=false", "--", strconv.Itoa(os.Getpid()), on, args[0])
	mover.Stderr = os.Stderr
	mover.ExtraFiles = []*os.File{r}
	if err := mover.Run(); err != nil {
		return exitWith(ExitNotStarted, fmt.Errorf("run: start the helper that asks for the move: %w", err))
	}
	err = syscall.Exec(path, args, os.Environ())
	_, _ = gate.Write([]byte{'x'}) // the helper need not ask; if it is gone it will not
	return notExecuted(path, err)
}

// placed asks the agent where the command begins. Without an agent, and without a condition, that is here.
func (a *app) placed(ctx context.Context, w wish, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if file, err := filepath.EvalSymlinks(path); err == nil {
		path = file
	}
	p, err := a.client().Place(ctx, api.PlaceRequest{PID: id.HomePID(os.Getpid()), Program: path, Select: w.sel, Order: w.order})
	switch {
	case err != nil && w.sel == "" && w.order == "":
		return api.ToHome, nil
	case err != nil:
		return "", err
	case p.To == "":
		return api.ToHome, nil
	}
	return string(p.To), nil
}

func notExecuted(path string, err error) error {
	code := ExitNotExecutable
	if errors.Is(err, fs.ErrNotExist) {
		code = ExitNotFound
	}
	return exitWith(code, fmt.Errorf("run %s: %w", path, err))
}

// checkTarget finds out before the command starts what would only be noticed afterwards.
func (a *app) checkTarget(ctx context.Context, on string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	st, err := a.client().Status(ctx)
	if err != nil || on == api.ToBest {
		return err
	}
	i := slices.IndexFunc(st.Nodes, func(n api.Node) bool { return string(n.Name) == on })
	switch {
	case i < 0:
		return errors.New("this node knows no node of that name; mosixctl status lists them")
	case st.Nodes[i].State != api.NodeAlive:
		return fmt.Errorf("that node is %s; mosixctl status lists them", st.Nodes[i].State)
	}
	return nil
}

func (a *app) moverCommand() *cobra.Command {
	var started, allowPrivileged bool
	c := &cobra.Command{
		Use:    moverName + " PID NODE NAME",
		Short:  "Ask for the move of a process that is about to be executed (used by run)",
		Hidden: true,
		Args:   cobra.ExactArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			pid, _, err := id.ParsePID(args[0])
			if err != nil {
				return exitWith(ExitUsage, err)
			}
			gate := os.NewFile(3, "gate")
			if started {
				return a.move(c.Context(), pid, args[1], args[2], allowPrivileged, gate, moverPatience)
			}
			// A second generation, in a session of its own, so that neither the command's wait() nor its terminal sees it.
			next := exec.Command("/proc/self/exe", "--socket", a.socket, moverName, "--allow-privileged="+strconv.FormatBool(allowPrivileged),
				"--started=true", "--", args[0], args[1], args[2])
			next.Stderr = os.Stderr
			next.ExtraFiles = []*os.File{gate}
			next.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			return next.Start()
		},
	}
	c.Flags().BoolVar(&started, "started", false, "this is the second generation")
	c.Flags().BoolVar(&allowPrivileged, "allow-privileged", false, "see run")
	return c
}

// How long and how often the mover asks while the command starts: it may be refused while it still maps its libraries. A move
// that fails is not going to be refused any more; it is tried a few times.
const (
	moverPatience = 5 * time.Second
	moverPause    = 100 * time.Millisecond
	moverFailures = 3
)

// move waits until process pid is executed, which closes the gate, and moves it.
func (a *app) move(ctx context.Context, pid id.HomePID, to, name string, allowPrivileged bool, gate io.Reader, patience time.Duration) error {
	p, err := os.FindProcess(int(pid)) // a pidfd: the number cannot become another process's meanwhile
	if err != nil {
		return nil // it has ended: nothing to move and nothing to say
	}
	defer p.Release()
	if n, _ := gate.Read(make([]byte, 1)); n > 0 {
		return nil // not executed, which mosixctl run itself tells
	}
	failures := 0
	for begin := time.Now(); ; time.Sleep(moverPause) {
		if errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone) {
			return nil
		}
		res, err := migrate(a.client().Migrate(ctx, api.MigrateRequest{PID: pid, To: to, AllowPrivileged: allowPrivileged, Strategy: api.Precopy}))
		if err == nil && res.Result == api.ResultMoved {
			return nil
		}
		if err == nil && res.Result == api.ResultFailed {
			failures++
		}
		if err == nil && time.Since(begin) < patience && failures < moverFailures {
			continue
		}
		if errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone) {
			return nil
		}
		fmt.Fprintf(a.err, "mosixctl: %s (%d) goes on here and was not moved to %s\n", printable(name), pid, to)
		switch {
		case err != nil:
			fmt.Fprintln(a.err, "  -", err)
		case res.Result == api.ResultRefused:
			a.printRefusals(res.Refusals, "  - ")
		default:
			fmt.Fprintln(a.err, "  -", printable(res.Error))
		}
		return nil
	}
}
