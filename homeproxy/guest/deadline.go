package guest

import (
	"mosix/homeproxy"
	"mosix/internal/kern"
)

// clocksAgree is how far apart two realtimes may be that count as the same, ns: one machine knows another's no better.
const clocksAgree = 1_000_000

// futex lets a futex wait until a realtime where the host's clock, by which its kernel waits, is home's. Elsewhere it is made at home.
// The caller holds mu.
func (g *Guest) futex(c *call, row *homeproxy.Row) {
	if off := g.realtime() - kern.Now(kern.ClockRealtime); max(off, -off) < clocksAgree {
		g.proceed(c.id)
		return
	}
	g.comeHome(c, row.Name)
}
