package tracer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/region"
	"mosix/internal/stub"
)

// ErrSpoiled says that the code that makes calls in a process is not there any more, or is not ours: no call can be made in it.
var ErrSpoiled = errors.New("the code for injected calls is spoiled")

// begin blocks the thread's signals for the time of injected calls that end with e.
func (t *Thread) begin(e end) error {
	mask := injectMask
	if e.sig != 0 {
		mask &^= abi.SigBit(e.sig)
	}
	if err := kern.SetSigMask(t.TID, mask); err != nil {
		return gone(err)
	}
	t.injected, t.loose = true, true
	return nil
}

// settle gives the thread its own registers and mask between injected calls too: should this agent die here, the kernel lets
// the thread run on, and it must be itself then.
func (t *Thread) settle() error {
	if err := kern.SetRegs(t.TID, &t.Regs); err != nil {
		return gone(err)
	}
	if err := kern.SetSigMask(t.TID, t.Mask); err != nil {
		return gone(err)
	}
	t.injected, t.mask = false, t.Mask
	return nil
}

const trapFlag = 1 << 8 // TF: a trap after each instruction

// runTo continues the thread with regs r until it stops as e says, and returns its registers.
func (t *Thread) runTo(r abi.Regs, e end) (abi.Regs, error) {
	stop, last := e.at, abi.SIGTRAP
	if e.sig != 0 {
		last = e.sig
	}
	if err := t.begin(e); err != nil {
		return r, err
	}
	r.EFlags &^= trapFlag // a program that steps itself does not step us
	if err := kern.SetRegs(t.TID, &r); err != nil {
		return r, gone(err)
	}
	for faults := 0; ; {
		var err error
		if stop == 0 {
			err = kern.Step(t.TID, t.resume())
		} else {
			err = kern.Cont(t.TID, t.resume())
		}
		if err != nil {
			return r, gone(err)
		}
		s, err := wait(t.TID, nil)
		if err != nil {
			return r, err
		}
		switch s.Kind {
		case SignalStop:
			cur, err := kern.GetRegs(t.TID)
			if err != nil {
				return r, gone(err)
			}
			if s.Signal != last || e.sig != 0 && mem.Addr(cur.RIP) != stop {
				if s.Signal == abi.SIGSEGV || s.Signal == abi.SIGBUS || s.Signal == abi.SIGILL {
					// The trap that ends a call also brings out a fault that the program had just when it was stopped, although it
					// is blocked; one of the call's own comes again and again.
					if faults++; faults > 3 {
						return r, fmt.Errorf("%w: it faulted with signal %d at %#x in %d", ErrSpoiled, s.Signal, cur.RIP, t.TID)
					}
				}
				if err := t.keepSignal(); err != nil {
					return r, err
				}
				if stop == 0 && cur.RIP == r.RIP {
					if err := kern.SetRegs(t.TID, &r); err != nil {
						return r, gone(err)
					}
				}
				continue
			}
			if stop != 0 && mem.Addr(cur.RIP) != stop {
				return r, fmt.Errorf("%w: it trapped at %#x instead of %#x in %d", ErrSpoiled, cur.RIP, uint64(stop), t.TID)
			}
			return cur, t.settle()
		case Event:
			if s.Event == kern.EventClone || s.Event == kern.EventFork || s.Event == kern.EventVfork {
				n, err := kern.EventMsg(t.TID)
				if err != nil {
					return r, gone(err)
				}
				t.Proc.NewTask = int(n)
			}
			if s.Event == kern.EventExec {
				return r, errExecuted
			}
			if stop == 0 {
				continue // the step goes on
			}
		case Interrupted, GroupStop, SyscallStop:
			if stop == 0 { // the step was not made
				if err := kern.SetRegs(t.TID, &r); err != nil {
					return r, gone(err)
				}
			}
		}
	}
}

