package guest

import (
	"encoding/binary"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/kern"
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
	const masks, room = 0x40000, 4096
	off := masks + 8*(t.TID%room)
	binary.LittleEndian.PutUint64(g.Region.Scratch()[off:], c.own)
	r := &t.Regs
	r.RAX, r.OrigRAX, r.RIP = sysRtSigsuspend, abi.NoCall, r.RIP-2
	r.RDI, r.RSI = uint64(g.Region.Addr(stub.ScratchOff+off)), 8
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.restarts, c.tid)
	delete(g.until, c.tid)
	return nil
}
