package guest

import (
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/mem"
)

const (
	sysTime         = 201
	sysGettimeofday = 96
)

// both serves the calls in which the guest's side and the shadow's must agree.
func (g *Guest) both(c *call, row *homeproxy.Row, args [6]uint64) {
	switch c.nr {
	case abi.SysRtSigaction:
		g.sigaction(c, args)
	case abi.SysMmap:
		g.mapFile(c, args)
	case abi.SysMremap:
		g.remap(c, row, args)
	case abi.SysExitGroup:
		// The shadow ends first: its parent must see the status whatever happens to us. Its end comes back as ours.
		g.dispatch(c, homeproxy.Request{Nr: c.nr, Args: args, In: g.lastUsage()})
	case abi.SysClone, abi.SysFork, abi.SysVfork, abi.SysClone3:
		g.clone(c, row.Name, args)
	case abi.SysExecve, abi.SysExecveat:
		g.exec(c, row.Name, args)
	case abi.SysExit:
		g.exitThread(c, args)
	case abi.SysTgkill:
		g.signal(c, row, args, id.HomePID(int32(args[0])), id.HomePID(int32(args[1])), int(int32(args[2])))
	case abi.SysTkill:
		g.signal(c, row, args, g.Process.PID, id.HomePID(int32(args[0])), int(int32(args[1])))
	case abi.SysRtTgsigqueue:
		g.signal(c, row, args, id.HomePID(int32(args[0])), id.HomePID(int32(args[1])), int(int32(args[2])))
	case abi.SysClockGettime, sysGettimeofday, sysTime:
		if c.nr == abi.SysClockGettime && countsCPU(uint32(args[0])) {
			g.cpuClock(c, row, args)
			return
		}
		g.clock(c, args)
	case sysGetrusage, sysTimes, abi.SysPrlimit, sysSetrlimit: // home's answer is amended
		g.forward(c, row, args)
	case abi.SysFutex:
		g.futex(c, row)
	case abi.SysPrctl:
		g.homeFirst(c, args)
	default:
		g.comeHome(c, row.Name)
	}
}

// sigaction tells home first, so that no signal is recorded there by rules that the guest has given up, then lets the guest's
// own kernel do the same.
func (g *Guest) sigaction(c *call, args [6]uint64) {
	if g.ownAction(c, args) {
		return
	}
	if args[1] == 0 {
		g.proceed(c.id)
		return
	}
	var act [abi.SigActionSize]byte
	if n, err := g.ReadMemory(mem.Addr(args[1]), act[:]); err != nil || n != len(act) {
		g.proceed(c.id) // the guest's kernel finds the same fault
		return
	}
	mask := g.signalState(c.host).blocked // what pends at home, ignored and not blocked, was dropped under the old action
	g.dispatch(c, homeproxy.Request{Nr: c.nr, Args: args, Mask: mask, In: []homeproxy.Blob{{Addr: mem.Addr(args[1]), Data: act[:]}}})
}

// homeFirst makes a call at home and, where that went well, in the guest.
func (g *Guest) homeFirst(c *call, args [6]uint64) {
	hc := homeproxy.NewCall(c.nr, args)
	req, errno, class := hc.Gather(g)
	switch {
	case errno != 0:
		g.reply(c, -int64(errno))
	case class != homeproxy.Both:
		g.comeHome(c, hc.Row.Name)
	default:
		g.dispatch(c, req)
	}
}

// exitThread ends one thread on both sides; the last one ends the process.
func (g *Guest) exitThread(c *call, args [6]uint64) {
	switch {
	case len(g.tids) == 1, len(g.tids) == 2 && g.retired && c.tid != g.Process.PID: // the status is that of the last thread
		g.dispatch(c, homeproxy.Request{Nr: abi.SysExitGroup, Args: args, In: g.lastUsage()})
		return
	case c.tid == g.Process.PID:
		g.retire(c)
		return
	}
	g.seqs[c.tid]++
	c.seq, c.req = g.seqs[c.tid], homeproxy.Request{Nr: abi.SysExit, Args: args}
	g.exits = append(g.exits, c)
	g.link.Call(c.tid, c.seq, c.req, false)
	delete(g.tids, c.tid)
	delete(g.back, c.host)
	delete(g.cut, c.host)
	delete(g.napping, c.host)
	delete(g.seqs, c.tid)
	delete(g.sentTo, c.tid)
	g.Den.dropTask(c.host, g)
	g.Den.tearOut(c.tid)
	g.proceed(c.id)
}

// signal lets a thread signal another: of its own process by the guest's kernel, otherwise, and where the signal stops the
// process, at home.
func (g *Guest) signal(c *call, row *homeproxy.Row, args [6]uint64, tgid, tid id.HomePID, sig int) {
	_, own := g.tids[tid]
	if tgid != g.Process.PID || !own || sig == abi.SIGSTOP || sig == abi.SIGCONT || abi.DefaultStops(sig) || sig > 0 && sig <= abi.NSig && g.fds&abi.SigBit(sig) != 0 && g.blockedBy(tid, false, sig) {
		g.forward(c, row, args)
		return
	}
	if g.dumpsHere(tid, false, sig) {
		g.comeHome(c, row.Name)
		return
	}
	g.localSignal(c, tid, sig)
}

