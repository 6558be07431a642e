// Package thaw makes an image run: as a guest in namespaces of its own, or in the shadow at home. Its one invariant: nothing
// of the program executes before the caller says Run; until then the death of the agent ends what was built, or leaves the
// shadow parked as it was.
package thaw

import (
	"encoding/binary"
	"fmt"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// scratchAt is the address and the bytes of the region's scratch from off on.
func scratchAt(p *tracer.Process, off int) (uint64, []byte) {
	return uint64(p.Region.Addr(stub.ScratchOff + off)), p.Region.Scratch()[off:]
}

// restoreProcess gives the held process what belongs to all its threads: layout, actions, membarrier registrations. With
// trapLater the action for SIGTRAP is left to the caller. home says that the process is the original.
func restoreProcess(l *tracer.Thread, m *image.Process, home, trapLater bool) error {
	var recorded [abi.NSig + 1]bool
	if home {
		var err error
		if recorded, err = recordedAnyway(l, m); err != nil {
			return err
		}
	}
	at, b := scratchAt(l.Proc, 0)
	w := b
	for i, v := range []uint64{m.Layout.StartCode, m.Layout.EndCode, m.Layout.StartData, m.Layout.EndData, m.Layout.StartBrk, m.Layout.Brk,
		m.Layout.StartStack, m.Layout.ArgStart, m.Layout.ArgEnd, m.Layout.EnvStart, m.Layout.EnvEnd} {
		putU64(w[8*i:], v)
	}
	const auxOff, actOff = 256, 4096
	putU64(w[88:], at+auxOff)
	putU32(w[96:], uint32(len(m.Auxv)))
	putU32(w[100:], ^uint32(0)) // the executable stays what it is
	copy(b[auxOff:], m.Auxv)
	const mapSize = 104
	calls := []stub.Call{tracer.NewCall(abi.SysPrctl, abi.PrSetMM, abi.PrSetMMMap, at, mapSize, 0)}
	for s := 1; s <= abi.NSig; s++ {
		if s == abi.SIGKILL || s == abi.SIGSTOP || s == abi.SIGTRAP && trapLater {
			continue
		}
		if home && leaves(s, m.Actions[s]) && !recorded[s] {
			continue // the shadow has it, and to set it again would drop what pends
		}
		action(l.Proc, m, s, home).Put(b[actOff+s*abi.SigActionSize:])
		calls = append(calls, tracer.NewCall(abi.SysRtSigaction, uint64(s), at+actOff+uint64(s)*abi.SigActionSize, 0, 8))
	}
	for bit := uint32(1); bit != 0 && bit <= m.Expedit; bit <<= 1 {
		if m.Expedit&bit != 0 {
			calls = append(calls, tracer.NewCall(abi.SysMembarrier, uint64(bit)))
		}
	}
	if m.NoHuge && !home {
		calls = append(calls, tracer.NewCall(abi.SysPrctl, abi.PrSetTHPDisable, 1))
	}
	const timersOff = 8192
	for i := range m.ITimers {
		for j, v := range m.ITimers[i] {
			putU64(b[timersOff+32*i+8*j:], v)
		}
		calls = append(calls, tracer.NewCall(abi.SysSetitimer, uint64(i+1), at+uint64(timersOff+32*i), 0))
	}
	_, err := l.MustBatch("layout, signal actions and timers", calls)
	return err
}

// leaves reports whether the action of signal s is one that a shadow has, too: it records no signal that is ignored.
func leaves(s int, a abi.SigAction) bool {
	return a.Handler == abi.SigIgn || a.Handler == abi.SigDfl && abi.DefaultIgnored(s)
}

// recordedAnyway finds the signals that the shadow would record although the process ignores them: it came home in the middle of
// a change, which is made again. Should one of them come before, it would be handled by code that is not there any more.
func recordedAnyway(l *tracer.Thread, m *image.Process) (out [abi.NSig + 1]bool, err error) {
	at, b := scratchAt(l.Proc, 0)
	var calls []stub.Call
	var signals []int
	for s := 1; s <= abi.NSig; s++ {
		if s != abi.SIGKILL && s != abi.SIGSTOP && leaves(s, m.Actions[s]) {
			signals = append(signals, s)
			calls = append(calls, tracer.NewCall(abi.SysRtSigaction, uint64(s), 0, at+uint64(s)*abi.SigActionSize, 8))
		}
	}
	if _, err := l.MustBatch("signal actions of a shadow", calls); err != nil {
		return out, err
	}
	ours := l.Proc.Region.Range()
	for _, s := range signals {
		handler := mem.Addr(binary.LittleEndian.Uint64(b[s*abi.SigActionSize:]))
		out[s] = handler >= ours.Start && handler < ours.End
	}
	return out, nil
}

// restoreThread gives the held thread what is its own. fresh says that it was just made, with nothing registered; then also
// name and, last, the ids of a guest are set.
func restoreThread(t *tracer.Thread, th *image.Thread, fresh bool) error {
	at, b := scratchAt(t.Proc, 0)
	var calls []stub.Call
	if th.Robust != 0 {
		calls = append(calls, tracer.NewCall(abi.SysSetRobustList, th.Robust, th.RobustLen))
	}
	calls = append(calls, tracer.NewCall(abi.SysSetTidAddress, th.ClearTID))
	if th.Rseq != 0 {
		calls = append(calls, tracer.NewCall(abi.SysRseq, th.Rseq, uint64(th.RseqSize), 0, uint64(th.RseqSig)))
	}
	if th.Alt.Flags&abi.SSDisable == 0 {
		alt := th.Alt
		alt.Flags &= abi.SSAutoDisrm // being on it shows in RSP, and is not set
		alt.Put(b)
		calls = append(calls, tracer.NewCall(abi.SysSigaltstack, at, 0))
	}
	if fresh {
		if th.Slack > 0 {
			calls = append(calls, tracer.NewCall(abi.SysPrctl, abi.PrSetTimerSlack, th.Slack))
		}
		copy(b[64:], append([]byte(th.Comm), 0))
		calls = append(calls, tracer.NewCall(abi.SysPrctl, abi.PrSetName, at+64),
			tracer.NewCall(abi.SysSetgroups, 0, 0),
			tracer.NewCall(abi.SysSetresgid, guestID, guestID, guestID),
			tracer.NewCall(abi.SysSetresuid, guestID, guestID, guestID))
	}
	out, err := t.Batch(calls)
	if err != nil {
		return fmt.Errorf("registrations of thread %d: %w", th.TID, err)
	}
	for i, ret := range out {
		there := !fresh && calls[i].Nr == abi.SysRseq && ret == -int64(kern.EBUSY) // it never got so far as to lose it
		if abi.IsErr(ret) && !there {
			return fmt.Errorf("registrations of thread %d: call %d: %w", th.TID, calls[i].Nr, kern.Errno(-ret))
		}
	}
	if err := kern.SetXState(t.TID, th.XState); err != nil {
		return fmt.Errorf("extended processor state: %w", err)
	}
	t.Regs, t.Mask = th.Regs, th.Mask
	t.Stash = append([]abi.Siginfo(nil), th.Pending...)
	return nil
}

// Unlay gives the held process, which is the program still, what it lost for a parking that was not completed.
func Unlay(p *tracer.Process, f *image.Family) error {
	m, l := &f.Members[0], p.Leader()
	if l == nil {
		return tracer.ErrGone
	}
	if err := restoreProcess(l, m, true, false); err != nil {
		return err
	}
	for i := range m.Threads {
		th := &m.Threads[i]
		t := p.Thread(int(th.TID))
		if t == nil {
			continue // it has ended meanwhile
		}
		at, b := scratchAt(p, 0)
		calls := []stub.Call{tracer.NewCall(abi.SysSetTidAddress, th.ClearTID)}
		if th.Robust != 0 {
			calls = append(calls, tracer.NewCall(abi.SysSetRobustList, th.Robust, th.RobustLen))
		}
		if th.Rseq != 0 {
			calls = append(calls, tracer.NewCall(abi.SysRseq, th.Rseq, uint64(th.RseqSize), 0, uint64(th.RseqSig)))
		}
		if th.Alt.Flags&abi.SSDisable == 0 {
			alt := th.Alt
			alt.Flags &= abi.SSAutoDisrm
			alt.Put(b)
			calls = append(calls, tracer.NewCall(abi.SysSigaltstack, at, 0))
		}
		if _, err := t.Batch(calls); err != nil { // what was not lost yet is refused: it is there
			return err
		}
	}
	return nil
}

// guestID is the uid and gid of a guest inside its user namespace; the keeper has 0.
const guestID = 1

func putU64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

func putU32(b []byte, v uint32) {
	for i := range 4 {
		b[i] = byte(v >> (8 * i))
	}
}
