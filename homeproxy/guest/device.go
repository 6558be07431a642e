package guest

import (
	"crypto/rand"

	"mosix/homeproxy"
	"mosix/internal/mem"
)

// device makes a call here, if its descriptor is a device that is the same everywhere. The caller holds mu.
func (g *Guest) device(c *call, args [6]uint64) bool {
	if c.restart || c.until != 0 {
		return false
	}
	is, ret, fill := g.devices.Answer(c.nr, args)
	if is == homeproxy.NoDevice {
		return false
	}
	if fill > 0 {
		b := make([]byte, fill)
		if is == homeproxy.RandomDevice {
			_, _ = rand.Read(b) // never fails
		}
		n, err := g.WriteMemory(mem.Addr(args[1]), b)
		if err != nil || n == 0 {
			return false // home says how that ends
		}
		ret = int64(n)
	}
	g.reply(c, ret)
	return true
}

// replacing reports whether a call is under way that may make a descriptor another one. The caller holds mu.
func (g *Guest) replacing() bool {
	for _, c := range g.calls {
		if c.seq != 0 && homeproxy.Replaces(c.nr) {
			return true
		}
	}
	return false
}
