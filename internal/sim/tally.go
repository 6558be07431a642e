package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Result is what a run came to. Slowdown is response time divided by work; ages are in periods.
type Result struct {
	Policy                   string  `json:"policy"`
	Seed                     uint64  `json:"seed"`
	Nodes                    int     `json:"nodes"`
	Rho                      float64 `json:"rho"`
	Jobs                     int     `json:"jobs"` // that were counted
	MeanSlowdown             float64 `json:"mean_slowdown"`
	P50Slowdown              float64 `json:"p50_slowdown"`
	P99Slowdown              float64 `json:"p99_slowdown"`
	ShareAbove3              float64 `json:"share_above_3"`
	ShareAbove5              float64 `json:"share_above_5"`
	MeanResponseSeconds      float64 `json:"mean_response_seconds"`
	LastEndSeconds           float64 `json:"last_end_seconds"`
	MovesPerProcess          float64 `json:"moves_per_process"`
	MostMoves                int     `json:"most_moves"` // of one process
	RemoteStartsPerProcess   float64 `json:"remote_starts_per_process"`
	RefusalsPerProcess       float64 `json:"refusals_per_process"`
	LoadStddev               float64 `json:"load_stddev"`
	GossipAgeMean            float64 `json:"gossip_age_mean"`
	GossipAgeP99             float64 `json:"gossip_age_p99"`
	GossipAgeMax             float64 `json:"gossip_age_max"`
	GossipAgeOldest          float64 `json:"gossip_age_oldest"` // of what a node knows, on average
	GossipBytesPerNodeSecond float64 `json:"gossip_bytes_per_node_second"`
	MembershipBytes          float64 `json:"membership_bytes_per_node_second"`
	LostJobs                 int     `json:"lost_jobs"`
	OwnerReturns             int     `json:"owner_returns"` // to a machine with guests
	OwnerLeaveSeconds        float64 `json:"owner_leave_seconds"`
	MovesBetweenSites        float64 `json:"moves_between_sites_per_process"`
	SimulatedSeconds         float64 `json:"simulated_seconds"`
}

// tally counts.
type tally struct {
	conf      *Config
	first     int // the first job that counts
	slowdowns []float64
	response  float64
	counted   int // moves of jobs that count
	most      int
	remotely  int // jobs that count and were started elsewhere
	refused   int
	last      time.Duration
	spread    float64 // sum of the standard deviations
	looks     int
	ages      []float64
	oldest    float64
	oldests   float64 // sum of the oldest ages of the views that were looked at
	views     int
	bytes     float64
	rng       *rand.Rand // which messages are counted
	lost      int
	abroad    int       // moves between sites
	left      []float64 // seconds that the guests of a node took to go when its owner came
	ends      []Ended   // of all jobs that count
	points    []Point
}

// Ended is what became of a job.
type Ended struct {
	N        int // in the order of their starts
	Work     float64
	Response float64 // seconds
	Moves    int
}

// Point is the load of the nodes at a moment.
type Point struct {
	At           time.Duration
	Mean, Spread float64 // jobs per unit of capacity, and their standard deviation
	Most         float64
}

func (t *tally) init(c *Config) {
	t.conf, t.first = c, int(c.Warmup*float64(c.Jobs))
	t.rng = rand.New(rand.NewPCG(c.Seed, 3000))
	t.slowdowns = make([]float64, 0, c.Jobs-t.first)
}

func (t *tally) end(c *cluster, j *job) {
	if j.n < t.first || j.n >= t.conf.Jobs {
		return
	}
	r := (c.now - j.born).Seconds()
	t.slowdowns = append(t.slowdowns, r/j.work)
	t.ends = append(t.ends, Ended{j.n, j.work, r, j.moves})
	t.response += r
	t.last = c.now
	t.counted += j.moves
	t.most = max(t.most, j.moves)
	if j.remote {
		t.remotely++
	}
}

// look takes the spread of the loads, and the ages of what some nodes know.
func (t *tally) look(c *cluster) {
	if c.started < t.first {
		return
	}
	sum, squares, most := 0.0, 0.0, 0.0
	for _, n := range c.nodes {
		l := n.capacity.Of(float64(len(n.jobs)))
		sum += l
		squares += l * l
		most = max(most, l)
	}
	k := float64(len(c.nodes))
	spread := math.Sqrt(math.Max(0, squares/k-sum/k*sum/k))
	t.spread += spread
	t.looks++
	if len(t.points) < 1<<16 {
		t.points = append(t.points, Point{c.now, sum / k, spread, most})
	}
	const nodes, kept = 4, 1 << 20 // looked at each time; ages that are kept
	for range nodes {
		n := c.nodes[c.rng.IntN(len(c.nodes))]
		if n.gossip == nil || len(t.ages) > kept {
			return
		}
		old := 0.0
		for _, e := range n.gossip.View(n.clock()) {
			age := float64(e.Age) / float64(c.conf.Period)
			t.ages = append(t.ages, age)
			old = math.Max(old, age)
		}
		t.oldest = math.Max(t.oldest, old)
		t.oldests += old
		t.views++
	}
}

func (t *tally) result(c *cluster) Result {
	r := Result{Policy: t.conf.Policy, Seed: t.conf.Seed, Nodes: t.conf.Nodes, Rho: t.conf.Rho, Jobs: len(t.slowdowns),
		LastEndSeconds: t.last.Seconds(), SimulatedSeconds: c.now.Seconds(), MostMoves: t.most, GossipAgeMax: t.oldest}
	n := float64(len(t.slowdowns))
	slices.Sort(t.slowdowns)
	for _, s := range t.slowdowns {
		r.MeanSlowdown += s / n
		if s > 3 {
			r.ShareAbove3 += 1 / n
		}
		if s > 5 {
			r.ShareAbove5 += 1 / n
		}
	}
	r.P50Slowdown, r.P99Slowdown = quantile(t.slowdowns, 0.5), quantile(t.slowdowns, 0.99)
	r.MeanResponseSeconds = t.response / n
	r.MovesPerProcess, r.RemoteStartsPerProcess = float64(t.counted)/n, float64(t.remotely)/n
	r.LostJobs, r.MovesBetweenSites = t.lost, float64(t.abroad)/float64(max(c.started, 1))
	if r.OwnerReturns = len(t.left); len(t.left) > 0 {
		for _, s := range t.left {
			r.OwnerLeaveSeconds += s / float64(len(t.left))
		}
	}
	r.MembershipBytes = membership(len(c.nodes))
	r.RefusalsPerProcess = float64(t.refused) / float64(max(c.started, 1))
	if t.looks > 0 {
		r.LoadStddev = t.spread / float64(t.looks)
	}
	if len(t.ages) > 0 {
		for _, a := range t.ages {
			r.GossipAgeMean += a / float64(len(t.ages))
		}
		slices.Sort(t.ages)
		r.GossipAgeP99 = quantile(t.ages, 0.99)
		r.GossipAgeOldest = t.oldests / float64(t.views)
	}
	if s := c.now.Seconds() * float64(len(c.nodes)); s > 0 {
		r.GossipBytesPerNodeSecond = t.bytes / s
	}
	return r
}

// quantile of ascending numbers; 0 of none.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return v[min(len(v)-1, int(q*float64(len(v))))]
}
