package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/lab"
)

// labEnv names the lab that commands mean without --lab.
const labEnv = "MOSIX_LAB"

// labCommands share which lab is meant, and how to answer.
type labCommands struct {
	name string
	json bool
}

func labCommand() *cobra.Command {
	l := &labCommands{name: lab.DefaultName}
	if n := os.Getenv(labEnv); n != "" {
		l.name = n
	}
	c := &cobra.Command{
		Use:   "lab",
		Short: "Make a cluster on this machine and work in it",
		Long: `A lab is a cluster on one machine: nodes n1, n2, … with an agent each, in namespaces of their own. A node has its own host
name, network, processes, /tmp, /var/tmp, /run, /home and /etc/hostname; the rest of the file system is the machine's. It
needs root, leaves the machine's own network alone, and leaves nothing behind when it goes down.

In the nodes are two ordinary users, user1 and user2. Several labs can be up at once under different names.`,
		Example: `  mosixctl lab up --nodes 3 --cpus 0.5
  mosixctl lab exec n1 -- bash
  mosixctl lab link n1 n2 --cut
  mosixctl lab down`,
		Args: cobra.NoArgs,
	}
	c.PersistentFlags().StringVar(&l.name, "lab", l.name, "which lab (also by "+labEnv+")")
	c.AddCommand(l.up(), l.exec(), l.agent(), l.link(), l.down(), l.status(), l.list())
	return c
}

// labInitCommand is how the lab starts the first process of a node.
func labInitCommand() *cobra.Command {
	return &cobra.Command{
		Use:    lab.InitCommand + " LAB NODE",
		Short:  "Be the first process of a node of a lab (used by lab up)",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE:   func(*cobra.Command, []string) error { return lab.InitMain() },
	}
}

// asJSON gives a command --json.
func (l *labCommands) asJSON(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&l.json, "json", false, "print JSON for programs")
	return c
}

// answer prints v as JSON, or has it said for people.
func (l *labCommands) answer(w io.Writer, v any, say func() error) error {
	if !l.json {
		return say()
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

func (l *labCommands) up() *cobra.Command {
	var o lab.Options
	var cpus []string
	var clock []string
	var memory string
	c := &cobra.Command{
		Use:   "up",
		Short: "Make a lab and start its agents",
		Long: `Make a lab, start its agents, and return when they all know each other. The lab lives on until lab down.

--cpus and --memory limit what users' programs and guests of a node use together, by cgroup; agents are outside the limit.
--clock falsifies what a node's agent reads as the time; programs that were started there read the machine's. drift=200ppm
after it makes that clock too fast, or too slow, from then on.
--bind puts a file into the first folder of PATH in every node, readable for all users wherever it lies on the machine.`,
		Example: "  mosixctl lab up --nodes 3 --cpus 1,0.5,0.5 --memory 512MiB\n  mosixctl lab up --policy none --clock n2=+3s,drift=200ppm --bind ./a.out",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Name = firstNonEmpty(o.Name, l.name)
			var err error
			if o.CPUs, err = parseCPUs(cpus); err != nil {
				return exitWith(ExitUsage, err)
			}
			if o.Clock, o.Drift, err = parseClocks(clock); err != nil {
				return exitWith(ExitUsage, err)
			}
			if memory != "" {
				if o.Memory, err = config.ParseBytes(memory); err != nil {
					return exitWith(ExitUsage, fmt.Errorf("--memory: %w", err))
				}
			}
			ctx, stop := interruptible(c.Context())
			defer stop()
			o.Cancel = ctx.Done()
			o.Progress = func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) }
			made, err := lab.Up(o)
			if err != nil {
				return err
			}
			s, err := made.Status()
			if err != nil {
				return err
			}
			return l.answer(c.OutOrStdout(), s, func() error { return sayLab(c.OutOrStdout(), s) })
		},
	}
	f := c.Flags()
	f.StringVar(&o.Name, "name", "", "what to call it; the same as --lab")
	f.IntVar(&o.Nodes, "nodes", 2, "how many nodes")
	f.StringSliceVar(&cpus, "cpus", nil, "CPUs that programs of a node get in all: one number, or one per node; 0 for no limit")
	f.StringVar(&memory, "memory", "", "memory that programs of a node get in all, such as 512MiB")
	f.StringVar(&o.Policy, "policy", "", "how the agents balance: none, random, mosix, hbd, opportunity, default (without it: the agents' own default)")
	f.DurationVar(&o.Period, "period", 0, "how often they balance (default: the agents' own default)")
	f.StringSliceVar(&clock, "clock", nil, "NODE=SKEW[,drift=PPM]: what that node's agent adds to the time it reads, such as n2=+3s or n2=+3s,drift=200ppm")
	f.StringArrayVar(&o.Bind, "bind", nil, "file to bring into the nodes' PATH (may be repeated)")
	f.StringVar(&o.Mosixd, "mosixd", "", "the agent (default: mosixd next to mosixctl)")
	f.StringVar(&o.LogLevel, "log-level", "", "of the agents: debug, info, warn, error")
	f.BoolVar(&o.NoWait, "no-wait", false, "do not wait until the agents know each other")
	f.DurationVar(&o.Patience, "patience", time.Minute, "how long to wait for that")
	f.BoolVar(&o.NoAgents, "no-agents", false, "make the nodes and start no agent")
	return l.asJSON(c)
}