// Call makes the thread execute one system call with everything in registers, and returns what the kernel returned.
func (t *Thread) Call(nr uint64, args ...uint64) (int64, error) {
	r := t.Regs
	r.SetCall(nr, args...)
	e, ok := t.unattended()
	if g := t.Proc.Region; ok {
		r.RIP = uint64(e.code)
	} else if g != nil {
		r.RIP = uint64(g.At(t.Proc.Code.At.Single))
		e.at = mem.Addr(r.RIP) + 3
	} else {
		if err := t.Proc.FindSyscall(t); err != nil {
			return 0, err
		}
		r.RIP = uint64(t.Proc.syscallAt)
	}
	out, err := t.runTo(r, e)
	if ok {
		return int64(out.R15), err
	}
	return int64(out.RAX), err
}

// errExecuted says that the call was an execve that succeeded.
var errExecuted = errors.New("the process executes another program")

// Exec makes the only thread of a process execute a program: args are the registers of execveat. When it succeeds the thread stands,
// still held, before the first instruction of the new program, with signal mask t.Mask, and nothing of ours is in it.
func (t *Thread) Exec(args ...uint64) (ret int64, done bool, err error) {
	if err := kern.SetOptions(t.TID, kern.OptTraceExec); err != nil {
		return 0, false, gone(err)
	}
	ret, err = t.Call(abi.SysExecveat, args...)
	if !errors.Is(err, errExecuted) {
		return ret, false, errors.Join(err, kern.SetOptions(t.TID, 0))
	}
	t.Proc.Region, t.Proc.syscallAt = nil, 0
	// The stop lies inside of the call, which would overwrite a register on its way out.
	if err := kern.Interrupt(t.TID); err != nil {
		return 0, true, gone(err)
	}
	if err := kern.Cont(t.TID, t.resume()); err != nil {
		return 0, true, gone(err)
	}
	mask := t.Mask
	if err := t.awaitStop(); err != nil {
		return 0, true, err
	}
	t.Mask, t.mask, t.injected, t.loose = mask, injectMask, true, true
	return 0, true, kern.SetOptions(t.TID, 0)
}

// MustCall is Call for calls that do not fail on a healthy process: a negative result is an error that names the call.
func (t *Thread) MustCall(what string, nr uint64, args ...uint64) (uint64, error) {
	ret, err := t.Call(nr, args...)
	if err != nil {
		return 0, fmt.Errorf("inject %s into %d: %w", what, t.TID, err)
	}
	if abi.IsErr(ret) {
		return 0, fmt.Errorf("inject %s into %d: %w", what, t.TID, kern.Errno(-ret))
	}
	return uint64(ret), nil
}

// NewCall makes a row for Batch.
func NewCall(nr uint64, args ...uint64) stub.Call {
	c := stub.Call{Nr: nr}
	copy(c.Args[:], args)
	return c
}

// Batch makes the thread execute calls, in order, without coming back to us between them, and returns their results. The
// table lies in memory that the process shares: in a process that may be hostile, every thread must be held.
func (t *Thread) Batch(calls []stub.Call) ([]int64, error) {
	g := t.Proc.Region
	out := make([]int64, 0, len(calls))
	for len(calls) > 0 {
		n := min(len(calls), stub.TableCalls)
		g.PutCalls(calls[:n])
		r := t.Regs
		r.RIP = uint64(g.At(t.Proc.Code.At.Batch))
		e, ok := t.unattended()
		if !ok {
			e.at = g.At(t.Proc.Code.At.BatchEnd)
		}
		r.R15, r.R14, r.R13, r.OrigRAX = uint64(g.Addr(stub.TableOff)), uint64(n), uint64(e.code), abi.NoCall
		if ok {
			r.R13 += syscallSize // it has made its calls
		}
		r.RSP = uint64(g.Addr(stub.ScratchOff)) // the alternate signal stack can be given up only by who is not on it
		if _, err := t.runTo(r, e); err != nil {
			return out, err
		}
		for i := range n {
			out = append(out, g.Returned(i))
		}
		calls = calls[n:]
	}
	return out, nil
}

