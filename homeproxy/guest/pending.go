package guest

import (
	"encoding/binary"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// A signal that the guest blocks pends here, with one exception: what the process can read from a signalfd pends at home, where
// that descriptor is. Calls that look at pending signals look here first, then at home.

// Returned is a signal that goes back to home to pend there.
type Returned struct {
	TID     id.HomePID
	Process bool
	Info    abi.Siginfo
}

// never are the signals that nobody can block.
const never = uint64(1)<<(abi.SIGKILL-1) | 1<<(abi.SIGSTOP-1)

// SetSignalFDs says which signals the process can read from descriptors, as home knows it.
func (g *Guest) SetSignalFDs(set uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fds |= set
}

// looks serves a call that looks at pending signals as far as they are here. It returns false where the call goes home.
func (g *Guest) looks(c *call, args [6]uint64) bool {
	var b [8]byte
	setAt := args[0]
	switch c.nr {
	case abi.SysRtSigpending:
		return false // what pends here is added to the result
	case abi.SysSignalfd, abi.SysSignalfd4:
		setAt = args[1]
	}
	if n, err := g.ReadMemory(mem.Addr(setAt), b[:]); err != nil || n != len(b) {
		return false // EFAULT, by home's kernel
	}
	set := binary.LittleEndian.Uint64(b[:]) &^ never
	st := g.signalState(c.host)
	if c.nr == abi.SysRtSigtimedwait {
		c.awaits = set
	} else {
		g.fds |= set
		set &= st.blocked
	}
	if g.local(c, st)&set == 0 {
		return false
	}
	ret := int64(-abi.ERestartNoInt)
	c.answer = &ret
	g.calls[c.tid] = c
	if c.until != 0 { // it is made again once more, and still has its time
		g.until[c.tid] = c.until
	}
	switch {
	case g.holding: // the freezer answers
	case g.leaving || g.stopping[c.host]:
		g.forget(c)
		g.reply(c, ret)
	default:
		go g.takeSignals(c, args, set)
	}
	return true
}

// takeSignals stops the thread of c, which goes on to make the call again, and takes of set what pends: one signal for
// rt_sigtimedwait, which has its result then, all for a new signalfd.
func (g *Guest) takeSignals(c *call, args [6]uint64, set uint64) {
	g.hands.Lock()
	defer g.hands.Unlock()
	g.mu.Lock()
	if g.calls[c.tid] != c || g.leaving {
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	g.atStop(c, -abi.ERestartNoInt, func(t *tracer.Thread) error {
		if t.Regs.OrigRAX != uint64(c.nr) && t.Regs.OrigRAX != abi.SysRestartSyscall {
			return nil
		}
		private, err := kern.PeekSiginfo(t.TID, false)
		if err != nil {
			return err
		}
		own := 0
		for i := range private {
			if abi.SigBit(private[i].Signo())&set != 0 {
				own++
			}
		}
		var back []Returned
		for {
			ret, si, err := g.dequeue(t, set)
			if err != nil || ret < 0 {
				g.giveBack(back)
				return err
			}
			if c.nr != abi.SysRtSigtimedwait {
				back = append(back, Returned{TID: c.tid, Process: own <= 0, Info: si})
				own--
				continue
			}
			if args[1] != 0 {
				if n, err := g.WriteMemory(mem.Addr(args[1]), si[:]); err != nil || n != len(si) {
					ret = -int64(kern.EFAULT)
				}
			}
			t.Regs.RAX, t.Regs.OrigRAX = uint64(ret), abi.NoCall
			g.mu.Lock()
			defer g.mu.Unlock()
			delete(g.restarts, c.tid)
			delete(g.until, c.tid)
			return nil
		}
	})
}

// dequeue makes the held thread t take one pending signal of set; ret is its number, or negative.
func (g *Guest) dequeue(t *tracer.Thread, set uint64) (ret int64, si abi.Siginfo, err error) {
	const setOff, infoOff, zeroOff = 4096, 4096 + 64, 4096 + 256
	b := g.Region.Scratch()
	binary.LittleEndian.PutUint64(b[setOff:], set)
	clear(b[zeroOff : zeroOff+16])
	at := func(off int) uint64 { return uint64(g.Region.Addr(stub.ScratchOff + off)) }
	defer g.watched(t.TID)()
	g.injecting(t.TID, true)
	ret, err = t.Call(abi.SysRtSigtimedwait, at(setOff), at(infoOff), at(zeroOff), 8)
	g.injecting(t.TID, false)
	copy(si[:], b[infoOff:])
	return ret, si, err
}

func (g *Guest) injecting(host int, yes bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if yes {
		g.inject[host] = true
	} else {
		delete(g.inject, host)
	}
}

// giveBack sends signals home to pend there.
func (g *Guest) giveBack(back []Returned) {
	if len(back) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.link.Masks(g.masks(), back) {
		for _, r := range back { // home is out of reach: they wait here
			g.signals = append(g.signals, signal{tid: r.TID, info: r.Info, process: r.Process})
		}
		return
	}
	for _, r := range back { // the thread that queues them must be free
		tid := r.TID
		if r.Process {
			tid = g.Process.PID
		}
		if c := g.calls[tid]; c != nil && c.answer == nil && c.seq != 0 {
			g.cancel(c)
		}
	}
}

// masks are what the guest's threads block now.
func (g *Guest) masks() map[id.HomePID]uint64 {
	out := make(map[id.HomePID]uint64, len(g.tids))
	for tid, host := range g.tids {
		out[tid] = g.signalState(host).blocked
	}
	return out
}

// Pends answers home, in which signals pend that this guest was last known to block.
func (g *Guest) Pends() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.leaving && g.running {
		g.link.Masks(g.masks(), nil)
	}
}

// blockedBy reports whether all who could get sig block it: thread tid, or for the process every thread.
func (g *Guest) blockedBy(tid id.HomePID, process bool, sig int) bool {
	if host := g.tids[tid]; !process && host != 0 {
		return g.signalState(host).blocked&abi.SigBit(sig) != 0
	}
	for _, host := range g.tids {
		if g.signalState(host).blocked&abi.SigBit(sig) == 0 {
			return false
		}
	}
	return true
}

// enter takes the signals that wait, for whoever is about to queue them: but for those that pend at home, now or when the guest is there.
func (g *Guest) enter() (sigs []signal, back []Returned) {
	var stay []signal
	for _, s := range g.signals {
		if sig := s.info.Signo(); s.home {
			stay = append(stay, s)
		} else if g.fds&abi.SigBit(sig) != 0 && g.blockedBy(s.tid, s.process, sig) {
			back = append(back, Returned{TID: s.tid, Process: s.process, Info: s.info})
		} else {
			sigs = append(sigs, s)
			g.entering |= abi.SigBit(sig)
		}
	}
	g.signals = stay
	return sigs, back
}

// local are the signals for the thread of c that pend here, or are on their way into the guest.
func (g *Guest) local(c *call, st signalState) uint64 {
	set := st.pending | g.entering
	for _, s := range g.signals {
		if s.process || s.tid == c.tid {
			set |= abi.SigBit(s.info.Signo())
		}
	}
	return set
}

// addPending adds what pends here, or is on its way into the guest, to the result of rt_sigpending.
func (g *Guest) addPending(c *call, res *homeproxy.Result) {
	st := g.signalState(c.host)
	local := g.local(c, st) & st.blocked
	for i := range res.Out {
		for k := range res.Out[i].Data {
			if k < 8 {
				res.Out[i].Data[k] |= byte(local >> (8 * k))
			}
		}
	}
}

// wants reports whether a signal waits here for the thread of c, which sits in a forwarded call: for its handler or, in
// rt_sigtimedwait, for the call itself.
func (c *call) wants(st signalState) bool {
	if c.lets(st) {
		return true
	}
	return st.pending&(^st.blocked&^st.ignored|c.awaits) != 0
}
