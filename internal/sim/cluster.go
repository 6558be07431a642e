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
	sides    int // of the network, that were cut off

	entries []gossip.Entry  // scratch
	known   []balancer.Node // likewise
	tally   tally
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

	roster  *roster
	skew    time.Duration // of its clock
	site    int
	side    int     // of a network that is cut
	slow    float64 // by which its links are slower; 1 usually
	down    bool
	dead    bool // it is down, and others know
	boots   int
	present bool // its owner is there
}

// clock is what the node takes for the time.
func (n *node) clock() time.Duration { return n.loop.now + n.skew }

// Run plays c.
func Run(conf Config) (Result, error) {
	c, err := play(conf)
	if err != nil {
		return Result{}, err
	}
	return c.tally.result(c), nil
}

// Story is what happened in a run.
type Story struct {
	Ended []Ended // of the jobs that count, in the order of their ends
	Loads []Point // once per period
}

// Tell plays c and tells what happened.
func Tell(conf Config) (Result, Story, error) {
	c, err := play(conf)
	if err != nil {
		return Result{}, Story{}, err
	}
	return c.tally.result(c), Story{c.tally.ends, c.tally.points}, nil
}

func play(conf Config) (*cluster, error) {
	conf, err := conf.withDefaults()
	if err != nil {
		return nil, err
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
	shared := &roster{c: c}
	for i, n := range c.nodes {
		n.roster, n.slow, n.site = shared, 1, i*max(1, conf.Sites)/len(c.nodes)
	}
	shared.change()
	c.trouble()
	c.driver.begin(c)
	c.open = c.conf.Jobs
	switch {
	case len(conf.Trace) > 0:
		for k, w := range conf.Trace {
			c.at(w.At, func() {
				c.start(&job{n: k, homeIndex: w.Home, work: w.Work, left: w.Work, bytes: w.Bytes})
			})
		}
	case conf.Batch:
		for k, i := range c.rng.Perm(conf.Jobs) {
			c.start(c.arrivals.draw(k, i%len(c.nodes)))
		}
	default:
		c.after(c.arrivals.gap(), c.arrive)
	}
	c.after(c.conf.Period, c.observe)
	for c.open > 0 && c.step() {
	}
	return c, nil
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
	for i := range c.nodes { // who finds a machine down goes to the next
		if j.home = c.nodes[(min(j.homeIndex, len(c.nodes)-1)+i)%len(c.nodes)]; !j.home.down {
			break
		}
	}
	j.boots = j.home.boots
	j.id = id.Process{Home: j.home.name, PID: id.HomePID(j.n + 100), Start: uint64(j.n)}
	if j.home.down {
		c.lose(j)
		return
	}
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
	c.finish(n, j)
	if len(n.jobs) == 0 {
		c.driver.idle(c, n)
	}
}

// finish lets the home of a job know that it has ended on n. That waits for the network.
func (c *cluster) finish(n *node, j *job) {
	switch {
	case j.orphaned() || n.down && n != j.home:
		c.lose(j)
	case !c.reach(n, j.home):
		c.after(unheard, func() { c.finish(n, j) })
	default:
		j.home.history.n++
		j.home.history.sum += j.work
		if j.n < c.conf.Jobs {
			c.open--
		}
		c.tally.end(c, j)
	}
}

// move stops a job, and lets it go on at to when what that costs is over; or where it was, if to cannot be reached then.
func (c *cluster) move(j *job, to *node, done func(arrived bool)) {
	cost := c.cost(j.at, to, j.bytes)
	from := c.halt(j)
	c.after(cost, func() {
		switch {
		case j.orphaned():
			c.lose(j)
			done(false)
		case c.reach(from, to):
			j.moves++
			j.gone = append(j.gone, departure{from, c.now - cost})
			if from.site != to.site {
				c.tally.abroad++
			}
			c.run(j, to)
			done(true)
		case from.down:
			c.lose(j)
			done(false)
		default:
			c.run(j, from)
			done(false)
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
		switch {
		case j.orphaned():
			c.lose(j)
		case c.reach(j.home, n):
			c.run(j, n)
		default:
			j.remote = false
			c.run(j, j.home)
		}
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

// message lets do happen when a message that is sent now arrives, or lost, which may be nil, when nobody waits for it any more.
func (c *cluster) message(from, to *node, do, lost func()) {
	c.after(c.delay(from, to), func() {
		if c.reach(from, to) {
			do()
		} else if lost != nil {
			c.after(unheard, lost)
		}
	})
}

// delay is how long a message is on its way.
func (c *cluster) delay(from, to *node) time.Duration {
	d := c.conf.Latency
	if from.site != to.site {
		d = c.conf.WANLatency
	}
	return time.Duration(float64(d) * max(from.slow, to.slow) * (0.5 + c.rng.Float64()))
}

// cost is how long a move between two nodes stops a job.
func (c *cluster) cost(from, to *node, bytes uint64) time.Duration {
	b := c.conf.Bandwidth
	if from.site != to.site {
		b = min(b, c.conf.WANBandwidth)
	}
	return c.conf.Fixed + time.Duration(float64(bytes)*max(from.slow, to.slow)/b*1e9)
}
