package sampler

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mosix/internal/config"
	"mosix/internal/procfs"
)

// TestMain lets the test binary play the processes that the tests measure.
func TestMain(m *testing.M) {
	switch os.Getenv("SAMPLER_TEST_ROLE") {
	case "":
		os.Exit(m.Run())
	case "spin":
		n, _ := strconv.Atoi(os.Getenv("SAMPLER_TEST_THREADS"))
		for range n - 1 {
			go spinForever()
		}
		spinForever()
	case "namespace":
		if err := insideNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func spinForever() {
	for {
		spin(1 << 20)
	}
}

// spinner is a process with that many threads that are always ready. It ends when the test does.
func spinner(threads int, attr *syscall.SysProcAttr) (*exec.Cmd, error) {
	if threads == 1 { // a Go program would have threads beside
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = attr
		return cmd, cmd.Start()
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SAMPLER_TEST_ROLE=spin", fmt.Sprintf("SAMPLER_TEST_THREADS=%d", threads), fmt.Sprintf("GOMAXPROCS=%d", threads))
	cmd.SysProcAttr = attr
	return cmd, cmd.Start()
}

func startSpinner(t testing.TB, threads int) int {
	t.Helper()
	cmd, err := spinner(threads, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// measure samples twice, so far apart that the waits of tasks, which count when they end, even out.
func measure(s *Sampler, begin time.Time) (Snapshot, error) {
	if _, err := s.Sample(time.Since(begin)); err != nil {
		return Snapshot{}, err
	}
	time.Sleep(1500 * time.Millisecond)
	return s.Sample(time.Since(begin))
}

func needSchedstat(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("needs a kernel with schedstat")
	}
}

// Ready tasks count 1 each, whether there is a processor for them or not.
func TestRealProcesses(t *testing.T) {
	needSchedstat(t)
	mine := map[int]int{startSpinner(t, 1): 1, startSpinner(t, 1): 1, startSpinner(t, 1): 1, startSpinner(t, 4): 4}
	s, err := New(Options{
		Config: config.Config{CPUs: 2}, Speed: 1, Follow: 200 * time.Millisecond,
		Exclude: func(pid int) bool { return mine[pid] == 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begin := time.Now()
	time.Sleep(500 * time.Millisecond)
	snap, err := measure(s, begin)
	if err != nil {
		t.Fatal(err)
	}
	if !near(snap.Ready, 7, 1.5) || !near(snap.Load, snap.Ready/2, 1e-9) {
		t.Errorf("seven busy threads are measured as %.2f ready tasks, load %.2f on two processors", snap.Ready, snap.Load)
	}
	if len(snap.Processes) != 4 {
		t.Fatalf("%d processes are reported, want 4: %+v", len(snap.Processes), snap.Processes)
	}
	for _, p := range snap.Processes {
		if want := float64(mine[p.PID]); !near(p.ReadyTasks, want, want/2) || p.CPU <= 0 || p.RSS == 0 || p.Age < 1500*time.Millisecond || p.Age > time.Minute {
			t.Errorf("process of %g busy threads is reported as %+v", want, p)
		}
	}
	if snap.MemTotal == 0 || snap.MemFree == 0 || snap.MemFree > snap.MemTotal {
		t.Errorf("memory %d total, %d free", snap.MemTotal, snap.MemFree)
	}
}

// A process that executes a program begins anew, however long it was there.
func TestExecutedIsYoung(t *testing.T) {
	needSchedstat(t)
	cmd := exec.Command("sh", "-c", "read go; exec awk 'BEGIN { while (1) n++ }'")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s, err := New(Options{Config: config.Config{CPUs: 2}, Speed: 1, Follow: time.Hour, Exclude: func(pid int) bool { return pid != cmd.Process.Pid }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begin := time.Now()
	look := func() []Process {
		t.Helper()
		time.Sleep(300 * time.Millisecond)
		snap, err := s.Sample(time.Since(begin))
		if err != nil {
			t.Fatal(err)
		}
		return snap.Young
	}
	for range youth + 2 {
		look()
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	found, last := 0, Process{}
	for range 5 * youth {
		for _, p := range look() {
			found, last = found+1, p
		}
	}
	if found == 0 || found > youth+1 {
		t.Errorf("it was young in %d looks after it had executed a program, want 1 to %d", found, youth+1)
	}
	if found > 0 && (!last.Young || !strings.Contains(last.Command, "awk") || last.Age < (youth+2)*300*time.Millisecond) {
		t.Errorf("it was reported as %+v", last)
	}
}

// Children are counted that are there at a look.
func TestChildren(t *testing.T) {
	needSchedstat(t)
	cmd := exec.Command("sh", "-c", "while sleep 0.2; do :; done")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s, err := New(Options{Config: config.Config{CPUs: 2}, Speed: 1, Follow: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begin, last := time.Now(), Process{}
	for range 8 {
		snap, err := s.Sample(time.Since(begin))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range snap.Processes {
			if p.PID == cmd.Process.Pid {
				last = p
			}
		}
		time.Sleep(300 * time.Millisecond)
	}
	if last.Children < 3 || last.Children > 12 {
		t.Errorf("one that makes a child five times a second was seen to make %d in 2 s", last.Children)
	}
}

// A task that its quota stops waits: it counts as ready.
func TestThrottledTasksAreReady(t *testing.T) {
	needSchedstat(t)
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := filepath.Join("/sys/fs/cgroup/cpu", fmt.Sprintf("mosix-sampler-test-%d", os.Getpid()))
	files := map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "30000"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		dir = filepath.Join("/sys/fs/cgroup", filepath.Base(dir))
		files = map[string]string{"cpu.max": "30000 100000"}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs a cgroup with the cpu controller: %v", err)
	}
	t.Cleanup(func() {
		for range 50 {
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s is left behind", dir)
	})
	for name, v := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(v), 0o644); err != nil {
			t.Skipf("needs a cgroup with the cpu controller: %v", err)
		}
	}
	mine := map[int]bool{}
	for range 3 {
		pid := startSpinner(t, 1)
		mine[pid] = true
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(Options{Config: config.Config{Cgroup: []string{dir}}, Speed: 1, Exclude: func(pid int) bool { return !mine[pid] }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begin := time.Now()
	time.Sleep(300 * time.Millisecond)
	snap, err := measure(s, begin)
	if err != nil {
		t.Fatal(err)
	}
	if !near(snap.Ready, 3, 0.8) {
		t.Errorf("three busy processes under a quota of 0.3 processors are measured as %.2f ready tasks", snap.Ready)
	}
	if !near(snap.CPUs, 0.3, 1e-9) || !near(snap.Load, snap.Ready/0.3, 1e-6) {
		t.Errorf("%.2f processors, load %.2f; want 0.3 and %.2f", snap.CPUs, snap.Load, snap.Ready/0.3)
	}
}

// In a node of the lab the sampler sees the processes of its own PID namespace and of those inside it, by their outer
// numbers, and nothing else.
func TestInsidePIDNamespace(t *testing.T) {
	needSchedstat(t)
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	startSpinner(t, 1) // another node's
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SAMPLER_TEST_ROLE=namespace")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("inside the namespace: %v", err)
	}
	var got struct {
		Native, Guest, Keeper int
		Snapshot              Snapshot
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if !near(got.Snapshot.Ready, 2, 0.5) {
		t.Errorf("%.2f ready tasks, want the native one and the guest: %+v", got.Snapshot.Ready, got.Snapshot)
	}
	if p := got.Snapshot.Processes; len(p) != 2 || p[0].PID != got.Native || p[1].PID != got.Guest {
		t.Errorf("reported %+v, want %d and %d", p, got.Native, got.Guest)
	}
}

// insideNamespace is process 1 of a namespace: the agent of a node, with one native process, one guest in a namespace
// of its own, and one keeper.
func insideNamespace() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	var got struct {
		Native, Guest, Keeper int
		Snapshot              Snapshot
	}
	for pid, flags := range map[*int]uintptr{&got.Native: 0, &got.Guest: syscall.CLONE_NEWPID, &got.Keeper: syscall.CLONE_NEWPID} {
		cmd, err := spinner(1, &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL})
		if err != nil {
			return err
		}
		*pid = cmd.Process.Pid
	}
	if got.Native > got.Guest {
		got.Native, got.Guest = got.Guest, got.Native
	}
	s, err := New(Options{
		FS: procfs.Default, Config: config.Config{CPUs: 1}, Speed: 1, Follow: 200 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Exclude: func(pid int) bool { return pid == got.Keeper },
	})
	if err != nil {
		return err
	}
	defer s.Close()
	begin := time.Now()
	time.Sleep(300 * time.Millisecond)
	if got.Snapshot, err = measure(s, begin); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// The cost of a sample beside 300 processes of which a few compute.
func BenchmarkSample300(b *testing.B) {
	needSchedstat(b)
	for range 300 {
		cmd := exec.Command("sleep", "3600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	s, err := New(Options{Config: config.Config{CPUs: 2}, Speed: 1, Follow: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var now time.Duration
	for range coldAfter + coldTurns {
		now += time.Second
		if _, err := s.Sample(now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	tasks := 0
	for b.Loop() {
		now += time.Second
		snap, err := s.Sample(now)
		if err != nil {
			b.Fatal(err)
		}
		tasks += snap.Tasks
	}
	b.ReportMetric(float64(len(s.procs)), "procs")
	b.ReportMetric(float64(tasks)/float64(b.N), "tasks-read/op")
}
