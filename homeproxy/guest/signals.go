package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/kern"
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
	g.mu.Unlock()
	g.atStop(c, ret, func(t *tracer.Thread) error { return g.suspend(c, t, ret) })
}

// atStop stops the thread of c, answers c with ret in the meantime, brings in what waits, does f and lets the thread go.
func (g *Guest) atStop(c *call, ret int64, f func(t *tracer.Thread) error) {
	answered := false
	err := g.held(c.host, c, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.forget(c)
		answered = true
		g.reply(c, ret)
		return nil
	}, func(_ *tracer.Process, t *tracer.Thread) error { return f(t) })
	if err != nil && !errors.Is(err, tracer.ErrGone) {
		g.log.Error("cannot answer a guest's call with its thread stopped", "process", g.Process, "thread", c.tid, "err", err)
	}
	if answered {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil || errors.Is(err, tracer.ErrGone) {
		g.forget(c)
		return
	}
	c.answer = &ret // somebody else has the thread: it waits for its answer until then
	time.AfterFunc(answerAgain, func() {
		if !g.stopped() {
			g.answerStopped(c, ret)
		}
	})
}

// makeAgain has the thread of c make its call again, after f was done with the thread stopped. The caller holds mu.
func (g *Guest) makeAgain(c *call, f func(t *tracer.Thread) error) {
	g.calls[c.tid] = c
	ret := int64(-abi.ERestartNoInt)
	c.answer = &ret
	go func() {
		g.hands.Lock()
		defer g.hands.Unlock()
		g.mu.Lock()
		stale := g.calls[c.tid] != c || g.leaving
		g.mu.Unlock()
		if !stale {
			g.atStop(c, ret, f)
		}
	}()
}

// answerAgain is how long after a thread could not be stopped it is tried again.
const answerAgain = 100 * time.Millisecond

// held stops a thread, with between called between the asking and the stop, makes it queue the signals that have come until then,
// does f and lets it go: an answer that it was given with the stop may be later than they. Where another thread of this agent holds
// it at the moment, it is tried again. c is the call that between answers, or nil. The caller holds hands.
func (g *Guest) held(host int, c *call, between func() error, f func(*tracer.Process, *tracer.Thread) error) error {
	var sigs, later []signal
	err := tracer.Run(func() error {
		p, err := tracer.Open(g.PID, g.code)
		if err != nil {
			return err
		}
		defer p.Close()
		p.Region = g.Region
		t, err := p.SeizeWith(host, between)
		for try := 0; errors.Is(err, kern.EPERM) && try < 400; try++ {
			time.Sleep(5 * time.Millisecond)
			t, err = p.SeizeWith(host, between)
		}
		g.mu.Lock()
		delete(g.stopping, host)
		g.mu.Unlock()
		if err != nil {
			return err
		}
		g.unheard(t)
		g.mu.Lock()
		var back []Returned
		sigs, back = g.enter()
		g.mu.Unlock()
		g.giveBack(back)
		c.aim(sigs)
		later = g.queue(t, sigs)
		return errors.Join(f(p, t), g.letGo(t))
	})
	g.again(later)
	g.pokeWaiters(sigs)
	return err
}

// queue makes the held thread t queue signals, and returns those that another thread must queue: only the thread itself may
// say that a signal came from the kernel or a user, and only the leader so for the whole process.
func (g *Guest) queue(t *tracer.Thread, sigs []signal) (later []signal) {
	if len(sigs) == 0 {
		return nil
	}
	defer g.watched(t.TID)()
	g.mu.Lock()
	g.inject[t.TID] = true
	self := g.back[t.TID]
	g.mu.Unlock()
	for _, s := range sigs {
		process := s.process
		switch {
		case !process && s.tid == self, process && (self == g.Process.PID || s.info.Code() < 0 && s.info.Code() != abi.SITkill):
		case process && t.Mask&abi.SigBit(s.info.Signo()) == 0 && !g.leaderTakes(s.info.Signo()):
			process = false // the kernel could have chosen this thread as well
		case !process && g.tids[s.tid] == 0:
			continue // its thread has ended, and with it the signal
		default:
			later = append(later, s)
			continue
		}
		if err := t.QueueSignal(s.info, process); errors.Is(err, tracer.ErrSpoiled) {
			g.Spoiled(err)
			break
		} else if err != nil && !errors.Is(err, tracer.ErrGone) {
			if s.tries++; s.tries == 1 {
				g.log.Error("cannot bring a signal into a guest; it is tried again", "process", g.Process, "signal", s.info.Signo(), "err", err)
			}
			later = append(later, s)
		}
	}
	g.mu.Lock()
	delete(g.inject, t.TID)
	g.mu.Unlock()
	return later
}

// leaderTakes reports whether the leading thread does not block sig: the kernel gives it what is for the process then.
func (g *Guest) leaderTakes(sig int) bool {
	host := g.tids[g.Process.PID]
	return host != 0 && g.signalState(host).blocked&abi.SigBit(sig) == 0
}