// MustBatch is Batch for calls none of which fails on a healthy process.
func (t *Thread) MustBatch(what string, calls []stub.Call) ([]int64, error) {
	out, err := t.Batch(calls)
	if err != nil {
		return out, fmt.Errorf("inject %s into %d: %w", what, t.TID, err)
	}
	for i, ret := range out {
		if abi.IsErr(ret) {
			return out, fmt.Errorf("inject %s into %d: call %d of %d, number %d(%#x, %#x, %#x, %#x): %w", what, t.TID, i+1, len(calls),
				calls[i].Nr, calls[i].Args[0], calls[i].Args[1], calls[i].Args[2], calls[i].Args[3], kern.Errno(-ret))
		}
	}
	return out, nil
}

// Plant maps a region with slots into the process, through the held thread t, at base.
func (p *Process) Plant(t *Thread, base mem.Addr, slots int) error {
	if p.Region != nil {
		return nil
	}
	return p.plant(t, base, slots, abi.MapFixedNoReplace)
}

// Replant gives a process that was just born, with the region of its parent in it, one of its own in the same place. It trusts
// nothing in the process: every call is one step of the processor, whatever instruction stands there.
func (p *Process) Replant(t *Thread, old *region.Region) error {
	// What maps it is in what is replaced, by the same code.
	p.SetSyscall(old.At(p.Code.At.Single))
	return p.plant(t, old.Base, old.Slots, abi.MapFixed)
}

func (p *Process) plant(t *Thread, base mem.Addr, slots int, fixed uint64) error {
	defer t.Roomy()()
	var fd uint64
	err := t.withBytes(append([]byte(stub.Name), 0), func(name mem.Addr) error {
		const cloexecSealing = 1 | 2
		var err error
		fd, err = t.MustCall("memfd_create", abi.SysMemfdCreate, uint64(name), cloexecSealing)
		return err
	})
	if err != nil {
		return err
	}
	closed := false
	shut := func() {
		if !closed {
			closed = true
			_, _ = t.Call(abi.SysClose, fd)
		}
	}
	defer shut()
	f, err := kern.PidfdGetfd(p.Pidfd, int(fd), stub.Name)
	if err != nil {
		return err
	}
	size := stub.RegionSize(slots)
	if err := kern.SizeAndSeal(f, size); err != nil {
		f.Close()
		return err
	}
	g, err := region.Init(f, base, slots, p.Code)
	if err != nil {
		f.Close()
		return err
	}
	prot := uint64(abi.ProtRead | abi.ProtWrite)
	if fixed == abi.MapFixed {
		prot |= abi.ProtExec // the call returns into it
	}
	at, err := t.MustCall("mmap", abi.SysMmap, uint64(base), size, prot, abi.MapShared|fixed, fd, 0)
	if err == nil && mem.Addr(at) != base {
		err = fmt.Errorf("the kernel mapped the shared page of %d at %#x instead of %v: it is too old for MAP_FIXED_NOREPLACE", p.PID, at, base)
	}
	if err == nil && fixed == abi.MapFixed {
		_, err = t.MustCall("mprotect", abi.SysMprotect, uint64(base)+stub.CodeSize, size-stub.CodeSize, abi.ProtRead|abi.ProtWrite)
	}
	if err == nil {
		_, err = t.MustCall("mprotect", abi.SysMprotect, uint64(base), stub.CodeSize, abi.ProtRead|abi.ProtExec)
	}
	if err != nil {
		g.Close()
		return err
	}
	shut()
	p.Region = g
	return nil
}