// localSignal lets a thread signal another of its own process by the guest's kernel, and gets the target out of a forwarded
// call, in which no signal would reach it.
func (g *Guest) localSignal(c *call, target id.HomePID, sig int) {
	if sig > 0 && sig <= abi.NSig {
		s := g.sentTo[target]
		g.sentTo[target] = sentTo{s.signals | abi.SigBit(sig), time.Now()}
	}
	g.proceed(c.id)
	if t := g.calls[target]; t != nil && t.answer == nil && t.seq != 0 && sig != 0 {
		g.expect(t, abi.SigBit(sig))
	}
}

// sentTo are the signals that other threads have sent to a thread lately. It may be about to make a call, of which this agent has not
// heard yet: the kernel lets it wait there, with a signal that came before we took the call.
type sentTo struct {
	signals uint64
	at      time.Time
}

// lately is how long a call that begins is looked at for signals that were sent before.
const lately = 300 * time.Millisecond

// expectLate is expect, for a call that has just been sent home.
func (g *Guest) expectLate(c *call) {
	s, ok := g.sentTo[c.tid]
	switch {
	case !ok:
	case time.Since(s.at) > lately:
		delete(g.sentTo, c.tid)
	default:
		g.expect(c, s.signals)
	}
}

// expect looks whether the thread of the forwarded call t gets one of signals. The caller holds mu.
func (g *Guest) expect(t *call, signals uint64) {
	one := t.sent != 0 // looks for all of them, however many are sent
	t.sent |= signals
	t.sentAt = time.Now()
	if !one {
		go g.lookFor(t)
	}
}

// signalTime is for how long a thread in a forwarded call is looked at for a signal that another thread has just sent to it. One that
// found nobody, being ignored, is looked for in vain.
const signalTime = 150 * time.Millisecond

// lookFor gets the thread of t out of its forwarded call once it has a signal to take: that comes at once, or much later where the
// sender has to wait for a processor. It is seen within a quarter of the time that it took.
func (g *Guest) lookFor(t *call) {
	for {
		since, done := g.lookedFor(t)
		if done {
			return
		}
		time.Sleep(max(since/4, 50*time.Microsecond))
	}
}

// lookedFor looks once, and returns whether that was the last time, and for how long it has been looked for the latest signal.
func (g *Guest) lookedFor(t *call) (since time.Duration, done bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if since = time.Since(t.sentAt); since > signalTime || g.calls[t.tid] != t || t.answer != nil || g.leaving || g.stopped() {
		t.sent = 0
		return since, true
	}
	st := g.signalState(t.host)
	pending := t.wants(st)
	if pending {
		delete(g.sentTo, t.tid)
		g.cancel(t)
	}
	if pending || t.sent&(^st.blocked|t.awaits) == 0 {
		t.sent = 0
		return since, true
	}
	return since, false
}

// clock answers a raw call for realtime from home's clock.
func (g *Guest) clock(c *call, args [6]uint64) {
	ns := g.realtime()
	put := func(a uint64, lo, hi int64) int64 {
		var b [16]byte
		le.PutUint64(b[:], uint64(lo))
		le.PutUint64(b[8:], uint64(hi))
		if n, err := g.WriteMemory(mem.Addr(a), b[:]); err != nil || n != 16 {
			return -int64(kern.EFAULT)
		}
		return 0
	}
	var ret int64
	switch c.nr {
	case abi.SysClockGettime:
		if args[0] == 11 { // TAI differs by whole seconds that home's kernel knows
			ns += int64(taiOffset()) * 1e9
		}
		ret = put(args[1], ns/1e9, ns%1e9)
	case sysGettimeofday:
		if args[0] != 0 {
			ret = put(args[0], ns/1e9, ns%1e9/1000)
		}
		if args[1] != 0 && ret == 0 {
			var zone [8]byte
			if n, err := g.WriteMemory(mem.Addr(args[1]), zone[:]); err != nil || n != len(zone) {
				ret = -int64(kern.EFAULT)
			}
		}
	default:
		ret = ns / 1e9
		if args[0] != 0 {
			var b [8]byte
			le.PutUint64(b[:], uint64(ret))
			if n, err := g.WriteMemory(mem.Addr(args[0]), b[:]); err != nil || n != len(b) {
				ret = -int64(kern.EFAULT)
			}
		}
	}
	g.reply(c, ret)
}

// taiOffset is TAI minus UTC as this kernel has it, in seconds.
func taiOffset() int64 { return (kern.Now(11) - kern.Now(kern.ClockRealtime) + 5e8) / 1e9 }