func firstNonEmpty(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func parseCPUs(words []string) ([]float64, error) {
	var cpus []float64
	for _, w := range words {
		f, err := strconv.ParseFloat(w, 64)
		if err != nil || !(f >= 0 && f <= 1e6) { // so that NaN is refused too
			return nil, fmt.Errorf("--cpus: %q is not a number of CPUs", w)
		}
		cpus = append(cpus, f)
	}
	return cpus, nil
}

// parseClocks reads NODE=SKEW, each perhaps followed by the drift of the same node: commas have been taken for separators.
func parseClocks(words []string) (map[id.Node]time.Duration, map[id.Node]int, error) {
	clocks, drifts := map[id.Node]time.Duration{}, map[id.Node]int{}
	last := id.Node("")
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if name == "drift" && last != "" {
			ppm, err := strconv.Atoi(strings.TrimSuffix(value, "ppm"))
			if err != nil || ppm <= -500000 || ppm >= 500000 {
				return nil, nil, fmt.Errorf("--clock: %q is no drift, such as drift=200ppm or drift=-50ppm", w)
			}
			drifts[last] = ppm
			continue
		}
		d, err := time.ParseDuration(value)
		if !ok || name == "" || err != nil {
			return nil, nil, fmt.Errorf("--clock: %q is not NODE=SKEW, such as n2=+3s or n1=-250ms", w)
		}
		last = id.Node(name)
		clocks[last] = d
	}
	return clocks, drifts, nil
}

// sayLab prints a lab as a table.
func sayLab(w io.Writer, s lab.Status) error {
	fmt.Fprintf(w, "Lab %s, %s, made %s, state in %s\n", s.Name, count(len(s.Nodes), "node"), s.Created.Local().Format(time.DateTime), s.Dir)
	t := table{columns: []column{{title: "NODE"}, {title: "ADDRESS"}, {title: "STATE"}, {title: "CPUS", right: true}, {title: "MEMORY", right: true}, {title: "CLOCK", right: true}, {title: "CUT FROM"}, {title: "AGENT"}}}
	for _, n := range s.Nodes {
		state, cpus, memory, clock, cut, agent := "down", "-", "-", "-", "-", "-"
		if n.Up {
			state = "up"
			switch {
			case n.Agent.Running:
				agent = fmt.Sprintf("runs, process %d", n.Agent.HostPID)
			case n.Agent.Ended != "":
				agent = "ended: " + n.Agent.Ended
			default:
				agent = "not started"
			}
		}
		if n.CPUs > 0 {
			cpus = number(n.CPUs)
		}
		if n.Memory > 0 {
			memory = humanBytes(n.Memory)
		}
		if n.ClockSkew != 0 {
			clock = n.ClockSkew.String()
		}
		if n.ClockDrift != 0 {
			clock = fmt.Sprintf("%v,%+dppm", n.ClockSkew, n.ClockDrift)
		}
		if len(n.CutFrom) > 0 {
			cut = strings.Trim(fmt.Sprint(n.CutFrom), "[]")
		}
		t.add(string(n.Name), n.Address, state, cpus, memory, clock, cut, agent)
	}
	return t.print(w, 0)
}

