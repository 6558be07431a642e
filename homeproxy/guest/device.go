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
	b := make([]byte, min(fill, homeproxy.MaxData))
	for ret = ret - int64(fill); fill > 0; {
		b = b[:min(fill, len(b))]
		if is == homeproxy.RandomDevice {
			_, _ = rand.Read(b) // never fails
		}
		n, err := g.WriteMemory(mem.Addr(args[1])+mem.Addr(ret), b)
		if n == 0 && ret == 0 && err != nil {
			return false // home says how that ends
		}
		ret += int64(n)
		if fill -= n; n < len(b) {
			break
		}
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
