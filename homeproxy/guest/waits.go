package guest

import (
	"encoding/binary"
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
)

// Calls that a mere stop ends with EINTR have no restart block that knows what remains of their time. The guest's kernel is told
// that they have one, -516: it makes restart_syscall where no handler runs, which is how such a call that goes on is told from
// a new one, and the call is forwarded again for what remains.

// homeMono reads home's CLOCK_MONOTONIC.
func (g *Guest) homeMono() int64 { return kern.Now(kern.ClockMonotonic) + g.Clocks.Mono }

// Until is when the call ends that thread host makes again; 0: no time is set.
func (g *Guest) Until(host int) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until[g.back[host]]
}

// limit notes when a timed call of that kind ends, or lets one that goes on end then.
func (g *Guest) limit(c *call, req *homeproxy.Request) {
	form := abi.TimeoutOf(uint64(c.nr))
	d, timed := req.Timeout()
	switch {
	case form == abi.TimeoutNone || c.restart:
	case c.until == 0 && timed:
		c.until = g.homeMono() + int64(d)
	case c.until == 0:
	case timed:
		req.SetTimeout(time.Duration(c.until - g.homeMono()))
	default: // a socket has it, and would begin anew
		time.AfterFunc(time.Duration(c.until-g.homeMono()), func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.calls[c.tid] == c && c.answer == nil && c.seq != 0 {
				c.expired = true
				g.cancel(c)
			}
		})
	}
}

// outcome is what the guest's kernel is told where home, or the lack of one, says ret.
func (g *Guest) outcome(c *call, ret int64) int64 {
	if ret = g.unfinished(c, ret); ret == -abi.ERestartNoInt && c.begun != 0 {
		return c.begun
	}
	return ret
}

// unfinished turns the result of such a call that has not come to its end into one that says so: no stop, no ignored signal and
// none that another thread takes may show as EINTR. A handler's does, by the guest's kernel.
func (g *Guest) unfinished(c *call, ret int64) int64 {
	if abi.TimeoutOf(uint64(c.nr)) == abi.TimeoutNone || c.restart || ret != -int64(kern.EINTR) && !abi.IsRestart(ret) {
		return ret
	}
	switch {
	case c.expired && c.nr == sysConnect && !g.isLocal(mem.Addr(c.c.Args[1])):
		return -int64(kern.EINPROGRESS)
	case c.expired:
		return -int64(kern.EAGAIN)
	case c.until != 0:
		g.until[c.tid] = c.until
		return -abi.ERestartBlock
	case ret == -int64(kern.EINTR):
		return -abi.ERestartNoHnd
	}
	return ret
}

const sysConnect = 42

// isLocal reports whether at is the address of a socket of the machine: to connect to one waits for room with its listener, and fails with
// another error when the time is over.
func (g *Guest) isLocal(at mem.Addr) bool {
	const afUnix = 1
	var family [2]byte
	n, err := g.ReadMemory(at, family[:])
	return err == nil && n == len(family) && binary.LittleEndian.Uint16(family[:]) == afUnix
}
