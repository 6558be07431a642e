package cli

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/node/api"
	"mosix/node/control"
)

func (a *app) migrateCommand() *cobra.Command {
	var allowPrivileged bool
	strategy := api.Precopy
	c := a.jsonFlag(&cobra.Command{
		Use:   "migrate PID NODE|home|best",
		Short: "Move a process to another node, or home",
		Long: `Move a process, with all its threads, to a node, to its home, or to the node that suits it best, and wait until it runs
there. PID is the number that the process has at home; 4711@n3 names a guest whose home is n3. Whoever could trace the
process may move it. A process that may not move is not touched.

Exit status: 0 only if it moved, 3 if it was refused, 1 if the move failed and it runs on where it was.`,
		Example: "  mosixctl migrate 4711 n2\n  mosixctl migrate 4711 home",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			pid, home, err := id.ParsePID(args[0])
			if err != nil {
				return exitWith(ExitUsage, err)
			}
			if strategy != api.Precopy && strategy != api.StopAndCopy {
				return usagef("--strategy %s: want %s or %s", strategy, api.Precopy, api.StopAndCopy)
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			res, err := migrate(a.client().Migrate(ctx, api.MigrateRequest{
				PID: pid, Home: home, To: args[1], AllowPrivileged: allowPrivileged, Strategy: strategy,
			}))
			if err != nil {
				return err
			}
			if res.PID == 0 { // the agent said why not before it looked at the process
				res.PID, res.Home, res.Strategy = pid, home, strategy
			}
			return a.printMigrate(res)
		},
	})
	c.Flags().BoolVar(&allowPrivileged, "allow-privileged", false, "move it also if it is root's or has capabilities (root only): the host computes with its rights")
	c.Flags().StringVar(&strategy, "strategy", strategy, api.Precopy+" copies memory while the process runs; "+api.StopAndCopy+" while it is stopped")
	c.ValidArgsFunction = a.completeMigrate
	return c
}

// migrate makes a result of those answers of the agent that say no without one, so that programs always read a result.
func migrate(res api.MigrateResult, err error) (api.MigrateResult, error) {
	var answer *control.AnswerError
	if !errors.As(err, &answer) {
		return res, err
	}
	res = api.MigrateResult{Result: api.ResultFailed, Error: answer.Message, Refusals: image.Refusals{}}
	if answer.Code == http.StatusForbidden {
		res.Result, res.Error = api.ResultRefused, ""
		res.Refusals = image.Refusals{{What: "not-permitted", Why: answer.Message}}
	}
	return res, nil
}

func (a *app) printMigrate(res api.MigrateResult) error {
	if a.json {
		if err := a.printJSON(res); err != nil {
			return err
		}
	}
	process := id.Process{Home: res.Home, PID: res.PID}.String()
	if res.Home == "" {
		process = fmt.Sprint(res.PID)
	}
	switch res.Result {
	case api.ResultMoved:
		if a.json {
			return nil
		}
		_, err := fmt.Fprintf(a.out, "%s moved from %s to %s: frozen for %s, %s in all, %s in %s\n", process, res.From, res.To,
			humanMS(res.FreezeMS), humanMS(res.TotalMS), humanBytes(res.Bytes), count(res.Rounds, "round"))
		return err
	case api.ResultRefused:
		if !a.json {
			fmt.Fprintf(a.err, "mosixctl: %s stays where it is and was not touched: %s\n", process, count(len(res.Refusals), "reason"))
			a.printRefusals(res.Refusals, "  - ")
		}
		return exitWith(ExitRefused, nil)
	}
	if a.json {
		return exitWith(ExitFailed, nil)
	}
	return fmt.Errorf("move %s: %s", process, res.Error)
}

func (a *app) printRefusals(rs image.Refusals, indent string) {
	for _, r := range rs {
		fmt.Fprintln(a.err, indent+printable(r.String()))
	}
}

// completeMigrate offers the user's processes, then the nodes.
func (a *app) completeMigrate(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var out []cobra.Completion
	switch len(args) {
	case 0:
		ps, err := a.client().Processes(c.Context(), false)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		for _, p := range ps.Processes {
			if !p.Hidden {
				out = append(out, cobra.CompletionWithDesc(fmt.Sprint(p.PID), printable(p.Command)))
			}
		}
	case 1:
		out = append(a.completeNodes(c), api.ToHome, api.ToBest)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeNodes(c *cobra.Command) []cobra.Completion {
	st, err := a.client().Status(c.Context())
	if err != nil {
		return nil
	}
	var out []cobra.Completion
	for _, n := range st.Nodes {
		if n.State == api.NodeAlive {
			out = append(out, cobra.CompletionWithDesc(string(n.Name), fmt.Sprintf("load %.2f", n.Load)))
		}
	}
	return out
}
