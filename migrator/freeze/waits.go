package freeze

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/tracer"
)

// Waits are the calls with a timeout in which threads sleep, of those that a mere stop ends with EINTR, by thread: they are made
// again for the time that remains.
type Waits map[int]wait

type wait struct {
	tracer.Call
	until int64 // by CLOCK_MONOTONIC as this node has it, ns
}

// Waiting finds them before the threads are stopped: for how long a thread has slept shows only while it sleeps. Where the kernel
// does not tell, a wait has its whole time again: it may end late, and never early.
func Waiting(p *tracer.Process, tids []int) Waits {
	out := Waits{}
	for _, tid := range tids {
		sleep, err := tracer.SleepOf(p.PID, tid)
		c, in, err2 := tracer.InCall(p.PID, tid)
		if err != nil || err2 != nil || !in {
			continue
		}
		w := wait{Call: c}
		d, ok := timeout(p, c)
		if !ok {
			continue
		}
		slept := sleptFor(p.PID, tid, sleep)
		if again, err := tracer.SleepOf(p.PID, tid); err != nil || again != sleep {
			continue // it has run: it may be another wait
		}
		w.until = kern.Now(kern.ClockMonotonic) + int64(d-slept)
		if until, ok := tracer.Shortened(tid, c, sleep); ok {
			w.until = until
		}
		out[tid] = w
	}
	return out
}

// timeout is how long a call waits at most; ok is false where it has no limit.
func timeout(p *tracer.Process, c tracer.Call) (d time.Duration, ok bool) {
	at := mem.Addr(0)
	switch form := abi.TimeoutOf(c.NR); form {
	case abi.TimeoutMillis:
		ms := int32(uint32(c.Args[3]))
		return time.Duration(ms) * time.Millisecond, ms >= 0
	case abi.TimeoutThird:
		at = mem.Addr(c.Args[2])
	case abi.TimeoutFourth:
		at = mem.Addr(c.Args[3])
	case abi.TimeoutFifth:
		at = mem.Addr(c.Args[4])
	case abi.TimeoutReceive, abi.TimeoutSend:
		fd := int(int32(uint32(c.Args[0])))
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.PID, fd)); err != nil || !strings.HasPrefix(to, "socket:") {
			return 0, false
		}
		s, err := kern.PidfdGetfd(p.Pidfd, fd, "socket")
		if err != nil {
			return 0, false
		}
		defer s.Close()
		receive, send, err := kern.SocketTimeouts(s)
		if form == abi.TimeoutSend {
			receive = send
		}
		return receive, err == nil && receive > 0
	}
	var b [16]byte
	if at == 0 {
		return 0, false
	}
	if n, err := p.ReadMemory(at, b[:]); err != nil || n != len(b) {
		return 0, false
	}
	sec, ns := binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
	return time.Duration(sec)*time.Second + time.Duration(ns), sec < 1<<32 && ns < 1e9
}

// sleptFor is how long a thread has slept, 0 where the kernel does not tell.
func sleptFor(pid, tid int, sleep tracer.Sleep) (d time.Duration) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	if sleep.Began == 0 || err != nil {
		return 0
	}
	const processor = 39
	_ = tracer.Run(func() error { // a thread that ends with this
		if err := kern.Pin(0, int(statFields(stat)[processor])); err != nil {
			return err // the clock of another processor may be far from this one's: it leaves out what a host took away
		}
		time.Sleep(time.Microsecond) // the kernel notes when a thread begins to run
		if now, err := tracer.SleepOf(0, 0); err == nil {
			d = max(now.Began-sleep.Began, 0)
		}
		return nil
	})
	return d
}

// Mend marks the calls of held threads that our stop alone has ended with EINTR as to be made again, unless a handler runs, so
// that the program never sees it: not when the process moves, and not when the move is refused or aborted. A wait that is not among
// waits had not begun when those were found: nearly all of its time remains. With nil every wait has its whole time again.
func Mend(p *tracer.Process, waits Waits) {
	now := kern.Now(kern.ClockMonotonic)
	for _, t := range p.Held() {
		if int64(t.Regs.RAX) != -int64(kern.EINTR) || t.Regs.OrigRAX == abi.NoCall || abi.TimeoutOf(t.Regs.OrigRAX) == abi.TimeoutNone {
			continue
		}
		t.Regs.RAX = restartNoHand
		c := tracer.Call{NR: t.Regs.OrigRAX, Args: t.Regs.Args()}
		if w, ok := waits[t.TID]; ok && w.Call == c {
			t.Until = w.until
		} else if d, ok := timeout(p, c); ok && waits != nil {
			t.Until = now + int64(d)
		}
	}
}

// Again lets the calls that Mend has marked go on here, for the time that remains to them.
func Again(p *tracer.Process) (first error) {
	now := kern.Now(kern.ClockMonotonic)
	for _, t := range p.Held() {
		if err := t.Again(now); err != nil && first == nil {
			first = err
		}
	}
	return first
}

const restartSys, restartNoInt, restartNoHand, restartBlock = ^uint64(abi.ERestartSys - 1), ^uint64(abi.ERestartNoInt - 1), ^uint64(abi.ERestartNoHnd - 1), ^uint64(abi.ERestartBlock - 1)
