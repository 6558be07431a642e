package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"mosix/balancer"
	"mosix/balancer/load"
	"mosix/gossip"
	"mosix/internal/id"
)

// cluster is one run.
type cluster struct {
	loop
	conf   Config
	rng    *rand.Rand // of the world; the work has one of its own, so that all policies get the same
	nodes  []*node
	byName map[id.Node]*node
	driver driver

	arrivals *arrivals
	started  int
	open     int // jobs that count and have not ended
	tally    tally
}

// driver is what places jobs and moves them: agents, or a yardstick.
type driver interface {
	// begin is called once, before anything arrives.
	begin(c *cluster)
	// place lets a job that has just been started at its home run somewhere.
	place(c *cluster, j *job)
	// idle is called when a node has no job any more.
	idle(c *cluster, n *node)
}

// node is a machine with its agent.
type node struct {
	station
	i      int
	name   id.Node
	booked int    // jobs that are to come here
	memory uint64 // of the jobs that are here

	meter    load.Meter
	sampled  time.Duration
	gossip   *gossip.Machine
	policy   balancer.Policy
	rng      *rand.Rand
	attempts []balancer.Attempt
	costs    balancer.Costs
	history  history
	pulling  bool // it has asked for work
}

// Run plays c.
func Run(conf Config) (Result, error) {
	conf, err := conf.withDefaults()
	if err != nil {
		return Result{}, err
	}
	c := &cluster{conf: conf, rng: rand.New(rand.NewPCG(conf.Seed, 1)), byName: map[id.Node]*node{}}
	c.arrivals = newArrivals(&c.conf)
	c.tally.init(&c.conf)
	switch conf.Policy {
	case "fluid":
		c.driver = fluid{}
		c.addNode(load.Capacity{CPUs: conf.power(), Speed: 1})
	case "jsq":
		c.driver = &placer{}
	case "oracle":
		c.driver = &placer{steals: true}
	default:
		c.driver = agents{}
	}
	if len(c.nodes) == 0 {
		for i := range conf.Nodes {
			c.addNode(conf.capacity(i))
		}
	}
	c.driver.begin(c)
	c.open = c.conf.Jobs
	if conf.Batch {
		for k, i := range c.rng.Perm(conf.Jobs) {
			c.start(c.arrivals.draw(k, i%len(c.nodes)))
		}
	} else {
		c.after(c.arrivals.gap(), c.arrive)
	}
	c.after(c.conf.Period, c.observe)
	for c.open > 0 && c.step() {
	}
	return c.tally.result(c), nil
}

func (c *cluster) addNode(capacity load.Capacity) {
	i := len(c.nodes)
	n := &node{i: i, name: id.Node(fmt.Sprintf("n%d", i+1))}
	n.station = station{loop: &c.loop, capacity: capacity}
	n.ended = func(j *job) { c.ended(n, j) }
	c.nodes = append(c.nodes, n)
	c.byName[n.name] = n
}

// arrive starts a job, and plans the next: also when those that count have all been started, so that they end in the same company.
func (c *cluster) arrive() {
	c.start(c.arrivals.draw(c.started, c.arrivals.home()))
	c.after(c.arrivals.gap(), c.arrive)
}

func (c *cluster) start(j *job) {
	c.started++
	j.born = c.now
	j.home = c.nodes[min(j.homeIndex, len(c.nodes)-1)]
	j.id = id.Process{Home: j.home.name, PID: id.HomePID(j.n + 100), Start: uint64(j.n)}
	c.driver.place(c, j)
}

// run lets a job compute on n from now on.
func (c *cluster) run(j *job, n *node) {
	j.at, j.arrived = n, c.now
	n.memory += j.bytes
	n.add(j)
}

// halt takes a job from where it runs.
func (c *cluster) halt(j *job) *node {
	n := j.at
	n.remove(j)
	n.memory -= j.bytes
	j.waited += c.now - j.arrived
	j.at = nil
	return n
}

func (c *cluster) ended(n *node, j *job) {
	n.memory -= j.bytes
	j.at = nil
	j.home.history.n++
	j.home.history.sum += j.work
	if j.n < c.conf.Jobs {
		c.open--
	}
	c.tally.end(c, j)
	if len(n.jobs) == 0 {
		c.driver.idle(c, n)
	}
}

// move stops a job, and lets it go on at to when what that costs is over.
func (c *cluster) move(j *job, to *node, done func()) {
	from := c.halt(j)
	j.moves++
	j.gone = append(j.gone, departure{from, c.now})
	c.after(c.conf.cost(j.bytes), func() {
		c.run(j, to)
		if done != nil {
			done()
		}
	})
	if len(from.jobs) == 0 {
		c.driver.idle(c, from)
	}
}

// startAt begins a job on n, which costs if that is not its home.
func (c *cluster) startAt(j *job, n *node, done func()) {
	if n == j.home {
		c.run(j, n)
		if done != nil {
			done()
		}
		return
	}
	j.remote = true
	c.after(c.conf.RemoteStart, func() {
		c.run(j, n)
		if done != nil {
			done()
		}
	})
}

// observe looks at the whole, once per period.
func (c *cluster) observe() {
	c.tally.look(c)
	c.after(c.conf.Period, c.observe)
}

// message lets do happen when a message that is sent now arrives.
func (c *cluster) message(do func()) {
	c.after(time.Duration(float64(c.conf.Latency)*(0.5+c.rng.Float64())), do)
}
