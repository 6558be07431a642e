package sim

import (
	"math/rand/v2"
	"time"
)

// arrivals is the work that comes, which depends on nothing but the seed.
type arrivals struct {
	conf                     *Config
	rate                     float64 // jobs per second
	when, where, what, bytes *rand.Rand
}

func newArrivals(c *Config) *arrivals {
	stream := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(c.Seed, 1000+n)) }
	return &arrivals{conf: c, rate: c.Rho * c.power() / c.Lifetime.Mean(), when: stream(1), where: stream(2), what: stream(3), bytes: stream(4)}
}

// gap is the time until the next arrival: Poisson's.
func (a *arrivals) gap() time.Duration {
	return time.Duration(a.when.ExpFloat64() / a.rate * 1e9)
}

// home draws the node on which a job is started, as often in proportion to what the node can do.
func (a *arrivals) home() int {
	if len(a.conf.Speeds) == 1 && len(a.conf.CPUs) == 1 {
		return a.where.IntN(a.conf.Nodes)
	}
	at := a.where.Float64() * a.conf.power()
	for i := range a.conf.Nodes {
		if at -= a.conf.capacity(i).Value(); at < 0 {
			return i
		}
	}
	return a.conf.Nodes - 1
}

// draw makes job n, which is started on node home.
func (a *arrivals) draw(n, home int) *job {
	w := a.conf.Lifetime.Draw(a.what)
	return &job{n: n, homeIndex: home, work: w, left: w, bytes: uint64(a.conf.Memory.Draw(a.bytes))}
}
