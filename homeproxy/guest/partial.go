package guest

import (
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/tracer"
)

// partial is a transfer that was begun before the process came here, and that its thread makes again: n bytes of it are done.
type partial struct {
	nr   uint32
	args [6]uint64
	n    uint64
}

func (g *Guest) threadOf(m *image.Process, tid id.HomePID) *image.Thread {
	if m == nil {
		return nil
	}
	for i := range m.Threads {
		if m.Threads[i].TID == tid {
			return &m.Threads[i]
		}
	}
	return nil
}

// goOn lets a call that was begun elsewhere go on where it had come to. The caller holds mu.
func (g *Guest) goOn(c *call) {
	if p, ok := g.partial[c.tid]; ok && p.nr == c.nr && p.args == c.c.Args {
		delete(g.partial, c.tid)
		c.c.GoOn(int64(p.n))
	}
}

// Settle ends the transfers that held threads were to make again, with what is done: where the process goes nobody knows of them.
func (g *Guest) Settle(p *tracer.Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range p.Held() {
		if x, ok := g.partial[g.back[t.TID]]; ok && int64(t.Regs.RAX) == -abi.ERestartNoInt && uint32(t.Regs.OrigRAX) == x.nr && t.Regs.Args() == x.args {
			t.Regs.RAX = x.n
			delete(g.partial, g.back[t.TID])
		}
	}
}

// undisturbed reports whether a transfer of which a part is done may go on: nothing that the program sees has ended it, no signal and
// no timeout.
func (g *Guest) undisturbed(c *call) bool {
	if c.expired || g.leaving || g.holding || g.halted || g.stopping[c.host] || g.isEnding() || len(g.signals) > 0 || g.entering != 0 {
		return false
	}
	st := g.signalState(c.host)
	return st.pending&^st.blocked&^st.ignored == 0
}
