package guest

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"mosix/internal/abi"
	"mosix/internal/kern"
)

// injectTime is how long a thread of a guest may take for calls that this agent makes through it. They take microseconds; a
// busy machine, or one call over much memory, may make it seconds.
const injectTime = 30 * time.Second

// watched limits the time that thread host has for calls of ours. Other threads of the guest run meanwhile and can change
// the code that makes them, so that it never comes to its end: whoever waits for that waits for ever. A thread that still
// runs when its time is over ends its guest; one that is stopped waits for us, and that is not its fault. The caller calls
// done when it has the thread back.
func (g *Guest) watched(host int) (done func()) {
	t := time.AfterFunc(injectTime, func() {
		for range 3 { // a machine that was stopped as a whole gives the calls time to end
			if !runs(g.PID, host) {
				return
			}
			time.Sleep(time.Second)
		}
		g.Spoiled(fmt.Errorf("a call in thread %d does not end", host))
	})
	return func() { t.Stop() }
}

// Spoiled ends a guest in which this agent can make no calls any more, as it has found out by cause: no signal would reach it
// and it could never go home. Nothing but a program that writes to memory which is not its own does that. Home is told of its
// end as of any other.
func (g *Guest) Spoiled(cause error) {
	g.log.Error("a guest has tampered with the page that it shares with this agent: it is ended", "process", g.Process, "err", cause)
	if err := kern.Kill(g.Den.KeeperID, abi.SIGKILL); err != nil && !kern.IsGone(err) {
		g.log.Warn("cannot end a guest", "process", g.Process, "err", err)
	}
}

// runs reports whether a thread runs, or wants to.
func runs(pid, tid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	i := bytes.LastIndexByte(b, ')')
	return err == nil && i > 0 && i+2 < len(b) && b[i+2] != 't' && b[i+2] != 'Z' && b[i+2] != 'X'
}

// flood is how many calls a guest may make in a flood window; above it the agent takes a breath after each, so that a guest
// whose calls cost it nothing cannot keep this agent, which serves others too, from its work. A call that goes home takes
// longer than a breath by itself.
const (
	flood       = 25000
	floodWindow = time.Second
	floodBreath = 100 * time.Microsecond
)

// meter counts the calls of a guest.
type meter struct {
	since time.Time
	calls int
}

// took notes a call at now, and returns how long to wait before the next is taken.
func (m *meter) took(now time.Time) time.Duration {
	if now.Sub(m.since) > floodWindow {
		m.since, m.calls = now, 0
	}
	if m.calls++; m.calls > flood {
		return floodBreath
	}
	return 0
}