func (l *labCommands) agent() *cobra.Command {
	var noWait bool
	c := &cobra.Command{
		Use:   "agent NODE start|kill|stop",
		Short: "Start the agent of a node, kill it (SIGKILL), or stop it (SIGTERM)",
		Long: `Start the agent of a node and wait until it answers; kill it with SIGKILL, as a crash would; or stop it with SIGTERM, so that it
sends its guests away and brings its own processes home. kill and stop return when the agent has ended. The node lives on.`,
		Args:      cobra.ExactArgs(2),
		ValidArgs: []string{"start", "kill", "stop"},
		RunE: func(c *cobra.Command, args []string) error {
			it, err := lab.Open(l.name)
			if err != nil {
				return err
			}
			node := id.Node(args[0])
			var a lab.Agent
			said := "was killed"
			switch args[1] {
			case "start":
				said = "runs"
				if a, err = it.AgentStart(node); err == nil && !noWait {
					err = it.WaitAgent(node, time.Minute)
				}
			case "kill":
				a, err = it.AgentKill(node)
			case "stop":
				said = "has stopped"
				a, err = it.AgentStop(node)
			default:
				return usagef("lab agent: %q is not start, kill or stop", args[1])
			}
			if err != nil {
				return fmt.Errorf("lab agent %s: %w", args[1], err)
			}
			answer := struct {
				Node  id.Node   `json:"node"`
				Agent lab.Agent `json:"agent"`
			}{node, a}
			return l.answer(c.OutOrStdout(), answer, func() error {
				_, err := fmt.Fprintf(c.OutOrStdout(), "The agent of %s %s.\n", node, said)
				return err
			})
		},
	}
	c.Flags().BoolVar(&noWait, "no-wait", false, "after start, do not wait until it answers")
	return l.asJSON(c)
}

func (l *labCommands) link() *cobra.Command {
	var cut, heal bool
	c := &cobra.Command{
		Use:   "link A B --cut|--heal",
		Short: "Cut the link between two nodes, or heal it",
		Long: `Cut the link between two nodes: what one sends to the other is lost in silence, on standing connections too, as when a cable
is pulled. Other links are not touched. --heal undoes it.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			it, err := lab.Open(l.name)
			if err != nil {
				return err
			}
			a, b := id.Node(args[0]), id.Node(args[1])
			if err := it.Link(a, b, cut); err != nil {
				return fmt.Errorf("lab link: %w", err)
			}
			answer := struct {
				A   id.Node `json:"a"`
				B   id.Node `json:"b"`
				Cut bool    `json:"cut"`
			}{a, b, cut}
			return l.answer(c.OutOrStdout(), answer, func() error {
				word := "whole"
				if cut {
					word = "cut"
				}
				_, err := fmt.Fprintf(c.OutOrStdout(), "The link between %s and %s is %s.\n", a, b, word)
				return err
			})
		},
	}
	c.Flags().BoolVar(&cut, "cut", false, "nothing gets through any more")
	c.Flags().BoolVar(&heal, "heal", false, "everything gets through again")
	c.MarkFlagsMutuallyExclusive("cut", "heal")
	c.MarkFlagsOneRequired("cut", "heal")
	return l.asJSON(c)
}

func (l *labCommands) down() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "down",
		Short: "End a lab and everything in it",
		Long:  `End a lab: its agents, its users' programs, its namespaces, cgroups and files, also what is left of one whose making was broken off.`,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			names := []string{l.name}
			if all {
				var err error
				if names, err = lab.List(); err != nil {
					return err
				}
			}
			for _, n := range names {
				if err := lab.Down(n); err != nil {
					return err
				}
			}
			answer := struct {
				Ended []string `json:"ended"`
			}{names}
			return l.answer(c.OutOrStdout(), answer, func() error {
				for _, n := range names {
					fmt.Fprintf(c.OutOrStdout(), "Lab %s is gone.\n", n)
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all labs of this machine")
	return l.asJSON(c)
}

func (l *labCommands) status() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the nodes of a lab",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			it, err := lab.Open(l.name)
			if err != nil {
				return err
			}
			s, err := it.Status()
			if err != nil {
				return err
			}
			return l.answer(c.OutOrStdout(), s, func() error { return sayLab(c.OutOrStdout(), s) })
		},
	}
	return l.asJSON(c)
}

func (l *labCommands) list() *cobra.Command {
	type row struct {
		Name  string `json:"name"`
		Nodes int    `json:"nodes"`
		Up    int    `json:"up"`
		Error string `json:"error,omitempty"` // it was left over, or cannot be read
	}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the labs of this machine",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			names, err := lab.List()
			if err != nil {
				return err
			}
			rows := []row{}
			for _, n := range names {
				r := row{Name: n}
				it, err := lab.Open(n)
				if err != nil {
					r.Error = "its making was broken off; lab down clears it away"
					rows = append(rows, r)
					continue
				}
				s, err := it.Status()
				if err != nil {
					r.Error = err.Error()
				}
				r.Nodes = len(it.Nodes())
				for _, node := range s.Nodes {
					if node.Up {
						r.Up++
					}
				}
				rows = append(rows, r)
			}
			return l.answer(c.OutOrStdout(), map[string]any{"labs": rows}, func() error {
				t := table{columns: []column{{title: "LAB"}, {title: "NODES", right: true}, {title: "UP", right: true}, {title: "REMARK"}}}
				for _, r := range rows {
					t.add(r.Name, strconv.Itoa(r.Nodes), strconv.Itoa(r.Up), r.Error)
				}
				return t.print(c.OutOrStdout(), 0)
			})
		},
	}
	return l.asJSON(c)
}

