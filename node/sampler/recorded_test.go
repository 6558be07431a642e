package sampler

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"mosix/internal/config"
	"mosix/internal/procfs"
)

// recorded is a /proc made of plain files, whose processes do what a test says.
type recorded struct {
	t    *testing.T
	root string
	up   time.Duration
}

func newRecorded(t *testing.T) *recorded {
	r := &recorded{t: t, root: t.TempDir(), up: 10 * time.Hour}
	r.write("meminfo", "MemTotal:        4194304 kB\nMemFree:          100000 kB\nMemAvailable:    2097152 kB\n")
	r.tick(0)
	return r
}

func (r *recorded) write(path, content string) {
	r.t.Helper()
	path = filepath.Join(r.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// tick lets time pass and returns the present time.
func (r *recorded) tick(d time.Duration) time.Duration {
	r.up += d
	r.write("uptime", fmt.Sprintf("%.2f 12345.67\n", r.up.Seconds()))
	return r.up
}

// start adds a process that was started that long ago.
func (r *recorded) start(pid int, age time.Duration, flags int) {
	line := fmt.Sprintf("%d (worker) S 1 %d %d 0 -1 %d 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 256 0\n", pid, pid, pid, flags, (r.up-age)/procfs.SchedTicks)
	r.write(fmt.Sprintf("%d/stat", pid), line)
	r.thread(pid, pid, 0, 0)
}

// thread sets the counters of a thread.
func (r *recorded) thread(pid, tid int, cpu, wait time.Duration) {
	s := fmt.Sprintf("%d %d 1\n", cpu, wait)
	if pid == tid {
		r.write(fmt.Sprintf("%d/schedstat", pid), s)
	}
	r.write(fmt.Sprintf("%d/task/%d/schedstat", pid, tid), s)
}

func (r *recorded) end(elem ...string) {
	if err := os.RemoveAll(filepath.Join(append([]string{r.root}, elem...)...)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *recorded) sampler(opt Options) *Sampler {
	r.t.Helper()
	opt.FS = procfs.FS{Root: r.root}
	if opt.Speed == 0 {
		opt.Speed = 1
	}
	if opt.Config.CPUs == 0 {
		opt.Config.CPUs = 2
	}
	opt.Log = slog.New(slog.DiscardHandler)
	s, err := New(opt)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(s.Close)
	return s
}

// sample takes a sample after a second.
func (r *recorded) sample(s *Sampler) Snapshot {
	r.t.Helper()
	snap, err := s.Sample(r.tick(time.Second))
	if err != nil {
		r.t.Fatal(err)
	}
	return snap
}

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance }

const ms = time.Millisecond

func TestLoadIsMeasured(t *testing.T) {
	r := newRecorded(t)
	for pid := 10; pid < 14; pid++ {
		r.start(pid, time.Hour, 0)
	}
	r.thread(10, 10, 500*time.Second, 0) // long ago
	s := r.sampler(Options{Speed: 2})
	if snap := r.sample(s); snap.Load != 0 || len(snap.Processes) != 0 {
		t.Fatalf("the first sample only begins, but found load %g and %d processes", snap.Load, len(snap.Processes))
	}
	r.thread(10, 10, 500*time.Second+600*ms, 400*ms)                                                 // runs and waits all the time
	r.thread(11, 11, 0, time.Second)                                                                 // stopped by a quota all the time
	r.thread(12, 12, 250*ms, 0)                                                                      // a quarter of it
	r.thread(13, 13, 100*ms, 100*ms)                                                                 // first thread,
	r.thread(13, 99, 300*ms, 0)                                                                      // and one that began since
	snap := r.sample(s)                                                                              //
	if want := 1 + 1 + 0.25 + 0.5; !near(snap.Ready, want, 1e-6) || !near(snap.Load, want/4, 1e-6) { // 2 CPUs of speed 2
		t.Errorf("ready %g, load %g; want %g, %g", snap.Ready, snap.Load, want, want/4)
	}
	if snap.Tasks != 5 || snap.Period != time.Second || snap.CPUs != 2 || snap.Speed != 2 {
		t.Errorf("snapshot %+v: want 5 tasks, a period of 1 s, 2 CPUs of speed 2", snap)
	}
	if len(snap.Processes) != 1 {
		t.Fatalf("%d processes are reported, want only the one that was ready for 2 s: %+v", len(snap.Processes), snap.Processes)
	}
	p := snap.Processes[0]
	if p.PID != 10 || p.CPU != 500*time.Second+600*ms || p.Ready != 501*time.Second || p.ReadyLast != time.Second || !near(p.ReadyTasks, 1, 1e-6) ||
		p.Age != time.Hour+2*time.Second || p.RSS != 1<<20 || p.Threads != 1 || p.Command != "worker" {
		t.Errorf("process 10 is reported as %+v", p)
	}

	// It ends; its descriptors are given back.
	r.end("10")
	if snap = r.sample(s); snap.Ready != 0 || len(snap.Processes) != 0 {
		t.Errorf("after it has ended: ready %g, processes %+v", snap.Ready, snap.Processes)
	}
	if s.files.open != 0 {
		t.Errorf("%d descriptors are kept for processes that have ended", s.files.open)
	}
}

// What a thread did stays with its process when the thread has ended.
func TestThreadsEnd(t *testing.T) {
	r := newRecorded(t)
	r.start(10, time.Hour, 0)
	r.thread(10, 20, 3*time.Second, time.Second)
	r.thread(10, 21, 0, 0)
	s := r.sampler(Options{})
	r.sample(s)
	r.end("10", "task", "20")
	r.thread(10, 21, 500*ms, 0)
	snap := r.sample(s)
	if len(snap.Processes) != 1 || !near(snap.Ready, 0.5, 1e-6) {
		t.Fatalf("ready %g, processes %+v; want 0.5 and one", snap.Ready, snap.Processes)
	}
	if p := snap.Processes[0]; p.CPU != 3500*ms || p.Ready != 4500*ms || p.ReadyLast != 500*ms || p.Threads != 2 {
		t.Errorf("after a thread has ended: %+v", p)
	}
}

// Processes that live for a moment only: those that a look finds stand for those that it missed.
func TestShortLivedProcessesCount(t *testing.T) {
	r := newRecorded(t)
	s := r.sampler(Options{})
	r.sample(s)
	// Four jobs at a time, each 100 ms long and ready all the time; at the look each of the four is some way through.
	var sum float64
	const looks = 20
	for i := range looks {
		for j := range 4 {
			pid := 100 + 4*i + j
			age := time.Duration(20*(j+1)) * ms
			r.start(pid, age-time.Second, 0) // sample lets a second pass first
			r.thread(pid, pid, age/2, age/2)
			if i > 0 {
				r.end(strconv.Itoa(pid - 4))
			}
		}
		sum += r.sample(s).Ready
	}
	if got := sum / looks; !near(got, 4, 0.2) {
		t.Errorf("four short jobs at a time are measured as %.2f ready tasks", got)
	}
}

func TestExcluded(t *testing.T) {
	r := newRecorded(t)
	keeper := map[int]bool{10: true, 11: true}
	for _, pid := range []int{10, 11, 12} {
		r.start(pid, time.Hour, 0)
		r.thread(pid, pid, 10*time.Second, 0)
	}
	if err := os.Symlink("12", filepath.Join(r.root, "self")); err != nil { // the agent
		t.Fatal(err)
	}
	s := r.sampler(Options{Exclude: func(pid int) bool { return keeper[pid] }})
	busy := func(sec int) {
		for _, pid := range []int{10, 11, 12} {
			r.thread(pid, pid, time.Duration(10+sec)*time.Second, 0)
		}
	}
	r.sample(s)
	busy(1)
	if snap := r.sample(s); snap.Ready != 0 || len(snap.Processes) != 0 {
		t.Errorf("excluded processes count: ready %g, %+v", snap.Ready, snap.Processes)
	}
	keeper[11] = false // a pooled process becomes a guest: what it did before is no load of this period
	busy(2)
	if snap := r.sample(s); snap.Ready != 0 {
		t.Errorf("what an excluded process did counts when it is included: ready %g", snap.Ready)
	}
	busy(3)
	if snap := r.sample(s); !near(snap.Ready, 1, 1e-6) || len(snap.Processes) != 1 || snap.Processes[0].PID != 11 {
		t.Errorf("ready %g, processes %+v; want 1 and process 11", snap.Ready, snap.Processes)
	}
}

// A process that does nothing is looked at less often, but found at once in the list, and nothing of what it does is lost.
func TestColdProcesses(t *testing.T) {
	r := newRecorded(t)
	for pid := 10; pid < 30; pid++ {
		r.start(pid, time.Hour, 0)
		r.thread(pid, pid, 5*time.Second, 0)
	}
	s := r.sampler(Options{})
	for range coldAfter + 1 {
		r.sample(s)
	}
	snap := r.sample(s)
	if snap.Tasks != 20/coldTurns {
		t.Errorf("%d of 20 idle tasks were looked at, want %d", snap.Tasks, 20/coldTurns)
	}
	if len(snap.Processes) != 20 {
		t.Errorf("%d of 20 idle processes are reported", len(snap.Processes))
	}
	var got float64
	cpu := 5 * time.Second
	for range 3 * coldTurns {
		cpu += time.Second
		r.thread(17, 17, cpu, 0)
		snap = r.sample(s)
		got += snap.Ready
	}
	if snap.Tasks < 20/coldTurns || !near(snap.Ready, 1, 1e-6) {
		t.Errorf("a process that woke up: %d tasks, ready %g; want it among them, ready all the time", snap.Tasks, snap.Ready)
	}
	if got < 2*coldTurns {
		t.Errorf("over %d periods a busy process counted %.1f", 3*coldTurns, got)
	}
}

func TestNumberUsedAgain(t *testing.T) {
	r := newRecorded(t)
	r.start(10, time.Hour, 0)
	r.thread(10, 10, 1500*ms, 0)
	s := r.sampler(Options{})
	r.sample(s)
	r.start(10, 0, 0)
	r.thread(10, 10, 200*ms, 0)
	r.sample(s)
	r.thread(10, 10, 700*ms, 0)
	r.sample(s)
	r.thread(10, 10, 1200*ms, 0)
	if snap := r.sample(s); !near(snap.Ready, 0.5, 1e-6) {
		t.Errorf("ready %g after the number was used again, want 0.5", snap.Ready)
	}
	if p := s.procs[10]; p.ready != 1200*ms {
		t.Errorf("the later process is known to have been ready for %s, want 1.2s", p.ready)
	}
}

func TestKernelThreadsCountButAreNotReported(t *testing.T) {
	r := newRecorded(t)
	r.start(2, time.Hour, 0x00200000)
	r.thread(2, 2, 10*time.Second, 0)
	s := r.sampler(Options{})
	r.sample(s)
	r.thread(2, 2, 10*time.Second+700*ms, 0)
	if snap := r.sample(s); !near(snap.Ready, 0.7, 1e-6) || len(snap.Processes) != 0 {
		t.Errorf("ready %g, processes %+v; want 0.7 and none", snap.Ready, snap.Processes)
	}
}

func TestWithoutSchedstat(t *testing.T) {
	r := newRecorded(t)
	state := func(pid int, st string) {
		line := fmt.Sprintf("%d (w) %s 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 256 0\n", pid, st, 10)
		r.write(fmt.Sprintf("%d/stat", pid), line)
		r.write(fmt.Sprintf("%d/task/%d/stat", pid, pid), line)
	}
	state(10, "R")
	state(11, "R")
	state(12, "S")
	s := r.sampler(Options{})
	r.sample(s)
	var snap Snapshot
	for range 12 {
		snap = r.sample(s)
	}
	if !near(snap.Ready, 2, 1e-6) || len(snap.Processes) != 2 {
		t.Errorf("ready %g, %d processes; want 2 and 2", snap.Ready, len(snap.Processes))
	}
}

func TestBrokenProc(t *testing.T) {
	if _, err := New(Options{FS: procfs.FS{Root: filepath.Join(t.TempDir(), "none")}, Speed: 1}); err == nil {
		t.Error("New without a /proc succeeds")
	}
	r := newRecorded(t)
	s := r.sampler(Options{})
	r.sample(s)
	r.end("uptime")
	if _, err := s.Sample(time.Hour); err == nil {
		t.Error("Sample without uptime succeeds")
	}
	r.tick(0)
	r.write("meminfo", "MemTotal: 12 kB\n")
	if _, err := s.Sample(time.Hour); err == nil {
		t.Error("Sample without MemAvailable succeeds")
	}
}

func TestLimits(t *testing.T) {
	const gib = 1 << 30
	v2 := map[string]string{
		"cgroup.procs": "", "lab/cgroup.procs": "", "lab/cpu.max": "50000 100000\n", "lab/memory.max": "1073741824\n",
		"lab/memory.current": "536870912\n", "lab/memory.stat": "anon 1\ninactive_file 268435456\nactive_file 5\n",
		"lab/guests/cgroup.procs": "", "lab/guests/cpu.max": "max 100000\n", "lab/guests/memory.max": "max\n",
		"lab/guests/memory.current": "104857600\n", "lab/guests/memory.stat": "anon 1\ninactive_file 0\n",
	}
	v1 := map[string]string{
		"cpu/cgroup.procs": "", "cpu/n1/cgroup.procs": "", "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
		"cpu/n1/cpu.cfs_quota_us": "25000\n", "cpu/n1/cpu.cfs_period_us": "100000\n",
		"memory/cgroup.procs": "", "memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "3000000000\n",
		"memory/memory.stat": "total_inactive_file 0\n", "memory/n1/cgroup.procs": "", "memory/n1/memory.limit_in_bytes": "536870912\n",
		"memory/n1/memory.usage_in_bytes": "134217728\n", "memory/n1/memory.stat": "inactive_file 7\ntotal_inactive_file 67108864\n",
	}
	tests := []struct {
		name        string
		files       map[string]string
		groups      []string
		cfg         config.Config
		cpus        float64 // 0: not looked at
		total, free uint64
	}{
		{"the machine", nil, nil, config.Config{}, 0, 4 * gib, 2 * gib},
		{"v2, limits above the group of the guests", v2, []string{"lab/guests"}, config.Config{}, 0.5, gib, gib/2 + gib/4},
		{"v1", v1, []string{"cpu/n1", "memory/n1"}, config.Config{}, 0.25, gib / 2, gib/2 - gib/8 + gib/16},
		{"a group that is not there", v2, []string{"elsewhere"}, config.Config{}, 0, 4 * gib, 2 * gib},
		{"the configuration goes first", v1, []string{"cpu/n1", "memory/n1"}, config.Config{CPUs: 3, Memory: gib / 4}, 3, gib / 4, gib/4 - gib/16},
		{"configured memory without a group", nil, nil, config.Config{Memory: gib}, 0, gib, gib},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRecorded(t)
			groups := t.TempDir()
			for name, content := range tt.files {
				path := filepath.Join(groups, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cfg := tt.cfg
			for _, g := range tt.groups {
				cfg.Cgroup = append(cfg.Cgroup, filepath.Join(groups, g))
			}
			s, err := New(Options{FS: procfs.FS{Root: r.root}, Config: cfg, Speed: 1, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			snap := r.sample(s)
			if snap.MemTotal != tt.total || snap.MemFree != tt.free {
				t.Errorf("memory %d total, %d free; want %d, %d", snap.MemTotal, snap.MemFree, tt.total, tt.free)
			}
			if tt.cpus != 0 && snap.CPUs != tt.cpus {
				t.Errorf("%g processors, want %g", snap.CPUs, tt.cpus)
			}
		})
	}
}

func TestSpeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := Speed(dir)
	if err != nil || !plausible(first) {
		t.Fatalf("Speed = %g, %v", first, err)
	}
	tests := []struct{ content, keeps string }{
		{"1 3.25\n", "3.25"},   // measured earlier
		{"set 0.50\n", "0.50"}, // ordered
		{"0 7.77\n", ""},       // by another kernel: measured again
		{"1 -5\n", ""},
		{"1 NaN\n", ""},
		{"garbage", ""},
	}
	for _, tt := range tests {
		if err := os.WriteFile(filepath.Join(dir, "speed"), []byte(tt.content), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := Speed(dir)
		want, _ := strconv.ParseFloat(tt.keeps, 64)
		if err != nil || tt.keeps != "" && got != want || tt.keeps == "" && (got == 7.77 || !plausible(got)) {
			t.Errorf("with %q kept: Speed = %g, %v", tt.content, got, err)
		}
	}
	if err := SetSpeed(dir, 1.5); err != nil {
		t.Fatal(err)
	}
	if got, err := Speed(dir); got != 1.5 || err != nil {
		t.Errorf("Speed = %g, %v after it was set to 1.5", got, err)
	}
	if err := SetSpeed(dir, -1); err == nil {
		t.Error("a negative speed is taken")
	}
	if err := SetSpeed(dir, 0); err != nil {
		t.Fatal(err)
	}
	if got, _ := Speed(dir); got == 1.5 {
		t.Error("a speed that was set outlives that it is measured again")
	}
}
