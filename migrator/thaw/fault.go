package thaw

import (
	"encoding/binary"
	"slices"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/region"
	"mosix/internal/tracer"
)

// An instruction that faults ends its process, and leaves a core file, which shows memory that home does not have. So a guest that may leave
// one has a handler of ours for each fault for which it has none. The handler makes a call that there is not, which brings the guest
// home. There the thread stands at the instruction, as if it had not been executed; it faults again, and home's kernel does the rest.
//
// Who blocks the signal of its fault, or has no room on its stack for the handler, ends away, without a core file.

// faultAction is the action of that handler. It blocks all signals: the thread does nothing any more here.
func faultAction(g *region.Region) abi.SigAction {
	return abi.SigAction{Handler: uint64(g.At(g.Code.At.Fault)), Flags: abi.SASiginfo | abi.SAOnStack | abi.SANoDefer | abi.SARestorer,
		Restorer: uint64(g.At(g.Code.At.Restorer)), Mask: ^uint64(0)}
}

// action is what process p gets for signal s: what it had, or the handler of faults.
func action(p *tracer.Process, m *image.Process, s int, home bool) abi.SigAction {
	i := slices.Index(abi.Faults[:], s)
	if a := m.Actions[s]; home || i < 0 || a.Handler != abi.SigDfl || m.Limits[kern.LimitCore][0] == 0 {
		return a
	}
	h := p.Region.Header()
	h.Faulting |= abi.SigBit(s)
	h.FaultActions[i] = m.Actions[s]
	return faultAction(p.Region)
}

// OwnActions puts into the image of a guest that was held the actions that it had in place of the handlers of faults.
func OwnActions(g *region.Region, m *image.Process) {
	for i, s := range abi.Faults {
		if m.Actions[s].Handler == faultAction(g).Handler {
			m.Actions[s] = g.Header().FaultActions[i]
		}
	}
}

// Offsets in what the kernel writes on the stack for a handler: a return address, struct ucontext with struct sigcontext in it, struct siginfo.
const (
	frameContext = 8
	frameMachine = frameContext + 40 // R8 …
	frameFP      = frameMachine + 184
	frameMask    = frameMachine + 256
	frameInfo    = frameMask + 8
	frameSize    = frameInfo + len(abi.Siginfo{})
)

// Refault puts every held thread of a guest that is in the handler of faults back to where it faulted, with the registers and the mask that
// it had. A signal that somebody sent, and no instruction made, waits for it there. One that has gone there by itself, without what the
// kernel puts on the stack for a handler, stays where it is: nothing keeps a guest from going home, and there it faults.
func Refault(p *tracer.Process) error {
	code := mem.Range{Start: p.Region.At(p.Region.Code.At.Fault), End: p.Region.At(p.Region.Code.At.FaultEnd)}
	for _, t := range p.Held() {
		if at := mem.Addr(t.Regs.RIP); at < code.Start || at > code.End {
			continue
		}
		own, err := kern.GetXState(t.TID)
		if err != nil {
			return err
		}
		var b [frameSize]byte
		if n, err := p.ReadMemory(mem.Addr(t.Regs.RSP), b[:]); err != nil || n < len(b) {
			continue
		}
		word := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
		if n, err := p.ReadMemory(mem.Addr(word(frameFP)), own); err != nil || n < len(own) || kern.SetXState(t.TID, own) != nil {
			continue
		}
		r := &t.Regs
		for i, to := range []*uint64{&r.R8, &r.R9, &r.R10, &r.R11, &r.R12, &r.R13, &r.R14, &r.R15, &r.RDI, &r.RSI, &r.RBP, &r.RBX, &r.RDX, &r.RAX, &r.RCX, &r.RSP, &r.RIP, &r.EFlags} {
			*to = word(frameMachine + 8*i)
		}
		r.OrigRAX, t.Mask = abi.NoCall, word(frameMask)
		var si abi.Siginfo
		copy(si[:], b[frameInfo:])
		if si.Code() <= 0 && slices.Contains(abi.Faults[:], si.Signo()) {
			t.Stash = append(t.Stash, si)
		}
	}
	return nil
}
