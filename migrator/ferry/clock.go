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

// lowest are the readings that the slowest of a process's clocks would give here now. The coarse ones stand still between two ticks of
// this kernel, and longer where a tick comes late; a guest is told realtime without them.
func (e *Env) lowest(c thaw.Clocks, home bool) [3]int64 {
	now := e.readings(c)
	late := kern.Now(kern.ClockMonotonic) - kern.Now(kern.ClockMonotonicCoarse)
	now[0] -= late
	if home {
		now[2] -= late
	}
	return now
}

// longestWait bounds how long a process is held for its clocks. One that was away for days, on a host whose clock ran faster by
// some millionths, is ahead by less.
const longestWait = time.Second

// awaitClocks holds a process that is about to run until no clock is behind what it has read where it was: two machines do not count
// time at the same speed, and a time namespace cannot be set again; and here coarse clocks may be read that were fine there.
func (e *Env) awaitClocks(f *image.Family, c thaw.Clocks, home bool) {
	for t0 := time.Now(); ; {
		var wait time.Duration
		now := e.lowest(c, home)
		for i := range f.Members {
			wait = max(wait, behind(f.Members[i].Clocks, now))
		}
		held := time.Since(t0)
		if left := longestWait - held; wait > left {
			e.Log.Warn("a process would have to be held longer for a clock that was ahead where it was: the clock goes back", "process", f.Process, "ahead", wait, "held", longestWait)
			time.Sleep(left)
			return
		}
		if wait <= 0 {
			if held > time.Millisecond {
				e.Log.Debug("held for its clocks", "process", f.Process, "for", held)
			}
			return
		}
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
