package guest

import (
	"encoding/binary"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// A futex that waits until a realtime waits by the clock of the host's kernel, and the program means home's. Its thread is stopped
// and given a deadline by that clock, which stands in the region; its own is where it was. Whatever program keeps the address in the
// register that carried it comes here with it again, and when the thread leaves it has its own back.

// clocksAgree is how far apart two realtimes may be that count as the same, ns: less than a stop takes.
const clocksAgree = 100_000

// futex makes a wait end when home's clock says so. The caller holds mu.
func (g *Guest) futex(c *call, row *homeproxy.Row, args [6]uint64) {
	if at, ok := g.deadlineAt(mem.Addr(args[3])); ok {
		own := mem.Addr(binary.LittleEndian.Uint64(g.Region.B[at+deadlineOwn:]))
		if b, ok := g.hostDeadline(own); ok {
			copy(g.Region.B[at:], b)
		}
		g.proceed(c.id)
		return
	}
	off := g.realtime() - kern.Now(kern.ClockRealtime)
	if max(off, -off) < clocksAgree {
		g.proceed(c.id)
		return
	}
	if _, ok := g.hostDeadline(mem.Addr(args[3])); !ok {
		g.proceed(c.id) // the kernel finds what is wrong with it
		return
	}
	if _, ok := g.deadlineOf(c.host); !ok {
		g.comeHome(c, row.Name)
		return
	}
	c.deadline = args[3]
	g.calls[c.tid] = c
	g.finish(c, -abi.ERestartNoInt)
}

// hostDeadline is the timespec at a, a time by home's clock, as one by this kernel's. It is not ok where the kernel would not take it.
func (g *Guest) hostDeadline(a mem.Addr) (b []byte, ok bool) {
	b = make([]byte, 16)
	if n, err := g.ReadMemory(a, b); err != nil || n != len(b) {
		return nil, false
	}
	sec, ns := int64(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[8:])
	if sec < 0 || ns >= 1e9 {
		return nil, false
	}
	const never = 1 << 33 // s: no clock comes there, and it fits
	if sec >= never {
		return b, true
	}
	t := max(sec*1e9+int64(ns)-(g.realtime()-kern.Now(kern.ClockRealtime)), 0)
	binary.LittleEndian.PutUint64(b, uint64(t/1e9))
	binary.LittleEndian.PutUint64(b[8:], uint64(t%1e9))
	return b, true
}

// Offsets in an entry of the deadlines: a timespec by the host's clock, where the program has its own, the thread.
const deadlineOwn, deadlineThread = 16, 24

// deadlineAt is the offset in the region of the deadline that a is the address of.
func (g *Guest) deadlineAt(a mem.Addr) (at int, ok bool) {
	if g.Region == nil {
		return 0, false
	}
	off := a - g.Region.Addr(0)
	return int(off), off >= stub.DeadlinesOff && off < stub.DeadlinesOff+stub.Deadlines*stub.DeadlineSize && off%stub.DeadlineSize == 0
}

// deadlineOf finds the place of thread host, or a free one: also one whose thread has ended.
func (g *Guest) deadlineOf(host int) (at int, ok bool) {
	if g.Region == nil {
		return 0, false
	}
	free := -1
	for i := range stub.Deadlines {
		at := stub.DeadlinesOff + i*stub.DeadlineSize
		owner := int(binary.LittleEndian.Uint32(g.Region.B[at+deadlineThread:]))
		if owner == host {
			return at, true
		}
		if _, lives := g.back[owner]; free < 0 && !lives {
			free = at
		}
	}
	return free, free >= 0
}

// delay gives the held thread t, whose call c begins anew, its deadline.
func (g *Guest) delay(c *call, t *tracer.Thread) {
	r := &t.Regs
	if c.deadline == 0 || r.OrigRAX != abi.SysFutex || int64(r.RAX) != -abi.ERestartNoInt || r.R10 != c.deadline {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.deadlineOf(t.TID)
	if !ok {
		return // it asks once more, and comes home
	}
	b := g.Region.B[at:]
	binary.LittleEndian.PutUint64(b[deadlineOwn:], c.deadline)
	binary.LittleEndian.PutUint32(b[deadlineThread:], uint32(t.TID))
	r.R10 = uint64(g.Region.Addr(at))
}

// undelay gives held threads their own deadlines back.
func (g *Guest) undelay(ts ...*tracer.Thread) {
	for _, t := range ts {
		if at, ok := g.deadlineAt(mem.Addr(t.Regs.R10)); ok {
			t.Regs.R10 = binary.LittleEndian.Uint64(g.Region.B[at+deadlineOwn:])
		}
	}
}
