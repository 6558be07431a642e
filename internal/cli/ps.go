package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/image"
	"mosix/node/api"
)

func (a *app) psCommand() *cobra.Command {
	var all bool
	c := a.jsonFlag(&cobra.Command{
		Use:   "ps",
		Short: "Show the processes of this node and where they run",
		Long: `Show the processes whose home is this node and that may move, are moving or are away, and the guests of other homes that
run here. CALLS is how many calls one that is away has had made at home since it is where it is, and WAITS how long it waits for home
for each second of computing. A process that came home and stays for a while is shown as locked. Commands of other users are shown to root only.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ps, err := a.client().Processes(c.Context(), all)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(ps)
			}
			return a.printProcesses(ps, all)
		},
	})
	c.Flags().BoolVarP(&all, "all", "a", false, "also processes that the balancer would not move, with the reasons")
	return c
}

func (a *app) printProcesses(ps api.Processes, all bool) error {
	t := table{columns: []column{
		{"PID", true}, {title: "HOME"}, {title: "WHERE"}, {title: "USER"}, {title: "STATE"}, {"CPU", true}, {"RSS", true}, {"THR", true},
		{"MOVES", true}, {"CALLS", true}, {"WAITS", true},
	}}
	if all {
		t.columns = append(t.columns, column{title: "STAYS"})
	}
	t.columns = append(t.columns, column{title: "COMMAND"})
	for _, p := range ps.Processes {
		row := []string{
			strconv.Itoa(int(p.PID)), string(p.Home), string(p.Where), p.User, processState(p), humanCPU(p.CPUSeconds), humanBytes(p.RSSBytes),
			strconv.Itoa(p.Threads), strconv.Itoa(p.Moves), calls(p), waits(p),
		}
		if all {
			row = append(row, kinds(p.Refusals))
		}
		t.add(append(row, command(p))...)
	}
	return t.print(a.out, a.width)
}

func calls(p api.Process) string {
	if p.State != api.ProcessAway {
		return "-"
	}
	return strconv.FormatUint(p.ForwardedCalls, 10)
}

func waits(p api.Process) string {
	if p.State != api.ProcessAway {
		return "-"
	}
	return fmt.Sprintf("%.2fs", p.Talk)
}

func processState(p api.Process) string {
	if p.Locked {
		return p.State + ",locked"
	}
	return p.State
}

func command(p api.Process) string {
	switch {
	case p.Hidden:
		return "(another user's)"
	case p.Command == "":
		return "-"
	}
	return p.Command
}

// kinds names the reasons in a word each.
func kinds(rs image.Refusals) string {
	if len(rs) == 0 {
		return "-"
	}
	words := make([]string, len(rs))
	for i, r := range rs {
		words[i] = r.What
	}
	return strings.Join(words, ",")
}

func (a *app) movesCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "moves",
		Short: "Show the latest moves of this node's processes",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ms, err := a.client().Moves(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(ms)
			}
			return a.printMoves(ms)
		},
	})
}

func (a *app) printMoves(ms api.Moves) error {
	t := table{columns: []column{
		{title: "TIME"}, {"PID", true}, {title: "FROM"}, {title: "TO"}, {title: "CAUSE"}, {title: "RESULT"}, {"FREEZE", true}, {"TOTAL", true},
		{"SENT", true}, {"ROUNDS", true}, {title: "WHY"},
	}}
	for _, m := range ms.Moves {
		row := []string{
			time.UnixMilli(m.EndedUnixMS).Format(time.TimeOnly), strconv.Itoa(int(m.PID)), string(m.From), string(m.To), m.Cause, m.Result,
			"-", "-", "-", "-", m.Error,
		}
		switch m.Result {
		case api.ResultMoved:
			copy(row[6:], []string{humanMS(m.FreezeMS), humanMS(m.TotalMS), humanBytes(m.Bytes), strconv.Itoa(m.Rounds)})
		case api.ResultRefused:
			row[10] = kinds(m.Refusals)
		}
		t.add(row...)
	}
	return t.print(a.out, a.width)
}