func (l *labCommands) exec() *cobra.Command {
	var as lab.As
	var root, tty, noTTY bool
	c := &cobra.Command{
		Use:   "exec [--root|--user NAME] NODE [--] [COMMAND [ARGUMENT]...]",
		Short: "Run a command in a node of a lab",
		Long: `Run a command in a node as user1, an ordinary user, or a shell where no command is given. Standard input, output and error are
the command's own; where input and output are terminals it gets a terminal of the node, with job control.

Exit status: the command's own, or 128 plus the signal that ended it; 127 if it was not found, 126 if it cannot be executed,
125 if the lab could not be asked.`,
		Example: "  mosixctl lab exec n1\n  mosixctl lab exec --root n2 -- ps -ef\n  mosixctl lab exec --user user2 n1 -- mosixctl ps --json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if root {
				as.User = "root"
			}
			as.Env = append(terminalEnv(os.Environ()), as.Env...)
			useTTY := tty || !noTTY && kern.IsTerminal(os.Stdin) && kern.IsTerminal(os.Stdout)
			return l.runExec(id.Node(args[0]), as, args[1:], useTTY)
		},
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.BoolVar(&root, "root", false, "as root")
	f.StringVar(&as.User, "user", lab.DefaultUser, "as this user: user1, user2, root, or one of the machine's")
	f.StringVar(&as.Dir, "dir", "", "in this folder of the node (default: the user's home)")
	f.StringArrayVar(&as.Env, "env", nil, "NAME=VALUE to add to the environment (may be repeated)")
	f.BoolVarP(&tty, "tty", "t", false, "with a terminal, also where input and output are none")
	f.BoolVarP(&noTTY, "no-tty", "T", false, "without a terminal")
	c.MarkFlagsMutuallyExclusive("root", "user")
	c.MarkFlagsMutuallyExclusive("tty", "no-tty")
	return c
}

func (l *labCommands) runExec(node id.Node, as lab.As, args []string, tty bool) error {
	it, err := lab.Open(l.name)
	if err != nil {
		return exitWith(ExitNotStarted, err)
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	cmd := it.Shell(node, as)
	cmd.Args = args
	cmd.TTY = tty
	err = cmd.Attach(os.Stdin, os.Stdout, os.Stderr)
	var ended *lab.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &ended):
		return exitWith(ExitNotStarted, err)
	case ended.Why != "":
		return exitWith(ended.Code, err)
	}
	return exitWith(ended.Code, nil)
}

// terminalEnv is what of an environment belongs to the terminal and the language, as ssh passes it on.
func terminalEnv(env []string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if name == "TERM" || name == "COLORTERM" || name == "LANG" || strings.HasPrefix(name, "LC_") {
			out = append(out, kv)
		}
	}
	return out
}