// Uproot takes the region out of the process again, after calls that may point into it. The agent's own mapping stays until
// Region.Close.
func (p *Process) Uproot(t *Thread, calls ...stub.Call) error {
	g := p.Region
	if g == nil {
		return nil
	}
	p.Region = nil // the call that unmaps cannot return into what it unmaps
	if err := p.FindSyscall(t); err != nil {
		p.Region = g
		return err
	}
	p.Unattended = true
	for _, c := range append(calls, NewCall(abi.SysMunmap, uint64(g.Base), uint64(len(g.B)))) {
		if _, err := t.MustCall(fmt.Sprintf("call %d, to take the shared page out,", c.Nr), c.Nr, c.Args[:]...); err != nil {
			return err
		}
	}
	return nil
}

// PutBack gives the thread its own registers, mask and signals again; it stays held.
func (t *Thread) PutBack() error {
	for _, si := range t.Stash {
		if err := t.queueSelf(si); err != nil {
			return err
		}
	}
	t.Stash = nil
	if err := kern.SetRegs(t.TID, &t.Regs); err != nil {
		return gone(err)
	}
	if t.injected || t.mask != t.Mask {
		if err := kern.SetSigMask(t.TID, t.Mask); err != nil {
			return gone(err)
		}
		t.injected, t.mask = false, t.Mask
	}
	t.loose = false
	return nil
}

// queueSelf makes the thread queue a signal to itself: only so may its siginfo say that it came from the kernel or a user.
func (t *Thread) queueSelf(si abi.Siginfo) error { return t.QueueSignal(si, false) }

// QueueSignal makes the thread queue si: to itself, or to its whole process.
func (t *Thread) QueueSignal(si abi.Siginfo, process bool) error {
	tgid, tid, err := t.ownIDs()
	if err != nil {
		return err
	}
	return t.withBytes(si[:], func(at mem.Addr) error {
		if process {
			_, err = t.MustCall("rt_sigqueueinfo", abi.SysRtSigqueueinfo, tgid, uint64(si.Signo()), uint64(at))
		} else {
			_, err = t.MustCall("rt_tgsigqueueinfo", abi.SysRtTgsigqueue, tgid, tid, uint64(si.Signo()), uint64(at))
		}
		return err
	})
}

// QueueSignals is QueueSignal for many, at once: hardly anything else can come between them. The process has a region.
func (t *Thread) QueueSignals(infos []abi.Siginfo, process bool) error {
	if len(infos) == 0 {
		return nil
	}
	tgid, tid, err := t.ownIDs()
	if err != nil {
		return err
	}
	g := t.Proc.Region
	const size = uint64(len(abi.Siginfo{}))
	for len(infos) > 0 {
		n := min(len(infos), stub.ScratchSize/int(size))
		calls := make([]stub.Call, 0, n)
		for i, si := range infos[:n] {
			at := uint64(g.Addr(stub.ScratchOff)) + uint64(i)*size
			copy(g.Scratch()[uint64(i)*size:], si[:])
			if process {
				calls = append(calls, NewCall(abi.SysRtSigqueueinfo, tgid, uint64(si.Signo()), at))
			} else {
				calls = append(calls, NewCall(abi.SysRtTgsigqueue, tgid, tid, uint64(si.Signo()), at))
			}
		}
		if _, err := t.MustBatch("signals", calls); err != nil {
			return err
		}
		infos = infos[n:]
	}
	return nil
}

// TakeSignal makes the thread dequeue one signal sig: its own, or one of its process. Where there was none, ok is false. The process has a
// region.
func (t *Thread) TakeSignal(sig int) (si abi.Siginfo, ok bool, err error) {
	const setOff, zeroOff, infoOff = 9216, 9216 + 16, 9216 + 64
	g := t.Proc.Region
	binary.LittleEndian.PutUint64(g.Scratch()[setOff:], abi.SigBit(sig))
	clear(g.Scratch()[zeroOff : zeroOff+16])
	ret, err := t.Call(abi.SysRtSigtimedwait, uint64(g.Addr(stub.ScratchOff+setOff)), uint64(g.Addr(stub.ScratchOff+infoOff)), uint64(g.Addr(stub.ScratchOff+zeroOff)), 8)
	copy(si[:], g.Scratch()[infoOff:])
	return si, err == nil && ret == int64(sig), err
}