// again takes signals up that could not be queued yet, through the threads that can.
func (g *Guest) again(sigs []signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entering = 0
	came := g.signals // while the thread was being stopped: later than those
	for _, s := range came {
		g.kick(s, s.process)
	}
	wait := false
	for i := range sigs {
		s := &sigs[i]
		if s.process {
			s.tid = g.Process.PID
		}
		if s.tries == 0 {
			g.kick(*s, false)
		}
		wait = wait || s.tries > 0
	}
	if wait {
		time.AfterFunc(answerAgain, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			if len(g.signals) > 0 {
				g.kick(g.signals[0], g.signals[0].process)
			}
		})
	}
	g.signals = append(slices.Clone(sigs), came...)
}

// Signal takes a signal that reached the shadow. directed says that it was sent to this very thread, which its code does not tell.
func (g *Guest) Signal(tid id.HomePID, si abi.Siginfo, directed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := signal{tid: tid, info: si, process: si.Code() != abi.SITkill && !directed}
	if si.Signo() == abi.SIGCONT { // the shadow goes on: a stop that is sent again now would take this signal away
		g.halted = false
	}
	if s.home = g.dumpsHere(tid, s.process, si.Signo()); s.home {
		g.goHome("a core dump")
	}
	g.signals = append(g.signals, s)
	g.kick(s, s.process)
}

// kick gets a thread to queue what waits: the one that s is for or, where any will do, one that computes.
func (g *Guest) kick(s signal, anyone bool) {
	if g.leaving || !g.running || g.ended || s.home {
		return
	}
	host := 0
	if c := g.calls[s.tid]; c == nil || c.retired {
		host = g.tids[s.tid]
	}
	if host == 0 && anyone {
		for h, n := range g.tids {
			if g.calls[h] == nil {
				host = n
				break
			}
		}
	}
	if host != 0 {
		go g.bringIn(host)
		return
	}
	// It waits in a call, and must come out. At home its call may have been cut already.
	c := g.calls[s.tid]
	if c == nil {
		for _, c = range g.calls {
			break
		}
	}
	if c != nil && c.answer == nil {
		g.cancel(c)
	}
}

// Begin says that the guest was let go.
func (g *Guest) Begin() {
	g.mu.Lock()
	g.running = true
	for _, s := range g.signals {
		g.kick(s, s.process)
	}
	g.mu.Unlock()
}

// bringIn stops a computing thread and makes it queue what waits.
func (g *Guest) bringIn(host int) {
	g.hands.Lock()
	defer g.hands.Unlock()
	g.mu.Lock()
	none := len(g.signals) == 0 || g.leaving
	g.mu.Unlock()
	if none {
		return
	}
	nothing := func(*tracer.Process, *tracer.Thread) error { return nil }
	if err := g.held(host, nil, func() error { return g.unblock(host) }, nothing); err != nil && !(errors.Is(err, tracer.ErrGone) && g.gone()) {
		g.log.Warn("signals wait, for a thread could not be stopped", "process", g.Process, "err", err)
	}
}

// gone reports whether the whole guest has ended, and not just a thread of it.
func (g *Guest) gone() bool { return kern.IsGone(kern.Kill(g.PID, 0)) }

// letGo releases a thread that was held alone.
func (g *Guest) letGo(t *tracer.Thread) error {
	defer g.watched(t.TID)()
	g.mu.Lock()
	g.inject[t.TID] = true
	g.mu.Unlock()
	err := t.PutBack()
	g.mu.Lock()
	delete(g.inject, t.TID) // before the thread runs again: its own calls are not ours
	g.mu.Unlock()
	return errors.Join(err, t.Release())
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
		g.reply(c, *c.answer)
	case c.waiting, c.retired:
		g.forget(c)
		g.reply(c, -abi.ERestartNoInt)
	case c.seq != 0:
		g.cancel(c)
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
		if c.wants(st) {
			g.cancel(c)
		}
	}
}

// signalState is what /proc says of a thread's signals.
type signalState struct{ pending, blocked, ignored, caught uint64 }

func (g *Guest) signalState(host int) (st signalState) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/status", g.PID, host))
	if err != nil {
		return
	}
	defer f.Close()
	var buf [4096]byte // it is asked with nearly every forwarded call
	n, _ := f.Read(buf[:])
	text := buf[:n]
	if n == len(buf) { // a user of very many groups
		rest, _ := io.ReadAll(f)
		text = append(text, rest...)
	}
	mask := func(key string) uint64 {
		i := bytes.Index(text, []byte(key))
		if i < 0 || i+len(key)+16 > len(text) {
			return 0
		}
		text = text[i+len(key):] // the keys are asked for in their order
		var x uint64
		for _, c := range text[:16] {
			x = x<<4 | uint64(c&0xf+c>>6*9)
		}
		return x
	}
	st.pending = mask("\nSigPnd:\t") | mask("\nShdPnd:\t")
	st.blocked = mask("\nSigBlk:\t")
	st.ignored = mask("\nSigIgn:\t")
	st.caught = mask("\nSigCgt:\t") &^ g.faulting.Load()
	for s := 1; s <= abi.NSig; s++ {
		if abi.DefaultIgnored(s) && st.caught&abi.SigBit(s) == 0 {
			st.ignored |= abi.SigBit(s)
		}
	}
	return st
}
