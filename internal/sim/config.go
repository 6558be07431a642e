package sim

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"mosix/balancer"
	"mosix/balancer/load"
)

// Config says what is played. The zero value of a field stands for its default.
type Config struct {
	Nodes int     // 16
	Rho   float64 // work that arrives, as a share of what all nodes together can do; 0.7
	Jobs  int     // that count, with those of the warm-up; 20,000
	// Batch, instead of arrivals, starts all Jobs at time 0 on random nodes, as evenly as it goes.
	Batch bool
	// Trace, instead of arrivals, is all the work there is.
	Trace []Work
	// AtHome lets every job begin where it is started, whatever the policy says.
	AtHome bool

	Lifetime Dist // work of a job, seconds of a standard processor; pareto:1:1:3600
	Memory   Dist // bytes; lognormal:32MiB:1

	Fixed       time.Duration // how long a move stops a job, besides its memory; 100 ms
	Bandwidth   float64       // bytes per second of memory on the way; 100 MiB
	RemoteStart time.Duration // how long it takes to start a job on another node than its home; 50 ms

	Period  time.Duration // of the agents; 1 s
	Vector  int           // entries of a gossip vector; 64
	Latency time.Duration // of a message, in one direction, half of it to half as much again; 0.5 ms
	Loss    float64       // share of the gossip messages that are lost

	Speeds []float64 // of the nodes, taken in turn; 1
	CPUs   []float64 // of the nodes, taken in turn; 1
	RAM    []uint64  // of the nodes, taken in turn, bytes; 8 GiB

	Sites        int           // the nodes are divided among so many, with slow links between them; 1
	WANLatency   time.Duration // of a message between sites; 20 ms
	WANBandwidth float64       // of a move between sites, bytes per second; 10 MiB
	Faults       []Fault
	Owners       Owners

	Policy string // of the balancer, or a yardstick; none
	// Brain is played instead of the policy of that name, where it is set: constants are tuned so.
	Brain balancer.Policy
	// Unrefused makes every target take what it is offered: a test of what refusal is for.
	Unrefused bool
	Warmup    float64 // share of the jobs, the first ones, that do not count
	Seed      uint64
}

// Work is a job of a trace.
type Work struct {
	At    time.Duration // when it is started
	Home  int           // on which node, from 0
	Work  float64       // seconds of a standard processor
	Bytes uint64
}

// Yardsticks are policies that no cluster can have: fluid is work that can be divided at will and costs nothing to move, jsq knows
// all queues when it places a job, and oracle besides steals jobs, whose remaining times it knows, for idle nodes.
func Yardsticks() []string { return []string{"fluid", "jsq", "oracle"} }

// Policies lists what a Config's Policy may be.
func Policies() []string { return append(balancer.Names(), Yardsticks()...) }

