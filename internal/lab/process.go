package lab

import (
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// child is a process that the init started.
type child struct {
	pid    int
	done   chan struct{} // closed when the init has reaped it
	status syscall.WaitStatus
}

// ended says how c ended, if it has.
func (c *child) ended() (st syscall.WaitStatus, ended bool) {
	select {
	case <-c.done:
		return c.status, true
	default:
		return 0, false
	}
}

// processes reaps everything that becomes a child of PID 1 and tells those that the init itself started how they ended.
type processes struct {
	log *slog.Logger

	mu       sync.Mutex
	live     map[int]*child
	starting int                        // starts under way: their process may end before it is known in live
	early    map[int]syscall.WaitStatus // ends seen while starting > 0 that belong to nobody in live
}

func newProcesses(log *slog.Logger) *processes {
	p := &processes{log: log, live: map[int]*child{}, early: map[int]syscall.WaitStatus{}}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	go func() {
		for range c {
			p.reap()
		}
	}()
	return p
}

// reap takes every status that is there. It holds the lock meanwhile, so that a number in live is never one that the kernel
// may have given to another process.
func (p *processes) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var st syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c := p.live[pid]; c != nil {
			delete(p.live, pid)
			c.status = st
			close(c.done)
		} else if p.starting > 0 {
			p.early[pid] = st
		}
	}
}

// start runs fork, which starts a process, without holding the lock: under a CPU quota a fork may take its time.
func (p *processes) start(fork func() (pid int, err error)) (*child, error) {
	p.mu.Lock()
	p.starting++
	p.mu.Unlock()
	pid, err := fork()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
	defer func() {
		if p.starting == 0 {
			clear(p.early)
		}
	}()
	if err != nil {
		return nil, err
	}
	c := &child{pid: pid, done: make(chan struct{})}
	if st, ended := p.early[pid]; ended {
		delete(p.early, pid)
		c.status = st
		close(c.done)
	} else {
		p.live[pid] = c
	}
	return c, nil
}

// signal sends sig to target, which is c's number or minus that number for its group, unless c has ended.
func (p *processes) signal(c *child, target int, sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live[c.pid] != c {
		return
	}
	if err := syscall.Kill(target, sig); err != nil {
		p.log.Error("send a signal", "to", target, "signal", sig, "err", err)
	}
}

// inCgroups runs fork so that its process is in dirs from its first instruction. v2 takes the directory along with clone
// (the argument of fork, -1 for none); v1 does not, so there a thread of its own enters the groups, forks, and dies.
func inCgroups(dirs []cgroupDir, fork func(cgroupFD int) (int, error)) (pid int, err error) {
	fd := -1
	var v1 []string
	for _, d := range dirs {
		if !d.V2 {
			v1 = append(v1, filepath.Join(d.Path, "tasks"))
			continue
		}
		f, err := os.Open(d.Path)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		fd = int(rawFD(f))
	}
	if len(v1) == 0 {
		return fork(fd)
	}
	onDyingThread(func() {
		for _, tasks := range v1 {
			if err = writeCgroup(tasks, "0"); err != nil { // 0: the writing thread
				return
			}
		}
		pid, err = fork(fd)
	})
	return pid, err
}

// onDyingThread runs do on a thread that ends with it. The runtime makes its new threads from a clean one meanwhile. The
// main thread is spared, because the kernel takes it for the process in places.
func onDyingThread(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if syscall.Gettid() == syscall.Getpid() {
			onDyingThread(do)
			runtime.UnlockOSThread()
			return
		}
		do()
	}()
	<-done
}

// rawFD is f's descriptor, left as non-blocking as it is. The caller keeps f open.
func rawFD(f *os.File) uintptr {
	n := ^uintptr(0) // no descriptor: what a closed file has
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { n = fd }) // fails on a closed file only
	}
	return n
}
