package freeze

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mosix/internal/kern"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// childEnv makes the test binary a program that waits, or one that only computes.
const childEnv = "FREEZE_TEST_CHILD"

const waitFor = 60 * time.Millisecond

// computed is what a program that only computes counts in.
var computed atomic.Uint64

func TestMain(m *testing.M) {
	switch name, path, _ := strings.Cut(os.Getenv(childEnv), " "); name {
	case "waits":
		runtime.LockOSThread()
		waitsAndSays(path)
	case "computes":
		for n := uint64(0); ; n++ {
			computed.Store(n)
		}
	}
	os.Exit(m.Run())
}

// shared maps the file in which the program says when its wait began, by CLOCK_MONOTONIC; 0 while it computes.
func shared(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(8); err != nil {
		return nil, err
	}
	return syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}

func waitsAndSays(path string) {
	b, err := shared(path)
	if err != nil {
		panic(err)
	}
	ep, err := syscall.EpollCreate1(0)
	if err != nil {
		panic(err)
	}
	var ev [1]syscall.EpollEvent
	for {
		for end := time.Now().Add(15 * time.Millisecond); time.Now().Before(end); {
		}
		binary.LittleEndian.PutUint64(b, uint64(kern.Now(kern.ClockMonotonic)))
		_, _ = syscall.EpollWait(ep, ev[:], int(waitFor/time.Millisecond))
		binary.LittleEndian.PutUint64(b, 0)
	}
}

// TestWaitsNeverEndEarly: a wait is never found to end before it does. Linux 6.12 and newer forget when a thread fell asleep that
// they move to another processor before its time on the old one is over, which happens on busy machines.
func TestWaitsNeverEndEarly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "began")
	b, err := shared(path)
	if err != nil {
		t.Fatal(err)
	}
	start := func(what string) *exec.Cmd {
		c := exec.Command("/proc/self/exe")
		c.Env = append(os.Environ(), childEnv+"="+what)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = c.Process.Kill()
			_ = c.Wait()
		})
		return c
	}
	victim, hog := start("waits "+path), start("computes")
	var cpus []int // on which it may run
	for cpu := 0; cpu < 1024 && len(cpus) < 2; cpu++ {
		if kern.Pin(hog.Process.Pid, cpu) == nil {
			cpus = append(cpus, cpu)
		}
	}
	pin := func(pid, cpu int) {
		if err := kern.Pin(pid, cpu); err != nil {
			t.Fatal(err)
		}
	}
	pin(hog.Process.Pid, cpus[0])
	p, err := tracer.Open(victim.Process.Pid, stub.Load())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	found, forgotten := 0, 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		pin(p.PID, cpus[0])
		for range 200 { // until it computes
			if binary.LittleEndian.Uint64(b) == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		for range 2000 {
			if binary.LittleEndian.Uint64(b) != 0 {
				break
			}
			time.Sleep(50 * time.Microsecond)
		}
		pin(p.PID, cpus[len(cpus)-1])
		time.Sleep(5 * time.Millisecond)
		began := binary.LittleEndian.Uint64(b)
		s, err := tracer.SleepOf(p.PID, p.PID)
		if err != nil {
			t.Fatal(err)
		}
		w, ok := Waiting(p, []int{p.PID})[p.PID]
		if !ok || began == 0 || binary.LittleEndian.Uint64(b) != began {
			continue
		}
		found++
		if s.Began == 0 {
			forgotten++
		}
		if early := int64(began) + int64(waitFor) - w.until; early > int64(time.Millisecond) {
			t.Errorf("a wait that ends in %v was found to end %v before (the kernel says that it began at %v)",
				time.Duration(int64(began)+int64(waitFor)-kern.Now(kern.ClockMonotonic)), time.Duration(early), s.Began)
		}
	}
	t.Logf("%d waits; of %d the kernel had forgotten when they began", found, forgotten)
	if found == 0 {
		t.Error("no wait was found")
	}
}
