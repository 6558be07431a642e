package guest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/tracer"
)

// answerStopped interrupts the thread, answers, and queues signals before it goes on.
func (g *Guest) answerStopped(c *call, ret int64) {
	g.hands.Lock()
	defer g.hands.Unlock()
	g.mu.Lock()
	if g.calls[c.tid] != c || g.leaving { // somebody else has stopped the thread meanwhile
		g.mu.Unlock()
		return
	}
	sigs := g.signals
	g.signals = nil
	g.mu.Unlock()
	answered := false
	err := tracer.Run(func() error {
		p, err := tracer.Open(g.PID, g.code)
		if err != nil {
			return err
		}
		defer p.Close()
		p.Region = g.Region
		t, err := p.SeizeWith(c.host, func() error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.forget(c)
			answered = true
			g.send(c.id, ret)
			return nil
		})
		if err != nil {
			return err
		}
		g.queue(t, sigs)
		return g.letGo(t)
	})
	if err != nil && !errors.Is(err, tracer.ErrGone) {
		g.log.Error("cannot answer a guest's call with its thread stopped", "process", g.Process, "thread", c.tid, "err", err)
	}
	if !answered {
		g.mu.Lock()
		g.forget(c)
		g.mu.Unlock()
	}
	g.pokeWaiters(sigs)
}

// queue makes the held thread t queue signals.
func (g *Guest) queue(t *tracer.Thread, sigs []signal) {
	if len(sigs) == 0 {
		return
	}
	defer g.watched(t.TID)()
	g.mu.Lock()
	g.inject[t.TID] = true
	self := g.back[t.TID]
	g.mu.Unlock()
	for _, s := range sigs {
		process := s.process || self != s.tid
		if err := t.QueueSignal(s.info, process); err != nil && !errors.Is(err, tracer.ErrGone) {
			g.log.Error("cannot bring a signal into a guest", "process", g.Process, "signal", s.info.Signo(), "err", err)
		}
	}
	g.mu.Lock()
	delete(g.inject, t.TID)
	g.mu.Unlock()
}

// Signal takes a signal that reached the shadow.
func (g *Guest) Signal(tid id.HomePID, si abi.Siginfo) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := signal{tid: tid, info: si, process: si.Code() != abi.SITkill}
	if g.leaving {
		g.signals = append(g.signals, s)
		return
	}
	// A thread that computes can queue it; a process-directed one any of them.
	host := 0
	if g.calls[tid] == nil && g.tids[tid] != 0 {
		host = g.tids[tid]
	} else if s.process {
		for h, n := range g.tids {
			if g.calls[h] == nil {
				host = n
				break
			}
		}
	}
	g.signals = append(g.signals, s)
	if !g.running {
		return
	}
	if host != 0 {
		go g.bringIn(host)
		return
	}
	// All wait in calls: the one that takes it must come out. At home its call may have been cut already.
	c := g.calls[tid]
	if c == nil {
		for _, c = range g.calls {
			break
		}
	}
	if c != nil && c.answer == nil {
		g.link.Cancel(c.tid, c.seq)
	}
}

// Begin says that the guest was let go.
func (g *Guest) Begin() {
	g.mu.Lock()
	sigs := g.signals
	g.signals, g.running = nil, true
	g.mu.Unlock()
	for _, s := range sigs {
		g.Signal(s.tid, s.info)
	}
}

// bringIn stops a computing thread and makes it queue what waits.
func (g *Guest) bringIn(host int) {
	g.hands.Lock()
	defer g.hands.Unlock()
	g.mu.Lock()
	sigs := g.signals
	g.signals = nil
	leaving := g.leaving
	if leaving {
		g.signals = sigs
	}
	g.mu.Unlock()
	if len(sigs) == 0 || leaving {
		return
	}
	err := g.stopAndQueue(host, sigs)
	if err != nil {
		if errors.Is(err, tracer.ErrGone) {
			return
		}
		g.log.Error("cannot bring signals into a guest", "process", g.Process, "err", err)
	}
	g.pokeWaiters(sigs)
}

func (g *Guest) stopAndQueue(host int, sigs []signal) error {
	return tracer.Run(func() error {
		p, err := tracer.Open(g.PID, g.code)
		if err != nil {
			return err
		}
		defer p.Close()
		p.Region = g.Region
		t, err := p.SeizeWith(host, func() error { return g.unblock(host) })
		g.mu.Lock()
		delete(g.stopping, host)
		g.mu.Unlock()
		if err != nil {
			return err
		}
		g.queue(t, sigs)
		return g.letGo(t)
	})
}

// letGo releases a thread that was held alone. A SIGSTOP that our stop has taken out of its queue was sent by this agent: it is
// sent again, where the shadow is still stopped.
func (g *Guest) letGo(t *tracer.Thread) error {
	stopped := false
	keep := t.Stash[:0]
	for _, si := range t.Stash {
		if si.Signo() == abi.SIGSTOP {
			stopped = true
		} else {
			keep = append(keep, si)
		}
	}
	t.Stash = keep
	defer g.watched(t.TID)()
	g.mu.Lock()
	g.inject[t.TID] = true
	g.mu.Unlock()
	err := t.PutBack()
	g.mu.Lock()
	delete(g.inject, t.TID) // before the thread runs again: its own calls are not ours
	again := stopped && g.halted && !g.leaving
	g.mu.Unlock()
	err = errors.Join(err, t.Release())
	if again {
		g.halt(true)
	}
	return err
}

// unblock makes sure that a thread which was interrupted can stop: a call that it is in is answered, or cancelled first.
func (g *Guest) unblock(host int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopping[host] = true
	g.release(g.calls[g.back[host]])
	return nil
}

// release gets an interrupted thread out of the call c, if it is in one.
func (g *Guest) release(c *call) {
	switch {
	case c == nil:
	case c.answer != nil:
		g.forget(c)
		g.send(c.id, *c.answer)
	case c.seq != 0:
		g.link.Cancel(c.tid, c.seq)
	}
}

// pokeWaiters looks whether a signal that was queued waits for a thread that sits in a forwarded call, and gets it out.
func (g *Guest) pokeWaiters(sigs []signal) {
	if len(sigs) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.calls {
		if c.answer != nil || c.seq == 0 {
			continue
		}
		st := g.signalState(c.host)
		if st.pending&^st.blocked&^st.ignored != 0 {
			g.link.Cancel(c.tid, c.seq)
		}
	}
}

// signalState is what /proc says of a thread's signals.
type signalState struct{ pending, blocked, ignored, caught uint64 }

func (g *Guest) signalState(host int) (st signalState) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", g.PID, host))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		p := map[string]*uint64{"SigPnd": &st.pending, "ShdPnd": &st.pending, "SigBlk": &st.blocked, "SigIgn": &st.ignored, "SigCgt": &st.caught}[k]
		if p == nil {
			continue
		}
		x, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		*p |= x
	}
	for s := 1; s <= abi.NSig; s++ {
		if abi.DefaultIgnored(s) && st.caught&abi.SigBit(s) == 0 {
			st.ignored |= abi.SigBit(s)
		}
	}
	return st
}
