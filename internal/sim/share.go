package sim

import (
	"container/heap"
	"math"
	"time"

	"mosix/balancer/load"
	"mosix/internal/id"
)

// job is a process.
type job struct {
	id        id.Process
	n         int // in the order of their starts
	homeIndex int
	work      float64
	bytes     uint64
	born      time.Duration
	home      *node
	at        *node // nil: it is on its way, or has ended
	left      float64
	finish    float64 // by at's served, while it runs there
	place     int     // in at's heap

	arrived time.Duration // at at
	waited  time.Duration // ready in all, before it arrived there
	gone    []departure
	moves   int
	remote  bool // it was started on another node than its home
	boots   int  // of its home, when it began
	lost    bool // a crash has ended it
}

type departure struct {
	from *node
	at   time.Duration
}

// station is what computes: processors that are shared equally by the jobs that run, of which each can use one.
type station struct {
	loop     *loop
	capacity load.Capacity
	jobs     []*job  // a heap: the next to end first
	served   float64 // work that each job would have got that had been there from the beginning
	since    time.Duration
	ready    float64 // seconds of jobs that were here since it was last asked
	plan     uint64  // the newest planned end counts
	ended    func(*job)
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (s *station) Len() int           { return len(s.jobs) }
func (s *station) Less(i, k int) bool { return s.jobs[i].finish < s.jobs[k].finish }
func (s *station) Swap(i, k int) {
	s.jobs[i], s.jobs[k] = s.jobs[k], s.jobs[i]
	s.jobs[i].place, s.jobs[k].place = i, k
}

// Push implements heap.Interface.
func (s *station) Push(x any) {
	j := x.(*job)
	j.place = len(s.jobs)
	s.jobs = append(s.jobs, j)
}

// Pop implements heap.Interface.
func (s *station) Pop() any {
	last := len(s.jobs) - 1
	j := s.jobs[last]
	s.jobs[last] = nil
	s.jobs = s.jobs[:last]
	return j
}

// rate is the work per second that each job gets.
func (s *station) rate() float64 {
	if len(s.jobs) == 0 {
		return 0
	}
	cpus := s.capacity.CPUs
	if cpus <= 0 {
		cpus = 1
	}
	speed := s.capacity.Value() / cpus
	return speed * math.Min(1, cpus/float64(len(s.jobs)))
}

// advance brings served up to now.
func (s *station) advance() {
	dt := (s.loop.now - s.since).Seconds()
	s.served += s.rate() * dt
	s.ready += float64(len(s.jobs)) * dt
	s.since = s.loop.now
	if len(s.jobs) == 0 {
		s.served = 0 // it keeps its precision
	}
}

// add lets a job compute here.
func (s *station) add(j *job) {
	s.advance()
	j.finish = s.served + j.left
	heap.Push(s, j)
	s.replan()
}

// remove takes a job away.
func (s *station) remove(j *job) {
	s.advance()
	j.left = math.Max(0, j.finish-s.served)
	heap.Remove(s, j.place)
	s.replan()
}

// remains is the work that a job which runs here has still to do.
func (s *station) remains(j *job) float64 {
	return math.Max(0, j.finish-s.served-s.rate()*(s.loop.now-s.since).Seconds())
}

// replan plans the next end.
func (s *station) replan() {
	s.plan++
	if len(s.jobs) == 0 {
		return
	}
	plan, first := s.plan, s.jobs[0]
	wait := math.Max(0, first.finish-s.served) / s.rate()
	s.loop.after(time.Duration(math.Ceil(wait*1e9)), func() {
		if plan != s.plan {
			return
		}
		s.advance()
		heap.Remove(s, first.place)
		first.left = 0
		s.replan()
		s.ended(first)
	})
}
