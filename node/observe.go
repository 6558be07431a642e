package node

import (
	"fmt"
	"os"
	"time"

	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/procfs"
)

// observed is what others have done to the original of a process while it is away, as far as it was seen.
type observed struct {
	looks  int
	limits procfs.Limits
	own    uint32 // how often the process has set limits itself
	seen   int    // who traced it the last time
	traced bool   // a debugger has had it
	why    string // for which it must come home, once that is so
	asked  time.Time
}

const (
	limitsEvery = 10 // at how many looks its limits are looked at, too
	askEvery    = time.Second
)

// observe calls the process home when somebody at home does what can be done only to the process itself: a debugger has attached
// to it, or its limits were set that its guest's kernel keeps. While the debugger has it, it cannot come; it comes when it is let go.
func (a *away) observe(o *observed) {
	st, err := procfs.Default.Status(int(a.r.id.PID))
	if err != nil {
		return // it has ended
	}
	tracer := st.TracerPID
	switch {
	case isOurs(tracer):
		o.seen, tracer = 0, 0
	case tracer != o.seen: // a thread of ours that has ended by now is not there the next time
		o.seen, tracer = tracer, 0
	}
	if tracer != 0 && !o.traced {
		o.traced = true
		a.n.log.Info("a debugger has attached to a process that is away: it sees what holds its place, and the process comes home when it is let go", "process", a.r.id, "debugger", tracer)
	}
	if o.traced {
		o.why = "a debugger had attached to it"
	}
	if o.looks++; o.looks%limitsEvery == 1 {
		a.observeLimits(o)
	}
	if o.why == "" || tracer != 0 || time.Since(o.asked) < askEvery || !a.called.CompareAndSwap(false, true) {
		return
	}
	o.asked = time.Now()
	why := image.Refusal{What: "observed", Evidence: o.why}
	a.n.goes(func() {
		defer a.called.Store(false)
		a.notHere(why)
	})
}

// isOurs reports whether a thread is one of this agent's: it is threads that trace.
func isOurs(tid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
	return err == nil
}

// observeLimits notes why it must come home if others have set limits of the process that its guest's kernel keeps.
func (a *away) observeLimits(o *observed) {
	own := a.sh.OwnLimits() // before they are read: what the process sets meanwhile is seen with the next look
	limits, err := procfs.Default.Limits(int(a.r.id.PID))
	if err != nil {
		return
	}
	for _, what := range []int{kern.LimitCPU, kern.LimitData, kern.LimitStack, kern.LimitCore, kern.LimitMemlock, kern.LimitAS} {
		if o.looks > 1 && limits[what] != o.limits[what] && own == o.own && own == a.sh.OwnLimits() {
			o.why = fmt.Sprintf("its resource limit %d was set from outside", what)
		}
	}
	o.limits, o.own = limits, own
}
