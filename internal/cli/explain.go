package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/node/api"
)

func (a *app) explainCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "explain PID",
		Short: "Say whether a process may move, and every reason why not",
		Long:  "Say whether a process may move, by your command and by the balancer, and every reason why not. The process is not touched.",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			pid, home, err := id.ParsePID(args[0])
			if err != nil {
				return exitWith(ExitUsage, err)
			}
			e, err := a.client().Explain(c.Context(), pid, home)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(e)
			}
			return a.printExplanation(e)
		},
	})
}

func (a *app) printExplanation(e api.Explanation) error {
	p := e.Process
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  %s\n", id.Process{Home: p.Home, PID: p.PID}, printable(p.User), cut(printable(command(p)), max(a.width-20, 0)))
	fmt.Fprintf(&b, "runs on    %s (%s), %s so far\n", p.Where, processState(p), count(p.Moves, "move"))
	fmt.Fprintf(&b, "uses       %s of CPU time, %s of memory, %s\n", humanCPU(p.CPUSeconds), humanBytes(p.RSSBytes), count(p.Threads, "thread"))
	yes := "may move by your command"
	if len(e.Family) > 0 {
		yes += fmt.Sprintf(", together with %s", listPIDs(e.Family))
	}
	verdict(&b, "command    ", yes, e.Movable, e.Refusals)
	verdict(&b, "balancer   ", "would be moved by the balancer if that pays", e.Candidate, e.Unfit)
	_, err := fmt.Fprint(a.out, b.String())
	return err
}

func listPIDs(pids []id.HomePID) string {
	var words []string
	for _, p := range pids {
		words = append(words, fmt.Sprint(p))
	}
	return strings.Join(words, ", ")
}

func verdict(b *strings.Builder, head, yes string, ok bool, why image.Refusals) {
	switch {
	case ok:
		fmt.Fprintf(b, "%syes: %s\n", head, yes)
	case len(why) == 0:
		fmt.Fprintf(b, "%sno\n", head)
	default:
		fmt.Fprintf(b, "%sno: %s\n", head, count(len(why), "reason"))
	}
	for _, r := range why {
		fmt.Fprintf(b, "           - %s\n", printable(r.String()))
	}
}
