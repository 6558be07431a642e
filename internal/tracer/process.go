package tracer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/region"
	"mosix/internal/stub"
)

// Process is a process some of whose threads are held.
type Process struct {
	PID     int
	Mem     *os.File // /proc/PID/mem: reads and writes also what the process itself may not
	Pidfd   *os.File
	Options int // of ptrace, for every thread seized from now on
	Code    *stub.Code
	Region  *region.Region // where injected calls run; nil before Plant
	Quit    func() bool    // while waiting for threads to stop: give up?
	NewTask int            // the thread or process that the last injected clone made
	// Unattended says that the process, at home, runs its own program: should this agent die in the middle of an injected call, that
	// is to go on (see epilogue).
	Unattended bool

	threads   map[int]*Thread
	hurried   map[socketTimeout]*hurried // timeouts of sockets that are shorter just now
	syscallAt mem.Addr                   // a syscall instruction in the process, for calls before Plant
	tail      mem.Addr                   // where its vDSO has room for what ends an injected call, when that was looked for
	uncaught  uint64                     // the signals that it did not catch when that was asked
	asked     bool
}

// Thread is a thread that is held.
type Thread struct {
	TID  int
	Proc *Process

	Regs  abi.Regs // as it stopped; Release puts them back
	Mask  uint64
	Stash []abi.Siginfo // signals that our stops took out of the kernel's queue; Release gives them back
	Taken int           // how many of Stash an image has
	Begun uint64        // how much of a transfer was done that a stop has ended, bytes
	Until int64         // when the wait would be over that a stop has ended, by CLOCK_MONOTONIC of home, ns; 0: no time was set

	Halted bool // it stopped because a signal has stopped the process

	after    func(late time.Time) // to be done when the thread runs again, not after late
	stopped  bool
	due      int    // the SIGSTOP for which it has stopped, and which it gets when it runs on: see resume
	injected bool   // the kernel has blocked its signals, for injected calls
	loose    bool   // calls were injected since it was put back
	mask     uint64 // that the kernel has for it, when not injected
}

// injectMask blocks every signal during injected calls but SIGTRAP: that one blocked, the trap that ends a batch would reset
// the program's action for it.
const injectMask = ^uint64(0) &^ (1 << (abi.SIGTRAP - 1))

// Open prepares to hold process pid. It does not touch it.
func Open(pid int, code *stub.Code) (*Process, error) {
	pidfd, err := kern.PidfdOpen(pid)
	if err != nil {
		if kern.IsGone(err) {
			err = fmt.Errorf("%w (%v)", ErrGone, err)
		}
		return nil, err
	}
	m, err := kern.OpenMem(pid)
	if err != nil {
		pidfd.Close()
		return nil, err
	}
	return &Process{PID: pid, Mem: m, Pidfd: pidfd, Code: code, threads: map[int]*Thread{}}, nil
}

// Close releases what is still held and closes the handles; the region stays in the process.
func (p *Process) Close() {
	for _, t := range p.Held() {
		_ = t.Release()
	}
	p.Mem.Close()
	p.Pidfd.Close()
}

// Held lists the threads that are held, the leader first.
func (p *Process) Held() []*Thread {
	out := make([]*Thread, 0, len(p.threads))
	for _, t := range p.threads {
		out = append(out, t)
	}
	sort.Slice(out, func(i, j int) bool {
		if l := out[i].TID == p.PID; l != (out[j].TID == p.PID) {
			return l
		}
		return out[i].TID < out[j].TID
	})
	return out
}

// Leader is the held thread-group leader, or nil.
func (p *Process) Leader() *Thread { return p.threads[p.PID] }

// Thread returns a held thread, or nil.
func (p *Process) Thread(tid int) *Thread { return p.threads[tid] }

// TIDs lists the process's threads as /proc has them, ascending.
func (p *Process) TIDs() ([]int, error) {
	es, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrGone, err)
	}
	var out []int
	for _, e := range es {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, n)
		}
	}
	sort.Ints(out)
	return out, nil
}

