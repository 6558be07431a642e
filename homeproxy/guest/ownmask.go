package guest

import (
	"encoding/binary"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// Calls such as ppoll bring a mask of their own: a signal that only this lets in ends the call, its handler runs under it, and the
// thread's mask is back when the handler returns. Home's kernel ends the call; rt_sigsuspend with the same mask makes the guest's
// kernel do the rest.

const (
	sysPselect6     = 270
	sysPpoll        = 271
	sysRtSigsuspend = 130
)

// ownMask finds the mask that a call brings, among what it reads.
func (c *call) ownMask(req *homeproxy.Request) {
	blob := func(at uint64, n int) []byte {
		for _, b := range req.In {
			if uint64(b.Addr) == at && len(b.Data) == n {
				return b.Data
			}
		}
		return nil
	}
	var b []byte
	switch c.nr {
	case sysPpoll:
		b = blob(c.c.Args[3], 8)
	case abi.SysEpollPwait, abi.SysEpollPwait2:
		b = blob(c.c.Args[4], 8)
	case sysPselect6:
		if pair := blob(c.c.Args[5], 16); pair != nil {
			b = blob(binary.LittleEndian.Uint64(pair), 8)
		}
	}
	if b != nil {
		c.own, c.hasOwn = binary.LittleEndian.Uint64(b)&^never, true
	}
}

// lets reports whether a signal that pends here gets in by the call's own mask.
func (c *call) lets(st signalState) bool {
	return c.hasOwn && st.pending&^c.own&^st.ignored != 0
}

// aim makes signals that reached the thread of c at home, and that only the call's own mask lets in, signals for this thread.
func (c *call) aim(sigs []signal) {
	for i := range sigs {
		if c != nil && c.hasOwn && sigs[i].tid == c.tid && c.own&abi.SigBit(sigs[i].info.Signo()) == 0 {
			sigs[i].process = false
		}
	}
}

// suspend lets the held thread t, whose call c did not come to its end, get what pends for it under the call's own mask.
func (g *Guest) suspend(c *call, t *tracer.Thread, ret int64) error {
	if !c.hasOwn || !abi.IsRestart(ret) && ret != -int64(kern.EINTR) || t.Regs.OrigRAX != uint64(c.nr) && t.Regs.OrigRAX != abi.SysRestartSyscall {
		return nil
	}
	if !c.lets(g.signalState(c.host)) {
		return nil
	}
	at := stub.SuspendedOff + t.TID%stub.SuspendedCalls*stub.SuspendedSize
	r := &t.Regs
	for i, x := range []uint64{c.own, uint64(c.nr), r.RDI, r.RSI} {
		binary.LittleEndian.PutUint64(g.Region.B[at+8*i:], x)
	}
	r.RAX, r.OrigRAX, r.RIP = sysRtSigsuspend, abi.NoCall, r.RIP-2
	r.RDI, r.RSI = uint64(g.Region.Addr(at)), 8
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.restarts, c.tid)
	delete(g.until, c.tid)
	return nil
}

// unsuspend gives held threads that are at such an rt_sigsuspend their own call back: its mask is where only this host has it. The
// call meets the same signal where it is made again.
func (g *Guest) unsuspend(ts ...*tracer.Thread) {
	for _, t := range ts {
		r := &t.Regs
		at := mem.Addr(r.RDI) - g.Region.Addr(0)
		if at < stub.SuspendedOff || at >= stub.SuspendedOff+stub.SuspendedCalls*stub.SuspendedSize || at%stub.SuspendedSize != 0 {
			continue
		}
		word := func(i mem.Addr) uint64 { return binary.LittleEndian.Uint64(g.Region.B[at+8*i:]) }
		switch {
		case r.OrigRAX == sysRtSigsuspend: // it has begun
			r.OrigRAX = word(1)
		case r.OrigRAX == abi.NoCall && r.RAX == sysRtSigsuspend: // it is about to
			r.RAX = word(1)
		default:
			continue
		}
		r.RDI, r.RSI = word(2), word(3)
	}
}
