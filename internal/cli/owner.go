package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/id"
	"mosix/node/api"
)

// ownerCommands are those by which the owner of a machine says what it does for others.
func (a *app) ownerCommands() []*cobra.Command {
	simple := func(use, op, short, long string) *cobra.Command {
		return a.jsonFlag(&cobra.Command{Use: use, Short: short, Long: long, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			return a.owner(c, api.OwnerRequest{Op: op})
		}})
	}
	lock := func(use, op, short string) *cobra.Command {
		return a.jsonFlag(&cobra.Command{Use: use + " PID", Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
			pid, _, err := id.ParsePID(args[0])
			if err != nil {
				return exitWith(ExitUsage, err)
			}
			return a.owner(c, api.OwnerRequest{Op: op, PID: pid})
		}})
	}
	return []*cobra.Command{
		simple("block", api.OpBlock, "Take no guests", "Take no guests any more, also after a restart. Those that are here stay: expel sends them away. Root only."),
		simple("unblock", api.OpUnblock, "Take guests again", ""),
		simple("expel", api.OpExpel, "Send all guests home", `Send all guests to their homes, and return when they have gone. Their homes may send them on, to other nodes; unless this one is
blocked, also here. Ctrl-C leaves those here that have not begun to go; eight go at once. Root only.`),
		simple("bring", api.OpBring, "Bring all processes of this node home", "Bring all processes of this node home, and return when they are here. Ctrl-C leaves those where they are that have not begun to come; eight come at once. Root only."),
		simple("stay", api.OpStay, "Let the balancer send none of this node's processes away", "Let the balancer send none of this node's processes away, also after a restart. Commands still can. Root only."),
		simple("nostay", api.OpNoStay, "Let it send them away again", ""),
		lock("lock", api.OpLock, "Let the balancer leave a process where it is"),
		lock("unlock", api.OpUnlock, "Let it move it again"),
		a.jsonFlag(&cobra.Command{
			Use: "setspeed NUMBER", Short: "Say how fast a processor of this node is", Args: cobra.ExactArgs(1),
			Long: "Say how fast a processor of this node is, 1 being the standard, also after a restart; 0 has it measured. Root only.",
			RunE: func(c *cobra.Command, args []string) error {
				v, err := strconv.ParseFloat(args[0], 64)
				if err != nil || !(v >= 0) {
					return exitWith(ExitUsage, fmt.Errorf("%q is not a speed: want a number, such as 1.5, or 0", args[0]))
				}
				return a.owner(c, api.OwnerRequest{Op: api.OpSetSpeed, Speed: v})
			},
		}),
		a.jsonFlag(&cobra.Command{
			Use: "owner [here|gone|auto]", Short: "Show, or say, whether the owner is at the machine", Args: cobra.MaximumNArgs(1), ValidArgs: []string{api.OpHere, api.OpGone, api.OpAuto},
			Long: `Show whether somebody is at the machine, and what was ordered. When somebody comes back to it, guests leave within seconds, and none comes until
nobody is there any more. With auto, that is seen by the sessions of logind and by the input devices. here and gone say it, until the next word. Root only.`,
			RunE: func(c *cobra.Command, args []string) error {
				op := api.OpShow
				if len(args) == 1 {
					if op = args[0]; op != api.OpHere && op != api.OpGone && op != api.OpAuto {
						return exitWith(ExitUsage, fmt.Errorf("%q: want here, gone or auto", op))
					}
				}
				return a.owner(c, api.OwnerRequest{Op: op})
			},
		}),
	}
}

func (a *app) owner(c *cobra.Command, req api.OwnerRequest) error {
	ctx, cancel := interruptible(c.Context())
	defer cancel()
	st, err := a.client().Owner(ctx, req)
	if err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(st); err != nil {
			return err
		}
	} else {
		printOwner(a.out, req.Op, st)
	}
	if len(st.Left) > 0 {
		return exitWith(ExitFailed, errors.New(count(len(st.Left), "process")+" could not be moved"))
	}
	return nil
}

func printOwner(w io.Writer, op string, st api.OwnerState) {
	for _, x := range st.Left {
		fmt.Fprintf(w, "%s stays: %s\n", id.Process{Home: x.Home, PID: x.PID}, printable(x.Why))
	}
	switch op {
	case api.OpExpel, api.OpBring:
		fmt.Fprintf(w, "%s moved in %.1f s\n", count(st.Moved, "process"), st.TookMS/1000)
	case api.OpShow:
		says := map[bool]string{true: "yes", false: "no"}
		fmt.Fprintf(w, "node       %s\nowner      %s", st.Node, map[bool]string{true: "at the machine", false: "not at the machine"}[st.Present])
		if st.Why != "" {
			fmt.Fprintf(w, " (%s)", printable(st.Why))
		}
		fmt.Fprintf(w, "\nblocked    %s\nstay       %s\nspeed      %g\nguests     %d\naway       %d\n", says[st.Blocked], says[st.Stay], st.Speed, st.Guests, st.Away)
	}
}

func (a *app) eventsCommand() *cobra.Command {
	follow := false
	c := a.jsonFlag(&cobra.Command{
		Use: "events", Short: "Show what happened on this node, and why", Args: cobra.NoArgs,
		Long: `Show what happened on this node lately: decisions of the balancer with their reasons, moves, what the owner ordered. A decision to do nothing is
shown when its reason is another one than before. With --json each event has what the decision was made from.`,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := interruptible(c.Context())
			defer cancel()
			for since := uint64(0); ; {
				es, err := a.client().Events(ctx, since)
				if err != nil {
					if ctx.Err() != nil {
						return nil
					}
					return err
				}
				for _, e := range es.Events {
					since = max(since, e.Seq)
					if a.json && follow {
						if err := a.printJSON(e); err != nil {
							return err
						}
					} else if !a.json {
						fmt.Fprintf(a.out, "%s  %-8s  %s\n", time.UnixMilli(e.UnixMS).Format("2006-01-02 15:04:05.000"), e.Kind, printable(e.Text))
					}
				}
				if !follow {
					if a.json {
						return a.printJSON(es)
					}
					return nil
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(500 * time.Millisecond):
				}
			}
		},
	})
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on showing what happens")
	return c
}

func (a *app) whyNotCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "why-not PID", Short: "Say why the balancer does not move a process now", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			pid, home, err := id.ParsePID(args[0])
			if err == nil && home != "" {
				err = fmt.Errorf("%s: ask the agent of %s, its home", args[0], home)
			}
			if err != nil {
				return exitWith(ExitUsage, err)
			}
			w, err := a.client().WhyNot(c.Context(), pid)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(w)
			}
			if err := a.printExplanation(w.Explanation); err != nil {
				return err
			}
			head := "would not move it now"
			if w.Would {
				head = "would move it to " + string(w.To)
			}
			if w.Began != "" {
				fmt.Fprintf(a.out, "began      %s\n", printable(w.Began))
			}
			_, err = fmt.Fprintf(a.out, "policy     %s %s: %s\n", w.Policy, head, printable(strings.TrimSpace(w.Why)))
			return err
		},
	})
}
