package guest

import (
	"encoding/binary"
	"slices"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// A guest that may leave a core file has a handler of ours for faults for which it has none itself (see thaw.Refault). It does not see it.

// faults reports whether a notification is the call of that handler.
func (g *Guest) faults(n *kern.Notif) bool {
	at := g.code.At
	return n.Nr == stub.FaultCall && n.IP >= uint64(g.Region.At(at.Fault)) && n.IP <= uint64(g.Region.At(at.FaultEnd))
}

// ownAction answers a question for the action of a signal that has our handler, or takes that away where the guest sets another one. One that
// sets the default action is about to fault, as crash handlers are, and does so at home. It reports whether there was anything to do.
func (g *Guest) ownAction(c *call, args [6]uint64) bool {
	sig := int(int32(args[0]))
	i := slices.Index(abi.Faults[:], sig)
	if i < 0 || args[3] != 8 {
		return false
	}
	if act := [8]byte{}; args[1] != 0 && g.cores && !g.Borrows() { // which would go with a copy of its parent's memory
		if n, err := g.ReadMemory(mem.Addr(args[1]), act[:]); err == nil && n == len(act) && binary.LittleEndian.Uint64(act[:]) == abi.SigDfl {
			g.comeHome(c, "rt_sigaction")
			return true
		}
	}
	if g.faulting.Load()&abi.SigBit(sig) == 0 {
		return false
	}
	if args[1] == 0 {
		var b [abi.SigActionSize]byte
		g.Region.Header().FaultActions[i].Put(b[:])
		ret := int64(0)
		if args[2] != 0 {
			if n, err := g.WriteMemory(mem.Addr(args[2]), b[:]); err != nil || n < len(b) {
				ret = -int64(kern.EFAULT)
			}
		}
		g.reply(c, ret)
		return true
	}
	g.makeAgain(c, func(t *tracer.Thread) error { return g.unhook(t, i) }) // and finds what it had
	return true
}

// unhook gives the guest back what it had for a fault, through the held thread t.
func (g *Guest) unhook(t *tracer.Thread, i int) error {
	sig := abi.Faults[i]
	if g.faulting.Load()&abi.SigBit(sig) == 0 { // another thread has asked for the same
		return nil
	}
	defer g.watched(t.TID)()
	g.injecting(t.TID, true)
	g.Region.Header().FaultActions[i].Put(g.Region.Scratch())
	_, err := t.MustCall("rt_sigaction", abi.SysRtSigaction, uint64(sig), uint64(g.Region.Addr(stub.ScratchOff)), 0, 8)
	g.injecting(t.TID, false)
	if err == nil {
		left := g.faulting.And(^abi.SigBit(sig)) &^ abi.SigBit(sig)
		if !g.Borrows() { // the page is its own
			g.Region.Header().Faulting = left
		}
	}
	return err
}
