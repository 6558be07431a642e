package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mosix/balancer"
	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/internal/sim"
	"mosix/node/api"
)

// balanceReport is what bench balance --json prints.
type balanceReport struct {
	Policy    string       `json:"policy"`
	Seed      uint64       `json:"seed"`
	CPUs      []float64    `json:"cpus"` // of the nodes
	Jobs      []balanceJob `json:"jobs"`
	Lab       balanceSide  `json:"lab"`
	Simulator balanceSide  `json:"simulator"`
	Ratio     float64      `json:"ratio"` // mean slowdown of the lab to that of the simulator
}

// balanceSide is one of the two that played.
type balanceSide struct {
	MeanSlowdown float64 `json:"mean_slowdown"`
	LastSeconds  float64 `json:"last_seconds"` // end of the last job
	Moves        int     `json:"moves"`
	MostMoves    int     `json:"most_moves"` // of one job
}

// balanceJob is a job in both.
type balanceJob struct {
	WorkSeconds      float64 `json:"work_seconds"`
	StartedSeconds   float64 `json:"started_seconds"`
	LabSeconds       float64 `json:"lab_seconds"` // response times
	SimulatorSeconds float64 `json:"simulator_seconds"`
	LabMoves         int     `json:"lab_moves"`
	SimulatorMoves   int     `json:"simulator_moves"`
}

type benchBalance struct {
	*app
	cpuWords, lifetime, gap, policy, memoryWord string

	memory uint64
	jobs   int
	seed   uint64
	cpus   []float64
	works  []sim.Work
}

func (a *app) benchBalanceCommand() *cobra.Command {
	b := benchBalance{app: a}
	c := a.jsonFlag(&cobra.Command{
		Use:   "balance",
		Short: "Measure how jobs spread in a lab, beside the simulator's figures for the same jobs",
		Long: `Start jobs that compute, all on the first node of a lab whose nodes have the processors that --cpus says, let the agents spread
them, and play the same jobs in the simulator, which decides with the same code; there, too, all begin on the first node. Slowdown is response time divided by the time that
the job takes alone on a whole processor, measured before. Needs root.`,
		Example: "  mosixctl bench balance --cpus 0.6,0.3,0.3,0.15 --jobs 16",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			if err := b.parse(); err != nil {
				return exitWith(ExitUsage, err)
			}
			r, err := b.run(ctx)
			if err != nil {
				return err
			}
			return b.print(r)
		},
	})
	c.Flags().StringVar(&b.cpuWords, "cpus", "0.6,0.3,0.3,0.15", "processors of each node")
	c.Flags().IntVar(&b.jobs, "jobs", 16, "how many jobs")
	c.Flags().StringVar(&b.lifetime, "lifetime", "pareto:1:1:60", "work of a job, in seconds of a whole processor")
	c.Flags().StringVar(&b.memoryWord, "memory", "8MiB", "memory of a job")
	c.Flags().StringVar(&b.gap, "gap", "fixed:0", "time between one start and the next")
	c.Flags().StringVar(&b.policy, "policy", "default", "policy of the agents: "+strings.Join(balancer.Names(), ", "))
	c.Flags().Uint64Var(&b.seed, "seed", 1, "of the jobs")
	return c
}

// parse reads the flags and draws the jobs.
func (b *benchBalance) parse() (err error) {
	number := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
	if b.cpus, err = list(b.cpuWords, number); err != nil {
		return fmt.Errorf("--cpus: %w", err)
	}
	if _, err := balancer.ByName(b.policy); err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	life, err := distribution(b.lifetime, sim.Seconds)
	if err != nil {
		return fmt.Errorf("--lifetime: %w", err)
	}
	gap := sim.Dist(sim.Fixed(0))
	if b.gap != "fixed:0" { // no distribution has 0 but this
		if gap, err = distribution(b.gap, sim.Seconds); err != nil {
			return fmt.Errorf("--gap: %w", err)
		}
	}
	if b.jobs < 1 || slices.ContainsFunc(b.cpus, func(c float64) bool { return !(c >= 0.05 && c <= 64) }) {
		return fmt.Errorf("--jobs %d, --cpus %s: want at least one job, and 0.05 to 64 processors for each node", b.jobs, b.cpuWords)
	}
	if b.memory, err = config.ParseBytes(b.memoryWord); err != nil || b.memory > 1<<30 {
		return fmt.Errorf("--memory %s: want a size, 1GiB at most (%v)", b.memoryWord, err)
	}
	rng := rand.New(rand.NewPCG(b.seed, 1))
	at := 0.0
	b.works = nil
	for range b.jobs {
		b.works = append(b.works, sim.Work{At: time.Duration(at * 1e9), Work: life.Draw(rng), Bytes: max(b.memory, 1)})
		at += gap.Draw(rng)
	}
	return nil
}

