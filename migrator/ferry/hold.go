package ferry

import (
	"errors"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/migrator/eligible"
	"mosix/migrator/freeze"
	"mosix/migrator/thaw"
)

// ---- stopping a process at its home

// again lets the waits that our stops have ended go on, for the time that remains to them.
func (m *source) again(t *traveller) {
	if err := freeze.Again(t.p); err != nil && !errors.Is(err, tracer.ErrGone) {
		m.env.Log.Info("a thread waits for its whole time anew", "process", t.id, "err", err)
	}
}

// refused is a refusal that is found out only by stopping the process: nothing in /proc tells.
func refused(what, why, evidence string) error {
	return &RefusedError{Refusals: image.Refusals{{What: what, Why: why, Evidence: evidence}}}
}

// own refuses a process for what it alone can tell of itself. Of its threads the leading one speaks: such modes are inherited.
func own(l *tracer.Thread) error {
	const getTSC, getCPUID, faults = 25, 0x1011, 2
	g := l.Proc.Region
	at := uint64(g.Addr(stub.ScratchOff))
	clear(g.Scratch()[:16])
	out, err := l.Batch([]stub.Call{tracer.NewCall(abi.SysPrctl, getTSC, at), tracer.NewCall(abi.SysArchPrctl, getCPUID, 0),
		tracer.NewCall(abi.SysModifyLdt, 0, at+8, 8)})
	switch {
	case err != nil:
		return err
	case out[0] == 0 && g.Scratch()[0] == faults:
		return refused(eligible.ProcessorMode, "RDTSC is to fault in it (prctl PR_SET_TSC), which is not kept up elsewhere: it stays where it is", "PR_GET_TSC is PR_TSC_SIGSEGV")
	case out[1] == 0:
		return refused(eligible.ProcessorMode, "CPUID is to fault in it (arch_prctl ARCH_SET_CPUID), which is not kept up elsewhere: it stays where it is", "ARCH_GET_CPUID is 0")
	case out[2] > 0:
		return refused(eligible.LDT, "it has segments of its own (modify_ldt), which are not carried: it stays where it is", "modify_ldt reads some")
	}
	return nil
}

// stopAndCopy copies nothing while the processes run.
func (m *source) stopAndCopy() {
	m.env.Rounds = 0
	m.out.Stats.Strategy = strategy(0)
}

// plant stops one thread for a moment to share memory with the process and to begin watching its pages.
func (m *source) plant(t *traveller) error {
	p := t.p
	waits := freeze.Waiting(p, []int{p.PID})
	l, err := p.Seize(p.PID)
	if err != nil {
		return err
	}
	if kern.Dispatches(l.TID) {
		return errors.Join(refused(eligible.Dispatch, "it has its system calls dispatched to itself, as Wine does, which cannot be kept up elsewhere: it stays where it is",
			"prctl PR_SET_SYSCALL_USER_DISPATCH"), l.Release())
	}
	as, _, err := freeze.Areas(p)
	if err != nil {
		return err
	}
	tids, err := p.TIDs()
	if err != nil {
		return err
	}
	freeze.Mend(p, waits)
	slots := len(tids) + 64 // for the threads that it makes while it is away
	if err := p.Plant(l, freeze.FreeBase(as, slots), slots); errors.Is(err, kern.EACCES) {
		return refused(eligible.WriteExec, "it may make no memory executable (prctl PR_SET_MDWE, as systemd's MemoryDenyWriteExecute does), and what holds its place must be: it stays where it is", err.Error())
	} else if err != nil {
		return err
	}
	if err := own(l); err != nil {
		return err
	}
	if m.env.Rounds > 0 && freeze.ReadsDirectly(p.PID) {
		m.env.Log.Info("a process reads past the page cache, and such writes to its memory cannot be watched; moving by stop and copy", "process", t.id)
		m.stopAndCopy()
	}
	t.read = freeze.DiskReads(p.PID)
	if m.env.Rounds > 0 {
		if err := t.src.Track(l); err != nil {
			m.env.Log.Info("this kernel cannot watch pages; moving by stop and copy", "process", t.id, "err", err)
			m.stopAndCopy()
		} else if err := m.register(t); err != nil {
			return err
		}
	}
	if freeze.Partial(p) { // released, it would return short: it stays held until it goes on away
		m.stopAndCopy()
		return nil
	}
	m.again(t)
	return l.Release()
}

// register lets the areas that the process has now be watched, while its leading thread is held, where that is all of it.
func (m *source) register(t *traveller) error {
	tids, err := t.p.TIDs()
	if err != nil {
		return err
	}
	if t.src.Held = len(tids) == 1; !t.src.Held {
		return nil
	}
	as, _, err := freeze.Areas(t.p)
	if err != nil {
		return err
	}
	t.src.Register(as, m.common.has)
	return nil
}

// registerMore stops a process of one thread for a moment, so that what it has mapped lately can be watched.
func (m *source) registerMore(t *traveller) error {
	waits := freeze.Waiting(t.p, []int{t.p.PID})
	l, err := t.p.Seize(t.p.PID)
	if err != nil {
		return err
	}
	freeze.Mend(t.p, waits)
	if freeze.Partial(t.p) { // released, it would return short: it stays held until it goes on away
		m.stopAndCopy()
		return nil
	}
	err = m.register(t)
	m.again(t)
	return errors.Join(err, l.Release())
}

// missedMuch is how many bytes of areas that are not watched are worth a stop.
const missedMuch = 1 << 20

// hold stops every thread of a process.
func (m *source) hold(t *traveller) error {
	p := t.p
	var clocks *thaw.Clockwork
	for try := 0; ; try++ {
		waits, err := m.stop(t)
		if err != nil {
			return err
		}
		freeze.Mend(p, waits)
		if try == 0 {
			if clocks, err = thaw.ClockworkOf(p); err != nil {
				return err
			}
			if err := clocks.Finish(); err != nil {
				return err
			}
		}
		if partial := freeze.Partial(p); partial || try == 20 || !clocks.Busy(t.foreign) {
			break
		}
		m.again(t)
		if err := p.ReleaseAll(); err != nil {
			return err
		}
	}
	if l := p.Leader(); l != nil { // the kernel says so with the stop itself: a look before it would be old
		t.stopped = l.Halted
	}
	// A file that is closed again may have been read so.
	if t.src.Uffd != nil && (freeze.ReadsDirectly(p.PID) || freeze.DiskReads(p.PID) != t.read) {
		m.env.Log.Debug("read from a disk while it was copied: it is taken whole", "process", t.id)
		t.src.Untrack()
	}
	if err := clocks.FinishEntries(); err != nil {
		return err
	}
	thaw.RewindCPUClock(p)
	return nil
}

// stop seizes every thread of a process. It returns in what they waited.
func (m *source) stop(t *traveller) (waits freeze.Waits, err error) {
	p := t.p
	tids, err := p.TIDs()
	if err != nil {
		return nil, err
	}
	waits = freeze.Waiting(p, tids)
	t.sleeping = freeze.Sleeping(p.PID, tids)
	m.env.Log.Debug("in restart_syscall", "process", t.id, "threads", t.sleeping)
	return waits, p.SeizeAll()
}
