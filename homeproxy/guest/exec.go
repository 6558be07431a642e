package guest

import (
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/stub"
)

// exec lets home execute a program: the process is at home then, and this guest is no more. Only if that fails its thread goes on.
// The caller holds mu.
func (g *Guest) exec(c *call, name string, args [6]uint64) {
	st := g.signalState(c.host)
	if len(g.tids) > 1 || st.pending != 0 || len(g.signals) > 0 { // the kernel at home knows what becomes of them
		g.comeHome(c, name)
		return
	}
	if g.leaving || g.stopping[c.host] {
		g.later(c)
		return
	}
	e, errno, ok := homeproxy.GatherExec(c.nr, args, g, stub.SlotDataSize/2)
	switch {
	case errno != 0:
		g.finish(c, -int64(errno))
		return
	case !ok:
		g.comeHome(c, name)
		return
	}
	e.Heard, e.Mask = g.link.Heard(), st.blocked
	c.exec = true
	g.dispatch(c, e.Request())
}

// execTries bounds how often home is asked again to execute a program for a guest that uses its parent's memory. It must not go home
// before: what it writes there its parent would not see, such as the reason why there is no program (posix_spawn).
const execTries = 400

// execAgain asks home again in a moment. The caller holds mu.
func (g *Guest) execAgain(c *call) {
	again := int64(-abi.ERestartNoInt)
	c.seq, c.answer = 0, &again // for whoever stops the thread before
	go func() {
		time.Sleep(5 * time.Millisecond)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.calls[c.tid] == c && c.answer == &again && !g.leaving && !g.stopping[c.host] {
			c.answer = nil
			g.dispatch(c, c.req)
		}
	}()
}

// executed takes home's answer to exec, which is that it did not succeed. The caller holds mu.
func (g *Guest) executed(c *call, res homeproxy.Result) {
	if res.Ret == homeproxy.Unserved {
		if c.tries++; c.tries < execTries && g.Borrows() {
			g.execAgain(c)
			return
		}
		g.comeHome(c, homeproxy.Lookup(c.nr).Name)
		return
	}
	if res.Ret >= 0 || abi.IsRestart(res.Ret) {
		res.Ret = -int64(kern.EINVAL) // no honest home says so
	}
	g.finish(c, res.Ret)
}
