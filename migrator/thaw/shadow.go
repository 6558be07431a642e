package thaw

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/migrator/pages"
)

// Hold stops every thread of a parked shadow. The program's state is in the record or in an image; what the threads were doing
// in the stub is given up: their calls have been cancelled or answered before.
func Hold(p *tracer.Process, g *region.Region) error {
	p.Region = g
	for try := 0; ; try++ {
		if err := p.SeizeAll(); err != nil {
			return err
		}
		busy := false
		for _, t := range p.Held() {
			// A signal is just being recorded: it would be lost.
			if at := mem.Addr(t.Regs.RIP); at >= g.At(g.Code.At.Recorder) && at < g.At(g.Code.At.Keeper)-8 && try < 200 {
				busy = true
				if err := t.Release(); err != nil {
					return err
				}
			}
		}
		if !busy {
			return nil
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// Rescue puts those threads of a shadow back into its loop whose agent died while they made a call for it. The others are not
// touched: they may be in calls of the guest.
func Rescue(p *tracer.Process, g *region.Region) error {
	for i := range g.Slots {
		tid := int(g.Slot(i).TID)
		if tid == 0 || !orphaned(p.PID, tid, g) {
			continue
		}
		t, err := p.Seize(tid)
		if err != nil {
			return err
		}
		r := t.Regs
		r.OrigRAX, r.RAX = abi.NoCall, 0
		r.RIP, r.R15 = uint64(g.At(g.Code.At.Loop)), uint64(g.SlotAddr(i))
		r.RSP = uint64(g.SlotAddr(i)) + stub.SlotStackTop - 64
		if err := kern.SetRegs(tid, &r); err != nil {
			return err
		}
		if err := t.Abandon(); err != nil {
			return err
		}
	}
	return nil
}

// orphaned reports whether a thread waits behind an injected call.
func orphaned(pid, tid int, g *region.Region) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	f := strings.Fields(string(b))
	if err != nil || len(f) < 9 {
		return false
	}
	pc, err := strconv.ParseUint(strings.TrimPrefix(f[8], "0x"), 16, 64)
	return err == nil && pc >= uint64(g.At(g.Code.At.Single)) && pc < uint64(g.At(g.Code.At.Batch))
}

// Fill makes the memory of the held shadow that of image m: its areas, and then what is on the shelf. known is what the shadow
// had advised for its areas before anything was put into them. The shadow stays one: it can be let go into its loop again.
func Fill(p *tracer.Process, m *image.Process, shelf *pages.Shelf, known []image.Area) error {
	l := p.Leader()
	if l == nil {
		return fmt.Errorf("the shadow of %d has lost its leading thread: %w", m.PID, tracer.ErrGone)
	}
	pm, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.PID))
	if err != nil {
		return fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	defer pm.Close()
	defer l.Roomy()()
	if err := unguard(pm, p, l); err != nil {
		return err
	}
	h := &homeLayout{p: p, l: l, shelf: shelf}
	if err := h.layOut(m.Areas, known); err != nil {
		return fmt.Errorf("lay out the memory of %d at home: %w", m.PID, err)
	}
	if err := h.empty(shelf.Zaps()); err != nil {
		return err
	}
	shelf.Within(mem.Normalize(image.Ranges(m.Areas)))
	lost, err := shelf.Write(p.PID, p.Mem)
	lost = slices.DeleteFunc(lost, func(at mem.Addr) bool {
		a := image.Find(m.Areas, at) // a file that has been cut off takes the pages with it that the process had of its own
		return a != nil && a.File && !a.Shared
	})
	if err != nil || len(lost) > 0 {
		return errors.Join(err, fmt.Errorf("%d pages of %d could not be brought home: %#x", len(lost), m.PID, lost[:min(len(lost), 8)]))
	}
	if err := h.finish(); err != nil {
		return err
	}
	if err := unite(p, l, h.parts); err != nil {
		return err
	}
	_, err = l.MustBatch("guard pages", guardCalls(m.Guards, abi.MadvGuardInstall))
	return err
}

// unguard takes the guards of a shadow away: its guest may have other ones by now, and memory where they are.
func unguard(pm *os.File, p *tracer.Process, l *tracer.Thread) error {
	as, err := areasOf(p)
	if err != nil {
		return err
	}
	old, err := pages.Guards(pm, as)
	if err != nil {
		return err
	}
	_, err = l.MustBatch("guard pages of the shadow", guardCalls(old, abi.MadvGuardRemove))
	return err
}

// ErrTooManySignals says that some signals that waited for the process are lost, for its user may not have so many. It runs.
var ErrTooManySignals = errors.New("signals that waited for it are lost")

// Back makes the held shadow be the process again, from image f, and lets it run: the end of coming home, and of an aborted
// move. Its memory is in place.
func Back(p *tracer.Process, f *image.Family) error {
	m, l := &f.Members[0], p.Leader()
	if err := dropThreads(p, m); err != nil {
		return err
	}
	if l == nil || len(p.Held()) != len(m.Threads) {
		return fmt.Errorf("the shadow of %v has %d threads, its image %d", f.Process, len(p.Held()), len(m.Threads))
	}
	var stopped []abi.Siginfo // signals that our own stop has taken from the shadow
	for _, t := range p.Held() {
		stopped = append(stopped, t.Stash...)
		t.Stash = nil
	}
	// Until the very end the threads belong into the stub's loop, and the recorder takes the trap of an injected call whose
	// agent has died: a new agent begins again from the record.
	if err := restoreProcess(l, m, true, true); err != nil {
		return err
	}
	recorded := p.Region.TakeSignals() // and not on their way to the guest
	waits, err := waitingFor(p, f, recorded, stopped)
	if err != nil {
		return err
	}
	type own struct {
		regs abi.Regs
		mask uint64
	}
	owns := map[int]own{}
	var tooMany error // signals, for the limit of its user: the process goes on without those
	defer kern.LiftLimit(p.PID, kern.LimitSigpending)()
	if m.Away.Run > 0 {
		_ = showAway(p, m) // where that cannot be, home's own count is seen
	}
	for i := range m.Threads {
		th := &m.Threads[i]
		t := p.Thread(int(th.TID))
		if t == nil {
			return fmt.Errorf("thread %d of %v is not in its shadow: %w", th.TID, f.Process, tracer.ErrGone)
		}
		parked := own{t.Regs, t.Mask}
		if err := restoreThread(t, th, false); err != nil {
			return err
		}
		t.Until = th.Until
		_ = t.Again(kern.Now(kern.ClockMonotonic)) // where it cannot, it waits for its whole time
		owns[t.TID] = own{t.Regs, t.Mask}
		t.Regs, t.Mask = parked.regs, parked.mask
		t.Stash = nil
		if t == l {
			continue // its own with those of the process
		}
		if err := t.Requeue(waits.own[t.TID], nil); errors.Is(err, kern.EAGAIN) {
			tooMany = err
		} else if err != nil {
			return err
		}
	}
	if err := l.Requeue(waits.own[l.TID], waits.shared); errors.Is(err, kern.EAGAIN) {
		tooMany = err
	} else if err != nil {
		return err
	}
	p.Region.Header().State = stub.StatePlanted
	for _, t := range p.Held() {
		t.Regs, t.Mask = owns[t.TID].regs, owns[t.TID].mask
		if err := t.PutBack(); err != nil {
			return err
		}
	}
	at, b := scratchAt(p, 0)
	m.Actions[abi.SIGTRAP].Put(b)
	if err := p.Uproot(l, tracer.NewCall(abi.SysRtSigaction, abi.SIGTRAP, at, 0, 8)); err != nil {
		return err
	}
	if err := p.ReleaseAll(); err != nil || tooMany == nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrTooManySignals, tooMany)
}

// dropThreads ends the threads that have ended away.
func dropThreads(p *tracer.Process, m *image.Process) error {
	live := map[int]bool{}
	for i := range m.Threads {
		live[int(m.Threads[i].TID)] = true
	}
	for _, t := range p.Held() {
		if live[t.TID] || t.TID == p.PID {
			continue
		}
		t.Regs.SetCall(abi.SysExit, 0)
		t.Regs.RIP = uint64(p.Region.At(p.Code.At.Single))
		if err := t.Release(); err != nil && !errors.Is(err, tracer.ErrGone) {
			return err
		}
		for range 1000 { // its code is about to be unmapped
			if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", p.PID, t.TID)); err != nil {
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	return nil
}
