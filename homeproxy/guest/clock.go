package guest

import (
	"sync/atomic"
	"time"

	"mosix/internal/kern"
	"mosix/internal/stub"
)

// monotonic is the guest's monotonic clock, which is home's.
func (g *Guest) monotonic() int64 { return kern.Now(kern.ClockMonotonic) + g.Clocks.Mono }

// line is how the guest's realtime follows from it now. The guest can write there: it deceives nobody but itself.
func (g *Guest) line() (stub.ClockLine, uint32) {
	h := g.Region.Header()
	n := atomic.LoadUint32(&h.ClockCount)
	return h.Clock[n%2], n
}

// realtime is the guest's realtime, as its vDSO tells it.
func (g *Guest) realtime() int64 {
	m := g.monotonic()
	if g.Region == nil {
		return m + g.Clocks.Real
	}
	l, _ := g.line()
	return m + l.At(m)
}

// Readings are what the guest has read from its clocks, at most: monotonic, boot and realtime.
func (g *Guest) Readings() [3]int64 {
	return [3]int64{g.monotonic(), kern.Now(kern.ClockBoottime) + g.Clocks.Boot, g.realtime()}
}

// clockBlur is how far apart two clocks may seem to be only because nobody can look at both at once; the round trip in which
// they were read is added.
const clockBlur = 20 * time.Microsecond

// Follow takes home's realtime, which was read within the last trip, and bends the guest's towards it. It is called from one
// goroutine.
func (g *Guest) Follow(real int64, trip time.Duration) {
	if g.Region == nil || trip < 0 || trip > time.Second {
		return
	}
	h := g.Region.Header()
	home := real + int64(trip/2) - g.monotonic() // to the guest's monotonic clock, now
	var diff int64
	var next stub.ClockLine
	for try := 0; ; try++ {
		m := g.monotonic()
		l, n := g.line()
		diff = home - l.At(m+int64(stub.ClockSettles))
		if time.Duration(max(diff, -diff)) <= trip/2+clockBlur {
			return
		}
		if next = l.Next(m, home); next == l || try == 5 {
			return // what is wrong is so the next time, too
		}
		h.Clock[(n+1)%2] = next
		if jumps := next.Base <= m; jumps || g.monotonic() < next.Base-stub.ClockNear { // this thread may have waited for a processor
			atomic.StoreUint32(&h.ClockCount, n+1)
			break
		}
		time.Sleep(time.Millisecond)
	}
	g.log.Debug("a guest's clock follows home's", "process", g.Process, "off", time.Duration(diff), "trip", trip, "rate_ppm", next.Rate*1e6>>stub.ClockBits)
}
