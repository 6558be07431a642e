package ferry

import (
	"time"

	"mosix/internal/fault"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/migrator/thaw"
)

// ClockUncorrected, armed with an error, makes guests that come here read this node's clock instead of their home's: a test
// which then still finds home's time has not looked.
var ClockUncorrected = fault.Register("clock-uncorrected")

// correct leaves the plan's clock at home's, unless a test wants to see what happens without it.
func (t *target) correct(plan *thaw.Plan) {
	if ClockUncorrected.Hit() != nil {
		plan.Clocks.Real = t.env.Realtime() - (kern.Now(kern.ClockMonotonic) + plan.Clocks.Mono)
	}
}

// readings are monotonic, boot and realtime, as a process with the clocks c reads them here now.
func (e *Env) readings(c thaw.Clocks) [3]int64 {
	m := kern.Now(kern.ClockMonotonic) + c.Mono
	return [3]int64{m, kern.Now(kern.ClockBoottime) + c.Boot, m + c.Real}
}

// longestWait bounds how long a process is held for its clocks. One that was away for days, on a host whose clock ran faster by
// some millionths, is ahead by less.
const longestWait = time.Second

// awaitClocks holds a process that is about to run until no clock, of which now are the readings, is behind what it has read
// where it was: two machines do not count time at the same speed, and a time namespace cannot be set again.
func (e *Env) awaitClocks(f *image.Family, now [3]int64) {
	var wait time.Duration
	for i := range f.Members {
		wait = max(wait, behind(f.Members[i].Clocks, now))
	}
	if wait > longestWait {
		e.Log.Warn("a process would have to be held longer for a clock that was ahead where it was: the clock goes back", "process", f.Process, "ahead", wait, "held", longestWait)
		wait = longestWait
	}
	if wait > 0 {
		e.Log.Debug("held for its clocks", "process", f.Process, "for", wait)
		time.Sleep(wait)
	}
}

// behind is how long it takes until now has come to what was.
func behind(was, now [3]int64) time.Duration {
	var most int64
	for i := range was {
		most = max(most, was[i]-now[i])
	}
	return time.Duration(most)
}
