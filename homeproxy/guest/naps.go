package guest

import (
	"encoding/binary"
	"time"

	"mosix/internal/abi"
	"mosix/internal/mem"
	"mosix/internal/tracer"
)

// A short sleep is slept here: programs of Go sleep a hundred times a second, and a journey home takes as long as many of these sleeps. One
// that a move ends is slept again from its beginning, which is no longer than the move itself.

// napMost is the longest sleep that is short.
const napMost = 20 * time.Millisecond

// naps reports whether a call is a short sleep, which the guest's kernel is to make.
func (g *Guest) naps(c *call, args [6]uint64) bool {
	if c.nr != abi.SysNanosleep || c.restart || c.until != 0 {
		return false
	}
	var b [16]byte
	if n, err := g.ReadMemory(mem.Addr(args[0]), b[:]); err != nil || n != len(b) {
		return false // EFAULT, by home's kernel
	}
	sec, ns := binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
	return sec == 0 && ns <= uint64(napMost)
}

// wake makes the short sleeps of held threads begin anew where no handler runs: what a stop has left of them only this kernel knows.
func (g *Guest) wake(ts ...*tracer.Thread) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range ts {
		r := &t.Regs
		if int64(r.RAX) != -abi.ERestartBlock || g.restarts[g.back[t.TID]] != 0 { // home continues it
			continue
		}
		args, ok := g.napping[t.TID]
		// A futex, of which this agent does not hear, goes on by restart_syscall, too.
		if again := ok && r.OrigRAX == abi.SysRestartSyscall && args == [2]uint64{r.RDI, r.RSI}; again || r.OrigRAX == abi.SysNanosleep {
			r.OrigRAX, r.RAX = abi.SysNanosleep, ^uint64(abi.ERestartNoHnd-1)
		}
	}
}
