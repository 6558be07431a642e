package cli

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/sim"
)

// simReport is what sim --json prints.
type simReport struct {
	Results []sim.Result `json:"results"` // by seed, and by policy in the order in which they were named
}

// simFlags are the words of sim's command line that are no plain numbers.
type simFlags struct {
	policies, lifetime, memory, bandwidth, wanBandwidth, speeds, cpus, memories, faults, owners, plot string

	seeds []uint
}

func (a *app) simCommand() *cobra.Command {
	var (
		conf sim.Config
		f    simFlags
	)
	c := a.jsonFlag(&cobra.Command{
		Use:   "sim [flags]",
		Short: "Play a cluster of any size, with the balancer and the gossip that the agents run",
		Long: `Play a cluster on one event loop: nodes that share their processors among the jobs that run there, jobs that arrive at random, and the
gossip and the balancer of the agents themselves. It needs no agent and no privilege. The same seed gives the same result.

Policies: ` + strings.Join(sim.Policies(), ", ") + `. The last three are yardsticks, which no cluster can have: work that can be divided
at will and costs nothing to move, placement by who knows all queues, and with that stealing by who knows all remaining times.

What goes wrong: crash:EVERY:FOR (each node, on average), cut:AT:FOR:SHARE (some nodes hear nothing of the others), slow:AT:FOR:SHARE:FACTOR
(their links are slow), skew:MOST (clocks are apart). A crash ends what runs on the node and what began there; so does a cut that is longer
than the lease of a guest, 10 minutes.

Distributions: fixed:V, exp:MEAN, pareto:SHAPE:LOWER:UPPER, lognormal:MEDIAN:SIGMA, file:PATH (a number in each line). Times are
seconds, or have a unit; sizes are bytes, or have KiB, MiB, GiB.`,
		Example: `  mosixctl sim --nodes 64 --rho 0.9 --jobs 300000 --policy none,mosix,jsq,oracle
  mosixctl sim --nodes 256 --faults crash:1h:2m,cut:10m:1m:0.5 --owners 30m:10m --policy default --plot load.svg
  mosixctl sim --nodes 16 --jobs 17 --batch --lifetime fixed:300 --policy mosix`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, stories, err := simulate(conf, f)
			if err != nil {
				return exitWith(ExitUsage, err) // nothing else can go wrong
			}
			if f.plot != "" {
				if err := plotSim(f.plot, r.Results, stories); err != nil {
					return fmt.Errorf("--plot %s: %w", f.plot, err)
				}
			}
			return a.printSim(r)
		},
	})
	fl := c.Flags()
	fl.IntVar(&conf.Nodes, "nodes", 16, "how many nodes")
	fl.Float64Var(&conf.Rho, "rho", 0.7, "work that arrives, as a share of what all nodes can do")
	fl.IntVar(&conf.Jobs, "jobs", 20000, "how many jobs count, with those of the warm-up")
	fl.BoolVar(&conf.Batch, "batch", false, "start all jobs at once, on random nodes as evenly as it goes, instead of one after the other")
	fl.StringVar(&f.policies, "policy", "default", "policies to play, separated by commas")
	fl.StringVar(&f.lifetime, "lifetime", "pareto:1:1:3600", "work of a job, in seconds of a standard processor")
	fl.StringVar(&f.memory, "memory", "lognormal:32MiB:1", "memory of a job")
	fl.DurationVar(&conf.Fixed, "fixed", 100*time.Millisecond, "how long a move stops a job, besides its memory")
	fl.StringVar(&f.bandwidth, "bandwidth", "100MiB", "bytes of memory per second of a move")
	fl.DurationVar(&conf.RemoteStart, "remote-start", 50*time.Millisecond, "how long it takes to start a job elsewhere than at its home")
	fl.DurationVar(&conf.Period, "period", time.Second, "period of the agents")
	fl.IntVar(&conf.Vector, "vector", 64, "entries of a gossip vector")
	fl.DurationVar(&conf.Latency, "latency", 500*time.Microsecond, "of a message, on average")
	fl.Float64Var(&conf.Loss, "loss", 0, "share of the gossip messages that are lost")
	fl.StringVar(&f.speeds, "speeds", "1", "speeds of the nodes, taken in turn, separated by commas")
	fl.StringVar(&f.cpus, "cpus", "1", "processors of the nodes, taken in turn, separated by commas")
	fl.StringVar(&f.memories, "memories", "8GiB", "memories of the nodes, taken in turn, separated by commas")
	fl.StringVar(&f.faults, "faults", "", "what goes wrong, separated by commas")
	fl.StringVar(&f.owners, "owners", "", "how long nobody is at a machine and how long somebody is, on average, such as 30m:10m; guests leave then")
	fl.IntVar(&conf.Sites, "sites", 1, "among how many places the nodes are divided, with slow links between them")
	fl.DurationVar(&conf.WANLatency, "wan-latency", 20*time.Millisecond, "of a message from place to place, on average")
	fl.StringVar(&f.wanBandwidth, "wan-bandwidth", "10MiB", "bytes of memory per second of a move from place to place")
	fl.BoolVar(&conf.AtHome, "at-home", false, "let every job begin where it is started, whatever the policy says")
	fl.StringVar(&f.plot, "plot", "", "draw the load over time, and the slowdowns, into this file (svg, png or pdf)")
	fl.Float64Var(&conf.Warmup, "warmup", 0.15, "share of the jobs, the first ones, that do not count")
	fl.UintSliceVar(&f.seeds, "seed", []uint{1}, "seeds, separated by commas: each policy is played with each")
	return c
}