// seize attaches to tid. The kernel refuses a thread that has ended and is not collected as it refuses one that is traced: it is
// gone.
func seize(tid, options int) error {
	err := kern.Seize(tid, options)
	if errors.Is(err, kern.EPERM) && ended(tid) {
		return fmt.Errorf("%w, for the thread has ended (%w)", err, kern.ESRCH)
	}
	return err
}

func ended(tid int) bool {
	st, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tid))
	if err != nil {
		return true
	}
	i := bytes.LastIndex(st, []byte(") "))
	return i >= 0 && i+2 < len(st) && (st[i+2] == 'Z' || st[i+2] == 'X')
}

// Seize stops thread tid.
func (p *Process) Seize(tid int) (*Thread, error) { return p.SeizeWith(tid, nil) }

// SeizeWith stops thread tid; between asking for the stop and waiting for it, between is called: a guest that waits for the
// answer to a call stops only with it.
func (p *Process) SeizeWith(tid int, between func() error) (*Thread, error) {
	if err := seize(tid, p.Options); err != nil {
		return nil, gone(err)
	}
	if err := kern.Interrupt(tid); err != nil {
		return nil, gone(err)
	}
	if between != nil {
		if err := between(); err != nil {
			return nil, err
		}
	}
	t := &Thread{TID: tid, Proc: p}
	p.threads[tid] = t
	return t, t.awaitStop()
}

// Adopt takes over a thread that the kernel attached by itself: a child of an injected clone.
func (p *Process) Adopt(tid int) (*Thread, error) {
	t := &Thread{TID: tid, Proc: p}
	p.threads[tid] = t
	return t, t.awaitStop()
}

// SeizeAll stops every thread of the process, also those that are born meanwhile.
func (p *Process) SeizeAll() error { return p.SeizeAllWith(nil) }

// SeizeAllWith is SeizeAll; between the asking and the waiting, between is called.
func (p *Process) SeizeAllWith(between func() error) error {
	for {
		tids, err := p.TIDs()
		if err != nil {
			return err
		}
		var fresh []*Thread
		for _, tid := range tids {
			if p.threads[tid] != nil {
				continue
			}
			if err := seize(tid, p.Options); err != nil {
				if kern.IsGone(err) {
					continue
				}
				return err
			}
			t := &Thread{TID: tid, Proc: p}
			p.threads[tid] = t
			fresh = append(fresh, t)
		}
		if len(fresh) == 0 {
			if len(p.threads) == 0 {
				return ErrGone
			}
			return nil
		}
		for _, t := range fresh {
			if err := kern.Interrupt(t.TID); err != nil && !kern.IsGone(err) {
				return err
			}
		}
		if between != nil {
			if err := between(); err != nil {
				return err
			}
		}
		for _, t := range fresh {
			if err := t.awaitStop(); err != nil {
				if errors.Is(err, ErrGone) && t.TID != p.PID {
					delete(p.threads, t.TID)
					continue
				}
				return err
			}
		}
	}
}

// AwaitEnd waits until every held thread of a process that is being killed has ended. Its parent cannot collect it before.
func (p *Process) AwaitEnd() {
	for held := p.Held(); len(held) > 0; held = held[:len(held)-1] { // the leader last: it ends after all others
		t := held[len(held)-1]
		for {
			if _, err := wait(t.TID, nil); err != nil {
				break
			}
		}
		delete(p.threads, t.TID)
	}
}

func gone(err error) error {
	if kern.IsGone(err) {
		return fmt.Errorf("%w (%v)", ErrGone, err)
	}
	return err
}

// awaitStop waits for the stop that was asked for and remembers registers and mask.
func (t *Thread) awaitStop() error {
	s, err := wait(t.TID, t.Proc.Quit)
	if err != nil {
		return err
	}
	t.stopped, t.Halted = true, s.Kind == GroupStop
	if s.Kind == SignalStop {
		if err := t.keepSignal(); err != nil {
			return err
		}
	}
	if t.Regs, err = kern.GetRegs(t.TID); err != nil {
		return gone(err)
	}
	t.Mask, err = kern.GetSigMask(t.TID)
	t.mask = t.Mask
	return gone(err)
}

