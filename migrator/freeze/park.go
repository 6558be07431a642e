package freeze

import (
	"fmt"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// Recorded reports whether the recorder handles sig in a shadow whose program has action a for it: every signal that can be
// caught and that the program does not ignore, except those whose default is to stop: these stop the shadow by the
// kernel's own rules, and the guest with it.
func Recorded(sig int, a abi.SigAction) bool {
	if sig == abi.SIGKILL || sig == abi.SIGSTOP || a.Handler == abi.SigIgn {
		return false
	}
	return a.Handler != abi.SigDfl || !abi.DefaultIgnored(sig) && !abi.DefaultStops(sig)
}

// ShadowAction is the action that a shadow has for sig when its program has a.
func ShadowAction(g *region.Region, sig int, a abi.SigAction) abi.SigAction {
	if !Recorded(sig, a) {
		return a
	}
	const noCldStop, noCldWait = 1, 2 // SIGCHLD: the kernel decides by them whether to send it at all, and to reap
	s := abi.SigAction{Handler: uint64(g.At(g.Code.At.Recorder)), Restorer: uint64(g.At(g.Code.At.Restorer)), Mask: ^uint64(0)}
	s.Flags = abi.SASiginfo | abi.SARestorer | abi.SARestart
	if sig == abi.SIGCHLD {
		s.Flags |= a.Flags & (noCldStop | noCldWait)
	}
	return s
}

// Park lays the held process to rest as its own shadow: the record is written, every thread is put into the stub's loop and
// let go. Afterwards it needs nobody.
func Park(p *tracer.Process, f *image.Family, home, peer id.Node) error {
	g, l, m := p.Region, p.Leader(), &f.Members[0]
	if err := g.PutRecord(f.Encode()); err != nil {
		return err
	}
	h := g.Header()
	h.Epoch, h.PID, h.Start = uint64(f.Epoch), uint32(f.Process.PID), f.Process.Start
	PutName(&h.Home, string(home))
	PutName(&h.Peer, string(peer))
	if len(m.Threads) > g.Slots {
		return fmt.Errorf("%v has %d threads, its shared page has room for %d", f.Process, len(m.Threads), g.Slots)
	}
	h.State = stub.StateParking
	for i := range m.Threads {
		if err := unregister(p, &m.Threads[i]); err != nil {
			return err
		}
	}
	// The recorder must not run in the program: its actions come last, and then nothing is left to do but to set registers. That for
	// traps is the first: should this agent die from now on, the recorder takes the trap of the injected call, and the thread waits
	// for the next agent.
	p.Unattended = false
	var calls []stub.Call
	for i := range abi.NSig {
		s := (abi.SIGTRAP-1+i)%abi.NSig + 1
		if a := ShadowAction(g, s, m.Actions[s]); a != m.Actions[s] {
			off := stub.ScratchOff + s*abi.SigActionSize
			a.Put(g.B[off:])
			calls = append(calls, tracer.NewCall(abi.SysRtSigaction, uint64(s), uint64(g.Addr(off)), 0, 8))
		}
	}
	// What counts the program's own CPU time goes with the program.
	clear(g.Scratch()[8192 : 8192+32])
	for which := range m.ITimers {
		calls = append(calls, tracer.NewCall(abi.SysSetitimer, uint64(which+1), uint64(g.Addr(stub.ScratchOff+8192)), 0))
	}
	if _, err := l.MustBatch("rt_sigaction and setitimer", calls); err != nil {
		return err
	}
	if err := drain(p, m); err != nil {
		return err
	}
	h.State = stub.StateParked
	fds := SignalFDs(p.PID)
	for i := range m.Threads {
		if err := parkThread(p, g, i, &m.Threads[i], m, fds); err != nil {
			return err
		}
	}
	for _, t := range p.Held() {
		if err := t.Abandon(); err != nil {
			return err
		}
	}
	return nil
}

// unregister takes from a thread what the kernel would use by itself.
func unregister(p *tracer.Process, th *image.Thread) error {
	g, t := p.Region, p.Thread(int(th.TID))
	if t == nil {
		return fmt.Errorf("park thread %d: %w", th.TID, tracer.ErrGone)
	}
	alt := abi.StackT{Flags: abi.SSDisable}
	alt.Put(g.Scratch())
	calls := []stub.Call{
		tracer.NewCall(abi.SysSigaltstack, uint64(g.Addr(stub.ScratchOff)), 0),
		tracer.NewCall(abi.SysSetRobustList, 0, 24),
		tracer.NewCall(abi.SysSetTidAddress, 0),
	}
	if th.Rseq != 0 {
		const unregister = 1
		calls = append(calls, tracer.NewCall(abi.SysRseq, th.Rseq, uint64(th.RseqSize), unregister, uint64(th.RseqSig)))
	}
	_, err := t.MustBatch("leave rseq, robust list and alternate stack", calls)
	return err
}

// parkThread puts a held thread into the loop.
func parkThread(p *tracer.Process, g *region.Region, i int, th *image.Thread, m *image.Process, fds uint64) error {
	t := p.Thread(int(th.TID))
	s := g.Slot(i)
	*s = stub.Slot{TID: uint32(th.TID), Header: uint64(g.Addr(stub.HeaderOff)), Mask: th.Mask, Idle: IdleMask(&m.Actions, th.Mask, fds)}
	if int64(th.Regs.RAX) == -abi.ERestartBlock {
		s.Nest = uint32(th.Regs.OrigRAX) // the call that this thread's restart block continues
	}
	r := t.Regs
	r.OrigRAX, r.RAX = abi.NoCall, 0
	r.RIP, r.R15 = uint64(g.At(g.Code.At.Loop)), uint64(g.SlotAddr(i))
	r.RSP = uint64(g.SlotAddr(i)) + stub.SlotStackTop - 64
	return kern.SetRegs(t.TID, &r)
}

// PutName writes a node's name into a field of the header.
func PutName(field *[64]byte, s string) {
	*field = [64]byte{}
	copy(field[:63], s)
}