// withDefaults fills in what is not said, and says what cannot be.
func (c Config) withDefaults() (Config, error) {
	def := func(p *float64, v float64) {
		if *p == 0 {
			*p = v
		}
	}
	wait := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	if c.Nodes == 0 {
		c.Nodes = 16
	}
	if len(c.Trace) > 0 {
		c.Jobs = len(c.Trace)
	}
	if c.Jobs == 0 {
		c.Jobs = 20000
	}
	def(&c.Rho, 0.7)
	def(&c.Bandwidth, 100<<20)
	wait(&c.Fixed, 100*time.Millisecond)
	wait(&c.RemoteStart, 50*time.Millisecond)
	wait(&c.Period, time.Second)
	wait(&c.Latency, 500*time.Microsecond)
	wait(&c.WANLatency, 20*time.Millisecond)
	def(&c.WANBandwidth, 10<<20)
	if c.Sites == 0 {
		c.Sites = 1
	}
	if c.Vector == 0 {
		c.Vector = 64
	}
	if c.Lifetime == nil {
		c.Lifetime = Pareto{1, 1, 3600}
	}
	if c.Memory == nil {
		c.Memory = LogNormal{32 << 20, 1}
	}
	if len(c.Speeds) == 0 {
		c.Speeds = []float64{1}
	}
	if len(c.CPUs) == 0 {
		c.CPUs = []float64{1}
	}
	if len(c.RAM) == 0 {
		c.RAM = []uint64{8 << 30}
	}
	if c.Policy == "" {
		c.Policy = "none"
	}
	positive := func(v float64) bool { return v > 0 && !math.IsInf(v, 1) }
	switch {
	case c.Nodes < 1 || c.Jobs < 1 || c.Vector < 2:
		return c, fmt.Errorf("%d nodes with vectors of %d entries and %d jobs: want 1, 2 and 1 at least", c.Nodes, c.Vector, c.Jobs)
	case !positive(c.Rho) || !c.Batch && c.Rho >= 1:
		return c, fmt.Errorf("rho = %g: want a share between 0 and 1, for with more work than the nodes can do the queues grow for ever", c.Rho)
	case c.Warmup < 0 || c.Warmup >= 1:
		return c, fmt.Errorf("warmup = %g: want a share of the jobs, from 0 to less than 1", c.Warmup)
	case c.Loss < 0 || c.Loss > 1:
		return c, fmt.Errorf("loss = %g: want a share, from 0 to 1", c.Loss)
	case !positive(c.Bandwidth) || c.Fixed < 0 || c.RemoteStart < 0 || c.Period < 0 || c.Latency < 0:
		return c, fmt.Errorf("the bandwidth (%g) and all times must be above 0", c.Bandwidth)
	case slices.ContainsFunc(c.Speeds, func(v float64) bool { return !positive(v) }) || slices.ContainsFunc(c.CPUs, func(v float64) bool { return !positive(v) }):
		return c, fmt.Errorf("speeds %v, cpus %v: want numbers above 0", c.Speeds, c.CPUs)
	case c.Sites < 1 || c.Sites > c.Nodes || !positive(c.WANBandwidth) || c.WANLatency < 0:
		return c, fmt.Errorf("%d sites of %d nodes, %g bytes per second and %v between them: want from one site to one for each node, and more than 0", c.Sites, c.Nodes, c.WANBandwidth, c.WANLatency)
	case c.Owners.Away < 0 || c.Owners.Here < 0 || c.Owners.Away > 0 && c.Owners.Here == 0:
		return c, fmt.Errorf("owners are away for %v and there for %v: want both above 0", c.Owners.Away, c.Owners.Here)
	case slices.ContainsFunc(c.Trace, func(w Work) bool { return !positive(w.Work) || w.At < 0 || w.Home < 0 || w.Home >= c.Nodes }):
		return c, fmt.Errorf("the trace has work that is not above 0, begins before 0, or on none of the %d nodes", c.Nodes)
	case slices.Contains(Yardsticks(), c.Policy) && len(c.Faults) > 0:
		return c, fmt.Errorf("yardstick %s knows of no faults: play it without", c.Policy)
	case slices.Contains(c.RAM, 0):
		return c, fmt.Errorf("memories %v: want sizes above 0", c.RAM)
	case !slices.Contains(Policies(), c.Policy):
		return c, fmt.Errorf("policy %q is not known: want one of %s", c.Policy, strings.Join(Policies(), ", "))
	}
	return c, nil
}

func (c *Config) capacity(i int) load.Capacity {
	return load.Capacity{CPUs: c.CPUs[i%len(c.CPUs)], Speed: c.Speeds[i%len(c.Speeds)]}
}

func (c *Config) ram(i int) uint64 { return c.RAM[i%len(c.RAM)] }

// power is what all nodes together do in a second.
func (c *Config) power() float64 {
	sum := 0.0
	for i := range c.Nodes {
		sum += c.capacity(i).Value()
	}
	return sum
}
