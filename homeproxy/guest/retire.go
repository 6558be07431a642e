package guest

import (
	"encoding/binary"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/migrator/freeze"
)

// The first thread of a process may end while others go on. The kernel keeps it as a zombie, with the process's number and without its
// memory, which nobody reaches by that number any more, on either side. So away it only retires: its end is seen by who waits for
// it, it blocks all signals on both sides, and its call does not return. At home again it makes the call anew.

// retire ends the leading thread as far as others see it. The caller holds mu.
func (g *Guest) retire(c *call) {
	if g.retired {
		g.calls[c.tid] = c
		c.retired = true
		return
	}
	g.makeAgain(c, g.tellOfEnd)
}

// tellOfEnd does what the kernel does at the end of the held thread t: a zero where it was asked for, for those who wait there.
func (g *Guest) tellOfEnd(t *tracer.Thread) error {
	defer g.watched(t.TID)()
	g.mu.Lock()
	g.inject[t.TID] = true
	g.mu.Unlock()
	told := false
	defer func() {
		g.mu.Lock()
		delete(g.inject, t.TID)
		g.retired = told // where it is not, the thread asks again
		g.mu.Unlock()
	}()
	const wake, everybody = 1, 1<<31 - 1
	out := g.Region.Addr(stub.ScratchOff + 64)
	if _, err := t.MustCall("prctl", abi.SysPrctl, abi.PrGetTidAddress, uint64(out)); err != nil {
		return err
	}
	at := binary.LittleEndian.Uint64(g.Region.Scratch()[64:])
	if _, err := g.WriteMemory(mem.Addr(at), make([]byte, 4)); at != 0 && err == nil {
		if _, err := t.Call(abi.SysFutex, at, wake, everybody); err != nil {
			return err
		}
	}
	t.Mask, told = freeze.Ended, true
	// Home's kernel would give it what is for the process, and the others would get that late. Where home is out of reach, so it is.
	g.link.Masks(map[id.HomePID]uint64{g.Process.PID: freeze.Ended}, nil)
	return nil
}

// asksOwnAddress is the call that tellOfEnd makes through a guest and that is no call of the guest's own.
func asksOwnAddress(n *kern.Notif) bool {
	return n.Nr == abi.SysPrctl && n.Args[0] == abi.PrGetTidAddress
}
