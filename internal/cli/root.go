// Package cli is mosixctl. Its one invariant: everything that a command knows can also be had as JSON, under the names of
// node/api, and the exit status says the same as the words.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"mosix/node/api"
	"mosix/node/control"
)

// app holds what the commands share.
type app struct {
	socket string // --socket
	json   bool   // --json, of the command that runs
	in     io.Reader
	out    io.Writer
	err    io.Writer
	width  int // columns of the terminal; 0: do not cut lines

	mu     sync.Mutex
	shared *control.Client // of socket
}

// Main runs mosixctl with the arguments after its name and returns the exit status.
func Main(args []string) int {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, width: terminalWidth(os.Stdout)}
	return a.run(args)
}

func (a *app) run(args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.Execute()
	var exit *exitError
	if err != nil && (!errors.As(err, &exit) || exit.err != nil) {
		fmt.Fprintln(a.err, "mosixctl:", err)
	}
	code := status(err)
	if code == ExitUsage {
		fmt.Fprintln(a.err, "Try 'mosixctl --help'.")
	}
	return code
}

// root makes the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mosixctl",
		Short: "Look at a mosix cluster and move processes in it",
		Long: `mosixctl talks to the mosix agent of this machine. Every running program can continue on another node of the
cluster and goes on as if it had never left: same PID, terminal, files, sockets and output.

Exit status: 0 done, 1 failed, 2 wrong command line, 3 refused (the process may not move and was not touched),
4 no agent answers. run passes on the status of its command.`,
		SilenceUsage: true, SilenceErrors: true,
		Version: version().Version,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.socket, "socket", api.Socket, "control socket of the agent")
	root.AddCommand(
		a.statusCommand(), a.psCommand(), a.movesCommand(), a.migrateCommand(), a.runCommand(), a.moverCommand(), a.explainCommand(),
		a.checkCommand(), a.simCommand(), a.benchCommand(), a.benchLoadCommand(), a.benchJobsCommand(), a.demoCommand(), a.demoNodeCommand(), a.demoLoadCommand(),
		a.docsCommand(), a.versionCommand(), labCommand(), labInitCommand(), clusterCommand(),
	)
	root.AddCommand(a.eventsCommand(), a.whyNotCommand())
	root.AddCommand(a.ownerCommands()...)
	markRun(root)
	return root
}

// markRun tells errors of commands that ran from those that cobra finds in the command line.
func markRun(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			if err := run(c, args); err != nil {
				return runError{err}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		markRun(sub)
	}
}

// jsonFlag gives a command --json.
func (a *app) jsonFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "print JSON for programs")
	return c
}

// client is the one client of this command: the agent limits how many connections a user has, and each client keeps its own.
func (a *app) client() *control.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shared == nil {
		a.shared = control.NewClient(a.socket)
	}
	return a.shared
}

// printJSON writes v for programs: one line of JSON if it is to be read by a program, indented if by a person.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	if a.width > 0 {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// interruptible is a context that ends with Ctrl-C or SIGTERM, for commands that wait.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	if parent == nil {
		parent = context.Background()
	}
	return signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}