// simulate plays every policy with every seed, as many at once as there are processors.
func simulate(conf sim.Config, f simFlags) (r simReport, stories []sim.Story, err error) {
	if conf.Nodes < 1 || conf.Jobs < 1 || conf.Rho <= 0 || conf.Vector < 2 || conf.Period <= 0 {
		return r, nil, fmt.Errorf("--nodes %d, --jobs %d, --rho %g, --vector %d, --period %v: want 1, 1, more than 0, 2 and more than 0 at least",
			conf.Nodes, conf.Jobs, conf.Rho, conf.Vector, conf.Period)
	}
	for _, d := range []*time.Duration{&conf.Fixed, &conf.RemoteStart, &conf.Latency} {
		*d = max(*d, time.Nanosecond) // none: 0 would be the default
	}
	if conf.Lifetime, err = distribution(f.lifetime, sim.Seconds); err != nil {
		return r, nil, fmt.Errorf("--lifetime: %w", err)
	}
	if conf.Memory, err = distribution(f.memory, sim.Bytes); err != nil {
		return r, nil, fmt.Errorf("--memory: %w", err)
	}
	if conf.Bandwidth, err = sim.Bytes(f.bandwidth); err != nil {
		return r, nil, fmt.Errorf("--bandwidth: %w", err)
	}
	if conf.WANBandwidth, err = sim.Bytes(f.wanBandwidth); err != nil {
		return r, nil, fmt.Errorf("--wan-bandwidth: %w", err)
	}
	if conf.Faults, err = sim.ParseFaults(f.faults); err != nil {
		return r, nil, fmt.Errorf("--faults: %w", err)
	}
	if f.owners != "" {
		away, here, _ := strings.Cut(f.owners, ":")
		var err2 error
		conf.Owners.Away, err = time.ParseDuration(away)
		conf.Owners.Here, err2 = time.ParseDuration(here)
		if err = errors.Join(err, err2); err != nil || conf.Owners.Away <= 0 || conf.Owners.Here <= 0 {
			return r, nil, fmt.Errorf("--owners %q: want two times above 0, such as 30m:10m", f.owners)
		}
	}
	plain := func(s string) (float64, error) {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is no number", s)
		}
		return v, nil
	}
	if conf.Speeds, err = list(f.speeds, plain); err != nil {
		return r, nil, fmt.Errorf("--speeds: %w", err)
	}
	if conf.CPUs, err = list(f.cpus, plain); err != nil {
		return r, nil, fmt.Errorf("--cpus: %w", err)
	}
	ram, err := list(f.memories, sim.Bytes)
	if err != nil {
		return r, nil, fmt.Errorf("--memories: %w", err)
	}
	for _, v := range ram {
		conf.RAM = append(conf.RAM, uint64(v))
	}
	var runs []sim.Config
	for _, seed := range f.seeds {
		for p := range strings.SplitSeq(f.policies, ",") {
			one := conf
			one.Policy, one.Seed = strings.TrimSpace(p), uint64(seed)
			runs = append(runs, one)
		}
	}
	r.Results, stories = make([]sim.Result, len(runs)), make([]sim.Story, len(runs))
	errs := make([]error, len(runs))
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a large cluster makes much of what is soon forgotten
	var wg sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, one := range runs {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			r.Results[i], stories[i], errs[i] = sim.Tell(one)
		})
	}
	wg.Wait()
	return r, stories, errors.Join(errs...)
}

// distribution reads one of a command line, which may stand in a file.
func distribution(s string, value func(string) (float64, error)) (sim.Dist, error) {
	path, ok := strings.CutPrefix(s, "file:")
	if !ok {
		return sim.ParseDist(s, value)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return sim.ParseValues(path, string(b), value)
}

func list(s string, value func(string) (float64, error)) (out []float64, err error) {
	for part := range strings.SplitSeq(s, ",") {
		v, err := value(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (a *app) printSim(r simReport) error {
	if a.json {
		return a.printJSON(r)
	}
	t := table{columns: []column{{title: "POLICY"}, {title: "SEED", right: true}, {title: "SLOWDOWN", right: true}, {title: "P50", right: true}, {title: "P99", right: true},
		{title: ">3", right: true}, {title: "RESPONSE", right: true}, {title: "MOVES", right: true}, {title: "MOST", right: true}, {title: "REMOTE", right: true},
		{title: "SPREAD", right: true}, {title: "AGE", right: true}, {title: "B/S", right: true}, {title: "+MEMBERS", right: true}, {title: "LOST", right: true}, {title: "END", right: true}}}
	for _, x := range r.Results {
		t.add(x.Policy, strconv.FormatUint(x.Seed, 10), fmt.Sprintf("%.3f", x.MeanSlowdown), fmt.Sprintf("%.2f", x.P50Slowdown), fmt.Sprintf("%.2f", x.P99Slowdown),
			fmt.Sprintf("%.1f%%", 100*x.ShareAbove3), fmt.Sprintf("%.1fs", x.MeanResponseSeconds), fmt.Sprintf("%.3f", x.MovesPerProcess), strconv.Itoa(x.MostMoves),
			fmt.Sprintf("%.3f", x.RemoteStartsPerProcess), fmt.Sprintf("%.2f", x.LoadStddev), fmt.Sprintf("%.2f", x.GossipAgeMean),
			fmt.Sprintf("%.0f", x.GossipBytesPerNodeSecond), fmt.Sprintf("%.0f", x.MembershipBytes), strconv.Itoa(x.LostJobs), fmt.Sprintf("%.0fs", x.LastEndSeconds))
	}
	return t.print(a.out, a.width)
}