func (b *benchBalance) run(ctx context.Context) (r balanceReport, err error) {
	r = balanceReport{Policy: b.policy, Seed: b.seed, CPUs: b.cpus}
	_, story, err := sim.Tell(sim.Config{Nodes: len(b.cpus), CPUs: b.cpus, Trace: b.works, AtHome: true, Policy: b.policy, Seed: b.seed,
		Fixed: balancer.DefaultCosts().Fixed, Bandwidth: balancer.DefaultCosts().Bandwidth})
	if err != nil {
		return r, err
	}
	speed, err := burnSpeed(ctx)
	if err != nil {
		return r, fmt.Errorf("measure how fast this machine is: %w", err)
	}
	total := 0.0
	for _, w := range b.works {
		total += w.Work
	}
	fmt.Fprintf(b.err, "%d jobs of %.0f CPU seconds in all start on the first of %d nodes; a processor makes %.0f million turns per second\n", len(b.works), total, len(b.cpus), speed/1e6)
	played, moves, err := b.inLab(ctx, speed)
	if err != nil {
		return r, err
	}
	r.Jobs = make([]balanceJob, len(b.works))
	for i, w := range b.works {
		r.Jobs[i] = balanceJob{WorkSeconds: w.Work, StartedSeconds: w.At.Seconds(), LabSeconds: played[i].Seconds, LabMoves: moves[id.HomePID(played[i].PID)]}
	}
	for _, e := range story.Ended {
		r.Jobs[e.N].SimulatorSeconds, r.Jobs[e.N].SimulatorMoves = e.Response, e.Moves
	}
	side := func(seconds func(balanceJob) (float64, int)) (s balanceSide) {
		for _, j := range r.Jobs {
			took, moves := seconds(j)
			s.MeanSlowdown += took / j.WorkSeconds / float64(len(r.Jobs))
			s.LastSeconds = max(s.LastSeconds, j.StartedSeconds+took)
			s.Moves += moves
			s.MostMoves = max(s.MostMoves, moves)
		}
		return s
	}
	r.Lab = side(func(j balanceJob) (float64, int) { return j.LabSeconds, j.LabMoves })
	r.Simulator = side(func(j balanceJob) (float64, int) { return j.SimulatorSeconds, j.SimulatorMoves })
	r.Ratio = r.Lab.MeanSlowdown / r.Simulator.MeanSlowdown
	return r, nil
}

// inLab plays the jobs in a lab; moves are those of each process.
func (b *benchBalance) inLab(ctx context.Context, speed float64) (played []burnt, moves map[id.HomePID]int, err error) {
	l, err := lab.Up(lab.Options{Name: fmt.Sprintf("balance-%d", os.Getpid()), Nodes: len(b.cpus), CPUs: b.cpus, Policy: b.policy, Cancel: ctx.Done()})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	plan := burnPlan{Speed: speed, Memory: b.memory}
	for _, w := range b.works {
		plan.At, plan.Work = append(plan.At, w.At.Seconds()), append(plan.Work, w.Work)
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, nil, err
	}
	cmd := l.CommandContext(ctx, "n1", lab.As{}, "mosixctl", "bench-jobs", "--plan", string(text))
	cmd.Stderr = b.err
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("the jobs in the lab: %w", errors.Join(err, context.Cause(ctx)))
	}
	if err := json.Unmarshal(out, &played); err != nil || len(played) != len(b.works) {
		return nil, nil, fmt.Errorf("the jobs in the lab: %d of %d have ended (%w)", len(played), len(b.works), err)
	}
	type step struct {
		pid   id.HomePID
		epoch id.Epoch
	}
	seen := map[step]bool{}
	moves = map[id.HomePID]int{}
	for i := range b.cpus {
		var ms api.Moves
		if err := l.Get(id.Node(fmt.Sprintf("n%d", i+1)), "/v1/moves", &ms); err != nil {
			return nil, nil, err
		}
		for _, m := range ms.Moves {
			if s := (step{m.PID, m.Epoch}); m.Home == "n1" && m.Result == api.ResultMoved && !seen[s] {
				seen[s] = true
				moves[m.PID]++
			}
		}
	}
	return played, moves, nil
}

func (b *benchBalance) print(r balanceReport) error {
	if b.json {
		return b.printJSON(r)
	}
	t := table{columns: []column{{"WORK", true}, {"STARTED", true}, {"LAB", true}, {"SLOWDOWN", true}, {"MOVES", true}, {"SIMULATOR", true}, {"SLOWDOWN", true}, {"MOVES", true}}}
	seconds := func(v float64) string { return fmt.Sprintf("%.1fs", v) }
	for _, j := range r.Jobs {
		t.add(seconds(j.WorkSeconds), seconds(j.StartedSeconds), seconds(j.LabSeconds), fmt.Sprintf("%.2f", j.LabSeconds/j.WorkSeconds), strconv.Itoa(j.LabMoves),
			seconds(j.SimulatorSeconds), fmt.Sprintf("%.2f", j.SimulatorSeconds/j.WorkSeconds), strconv.Itoa(j.SimulatorMoves))
	}
	if err := t.print(b.out, b.width); err != nil {
		return err
	}
	for _, x := range []struct {
		who string
		s   balanceSide
	}{{"lab", r.Lab}, {"simulator", r.Simulator}} {
		fmt.Fprintf(b.out, "%-10s mean slowdown %.3f, the last job ended after %.1f s, %d moves, %d of one job at most\n", x.who+":", x.s.MeanSlowdown, x.s.LastSeconds, x.s.Moves, x.s.MostMoves)
	}
	_, err := fmt.Fprintf(b.out, "lab / simulator: %.2f\n", r.Ratio)
	return err
}