// ownIDs are the numbers of process and thread in their own PID namespace.
func (t *Thread) ownIDs() (uint64, uint64, error) {
	tgid, err := t.MustCall("getpid", abi.SysGetpid)
	if err != nil {
		return 0, 0, err
	}
	tid, err := t.MustCall("gettid", abi.SysGettid)
	return tgid, tid, err
}

// withBytes calls f with the address of a copy of b in the process: in the region, or in a page that is mapped for this
// alone, for other threads may be using everything that the program has.
func (t *Thread) withBytes(b []byte, f func(mem.Addr) error) error {
	if g := t.Proc.Region; g != nil {
		copy(g.Scratch(), b)
		return f(g.Addr(stub.ScratchOff))
	}
	page, err := t.MustCall("mmap", abi.SysMmap, 0, mem.PageSize, abi.ProtRead|abi.ProtWrite, abi.MapPrivate|abi.MapAnonymous, ^uint64(0), 0)
	if err != nil {
		return err
	}
	if _, err = t.Proc.WriteMemory(mem.Addr(page), b); err == nil {
		err = f(mem.Addr(page))
	}
	if _, err2 := t.MustCall("munmap", abi.SysMunmap, page, mem.PageSize); err == nil {
		err = err2
	}
	return err
}

// Release puts the thread back and lets it go.
func (t *Thread) Release() error {
	err := t.release()
	released(t)
	return err
}

// released does what is to be done when threads run again.
func released(threads ...*Thread) {
	late := time.Now().Add(200 * time.Millisecond)
	for _, t := range threads {
		if t.after != nil {
			t.after(late)
			t.after = nil
		}
	}
	if len(threads) > 0 {
		threads[0].Proc.unhurry()
	}
}

func (t *Thread) release() error {
	delete(t.Proc.threads, t.TID)
	if !t.stopped {
		return nil
	}
	err := t.PutBack()
	if errors.Is(err, ErrGone) {
		return err
	}
	return errors.Join(err, t.detach())
}

// detach lets the thread go, which was put back.
func (t *Thread) detach() error {
	var err error
	if t.enters() {
		if err = t.enter(); errors.Is(err, ErrGone) {
			return err
		}
	}
	return errors.Join(err, gone(kern.Detach(t.TID, t.resume())))
}

// Abandon lets the thread go as it stands: the caller has set its registers. Unless it was put back, its signals are blocked.
func (t *Thread) Abandon() error {
	delete(t.Proc.threads, t.TID)
	if t.loose {
		if err := kern.SetSigMask(t.TID, injectMask); err != nil {
			return gone(err)
		}
	}
	return gone(kern.Detach(t.TID, t.resume()))
}

// Go lets the thread go, which was put back, as Release does.
func (t *Thread) Go() error {
	delete(t.Proc.threads, t.TID)
	return t.detach()
}

// ReleaseAll releases every held thread.
func (p *Process) ReleaseAll() error {
	var first error
	held := p.Held()
	for _, t := range held {
		if err := t.release(); err != nil && first == nil {
			first = err
		}
	}
	released(held...)
	return first
}

// Swallow takes a pending signal sig away from the held thread: it is let run into it, and does not get it.
func (t *Thread) Swallow(sig int) error {
	r := t.Regs
	if err := kern.SetRegs(t.TID, &r); err != nil {
		return gone(err)
	}
	for {
		if err := kern.Cont(t.TID, t.resume()); err != nil {
			return gone(err)
		}
		s, err := wait(t.TID, nil)
		if err != nil {
			return err
		}
		switch {
		case s.Kind == SignalStop && s.Signal == sig:
			return nil
		case s.Kind == SignalStop:
			if err := t.keepSignal(); err != nil {
				return err
			}
		}
	}
}