// keepSignal stashes the signal that the thread has stopped for: the kernel has already taken it out of its queue.
func (t *Thread) keepSignal() error {
	si, err := kern.GetSiginfo(t.TID)
	if err != nil {
		return gone(err)
	}
	switch {
	case si.Signo() == abi.SIGSTOP:
		t.due = abi.SIGSTOP
	case !comesAgain(si):
		t.Stash = append(t.Stash, si)
	}
	return nil
}

// resume returns the SIGSTOP that the thread is to get as it runs on, or 0. No mask keeps one away, so our stops meet it. The kernel then
// stops the process as far as others see it, while the thread goes on for us, and really when it is let go; unless a SIGCONT has come
// meanwhile, of which only the kernel knows.
func (t *Thread) resume() (sig int) {
	sig, t.due = t.due, 0
	return sig
}

// comesAgain reports whether a signal is an instruction's fault: the instruction has not been executed, and faults again, with
// all that the kernel tells of it, where it is executed next.
func comesAgain(si abi.Siginfo) bool {
	const siKernel = 0x80
	switch si.Signo() {
	case abi.SIGSEGV, abi.SIGILL, abi.SIGFPE:
		return si.Code() > 0 && si.Code() < siKernel
	case abi.SIGBUS:
		return si.Code() > 0 && si.Code() <= 3 // the others are broken memory
	}
	return false
}

// ReadMemory copies memory of the process into b; it reads also what the process itself may not.
func (p *Process) ReadMemory(a mem.Addr, b []byte) (int, error) {
	n, err := kern.ReadVM(p.PID, b, mem.Range{Start: a, End: a + mem.Addr(len(b))})
	if n < len(b) {
		return p.Mem.ReadAt(b, int64(a))
	}
	return n, err
}

// WriteMemory copies b into the process; it writes also through read-only pages.
func (p *Process) WriteMemory(a mem.Addr, b []byte) (int, error) { return p.Mem.WriteAt(b, int64(a)) }

// FindSyscall looks for a syscall instruction that the process has by itself: in its vDSO, or else where it stands.
func (p *Process) FindSyscall(t *Thread) error {
	if p.syscallAt != 0 {
		return nil
	}
	if aux, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", p.PID)); err == nil {
		for ; len(aux) >= 16; aux = aux[16:] {
			if binary.LittleEndian.Uint64(aux) != 33 { // AT_SYSINFO_EHDR
				continue
			}
			base := mem.Addr(binary.LittleEndian.Uint64(aux[8:]))
			b := make([]byte, 2*mem.PageSize)
			for len(b) > 0 {
				if n, err := kern.ReadVM(p.PID, b, mem.Range{Start: base, End: base + mem.Addr(len(b))}); err == nil && n == len(b) {
					break
				}
				b = b[:len(b)-mem.PageSize]
			}
			if i := bytes.Index(b, []byte{0x0f, 0x05}); i >= 0 {
				p.syscallAt = base + mem.Addr(i)
				return nil
			}
		}
	}
	// A thread that is in a call has just executed one.
	var b [2]byte
	if at := mem.Addr(t.Regs.RIP) - 2; t.Regs.OrigRAX != abi.NoCall {
		if _, err := p.ReadMemory(at, b[:]); err == nil && b == [2]byte{0x0f, 0x05} {
			p.syscallAt = at
			return nil
		}
	}
	if _, err := kern.GetRegs(t.TID); err != nil {
		return gone(err)
	}
	return fmt.Errorf("process %d has no vDSO and no thread in a system call: no instruction to make one with", p.PID)
}

// SetSyscall tells where a syscall instruction is, where the caller knows.
func (p *Process) SetSyscall(a mem.Addr) { p.syscallAt = a }
