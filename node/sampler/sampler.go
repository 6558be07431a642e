// Package sampler measures a node: its load, its memory, and the processes that use its processors. Its one invariant: load
// is measured, not sampled: what the kernel counts for each task (time on a processor and time spent waiting for one) is
// differenced over the period, so that nothing is lost of what runs between two looks and lives until the second.
//
// A process that begins and ends between two looks is not seen. The young processes that a look does find stand for
// those that it misses: they count with the share of their own short life in which they were ready.
//
// A thread that wakes up while a quota stops its group is ready until the quota lets it run. So a mostly sleeping thread
// counts for more under a quota than without, as it would for a user who waits for it.
package sampler

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"mosix/internal/config"
	"mosix/internal/procfs"
)

// Options of a Sampler.
type Options struct {
	FS     procfs.FS // zero: /proc
	Config config.Config
	// Exclude tells which processes are none of the node's load: keepers, and whatever else the agent made for itself. It
	// is asked once for each process and period. The agent itself is always left out.
	Exclude func(pid int) bool
	// Follow says how long a process must have been ready, in all, to be followed and reported. Default: 2 s.
	Follow time.Duration
	// Speed of a processor, 1 = standard. Default: calibrated, and kept in the state directory.
	Speed float64
	Log   *slog.Logger
}

// Snapshot is what Sample found.
type Snapshot struct {
	Load      float64 // ready tasks, averaged over the period, per unit of capacity
	Ready     float64 // the same, not divided by capacity
	CPUs      float64 // processors, or the share of them that a quota leaves
	Speed     float64 // of one processor
	MemTotal  uint64  // bytes
	MemFree   uint64  // bytes that can be had without paging
	Period    time.Duration
	Tasks     int       // tasks that were looked at
	Processes []Process // those that were ready for Options.Follow in all, by PID
	Young     []Process // those that began a moment ago, or executed a program then, were not ready for so long, and compute
}

// Process is one process that uses, or wants to use, the processors of this node. Guests are seen with the number that
// the sampler's own PID namespace gives to them.
type Process struct {
	PID        int
	Start      uint64 // clock ticks since boot: tells it from a later process of the same number
	Command    string
	State      byte // as in ps
	PPID       int
	Session    int
	TTY        int           // device number of its terminal; 0: none
	CPU        time.Duration // used so far, by all its threads
	Ready      time.Duration // on a processor or waiting for one, in all
	ReadyLast  time.Duration // of it, in the last period
	ReadyTasks float64       // its threads that were ready, averaged over the last period
	Age        time.Duration
	RSS        uint64 // bytes
	Threads    int
	Children   int  // that were seen to begin, in all
	Young      bool // it began a moment ago, or executed a program then, and computes
}

// Sampler measures a node, once per period. It is not safe for concurrent use.
type Sampler struct {
	opt     Options
	self    int // the agent's number in the PID namespace of /proc; 0: not known
	limits  limits
	speed   float64
	ordered atomic.Uint64 // bits of the speed that was set since; 0: none was
	files   files

	turn  int
	last  time.Duration // of the last Sample
	procs map[int]*process
}

// New prepares the measurement. The first calibration of the processor takes up to 100 ms.
func New(opt Options) (*Sampler, error) {
	if opt.FS.Root == "" {
		opt.FS = procfs.Default
	}
	if opt.Follow == 0 {
		opt.Follow = 2 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	s := &Sampler{
		opt: opt, speed: opt.Speed, limits: findLimits(opt.Config.Cgroup), procs: map[int]*process{},
		files: files{root: opt.FS.Root, buf: make([]byte, 16<<10)},
	}
	if s.speed <= 0 {
		var err error
		if s.speed, err = Speed(opt.Config.StateDir); err != nil {
			opt.Log.Warn("the speed of this node is not kept, and will be measured again at the next start", "speed", s.speed, "err", err)
		}
	}
	pids, err := s.files.pids()
	if err != nil {
		return nil, fmt.Errorf("measure load: list processes: %w; is /proc mounted at %s?", err, opt.FS.Root)
	}
	if l, err := os.Readlink(filepath.Join(opt.FS.Root, "self")); err == nil {
		s.self, _ = strconv.Atoi(l)
	}
	s.files.counts = len(pids) == 0 || slices.ContainsFunc(pids, func(pid int) bool {
		_, err := s.files.read(opt.FS.Path(pid, "schedstat"))
		return err == nil
	})
	if !s.files.counts {
		opt.Log.Warn("this kernel has no schedstat: load is the number of tasks that are ready when they are looked at", "proc", opt.FS.Root)
	}
	return s, nil
}

// Close gives the kept descriptors back.
func (s *Sampler) Close() {
	for pid := range s.procs {
		s.forget(pid)
	}
	s.files.close()
}

// Sample measures the period that ended at now, a reading of any clock that does not jump. The first call only begins:
// its load is 0, and it reports no process.
func (s *Sampler) Sample(now time.Duration) (Snapshot, error) {
	if v := s.ordered.Swap(0); v != 0 {
		s.speed = math.Float64frombits(v)
	}
	snap := Snapshot{Speed: s.speed, CPUs: s.cpus()}
	up, err := s.files.uptime()
	if err != nil {
		return snap, fmt.Errorf("measure load: %w", err)
	}
	pids, err := s.files.pids()
	if err != nil {
		return snap, fmt.Errorf("measure load: list processes: %w", err)
	}
	if s.turn++; s.turn > 1 {
		snap.Period = now - s.last
	}
	for _, pid := range pids {
		if pid != s.self {
			s.look(pid, now, up, &snap)
		}
	}
	for pid, p := range s.procs {
		if p.turn != s.turn {
			s.forget(pid)
		}
	}
	s.last = now
	snap.Load = snap.Ready / (snap.CPUs * snap.Speed)

	var rss uint64
	for _, p := range snap.Processes {
		rss += p.RSS
	}
	if snap.MemTotal, snap.MemFree, err = s.memory(rss); err != nil {
		return snap, fmt.Errorf("measure memory: %w", err)
	}
	return snap, nil
}

// SetSpeed sets the speed of a processor, from the next sample on.
func (s *Sampler) SetSpeed(v float64) { s.ordered.Store(math.Float64bits(v)) }
