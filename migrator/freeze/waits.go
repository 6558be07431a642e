package freeze

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
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
	nr    uint64
	args  [6]uint64
	until int64 // by CLOCK_MONOTONIC as this node has it, ns
}

// Waiting finds them before the threads are stopped: for how long a thread has slept shows only while it sleeps.
func Waiting(p *tracer.Process, tids []int) Waits {
	out := Waits{}
	for _, tid := range tids {
		w, ok := inCall(p.PID, tid)
		if !ok || abi.TimeoutOf(w.nr) == abi.TimeoutNone {
			continue
		}
		d, ok := timeout(p, w)
		if !ok {
			continue
		}
		slept, began := sleptFor(p.PID, tid)
		w.until = kern.Now(kern.ClockMonotonic) + int64(d-slept)
		if form := abi.TimeoutOf(w.nr); form == abi.TimeoutReceive || form == abi.TimeoutSend {
			if until, ok := tracer.Shortened(tid, began); ok {
				w.until = until
			}
		}
		out[tid] = w
	}
	return out
}

// inCall reads the call that a thread sleeps in.
func inCall(pid, tid int) (w wait, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	f := strings.Fields(string(b))
	if err != nil || len(f) < 7 {
		return w, false // it runs, or has ended
	}
	if w.nr, err = strconv.ParseUint(f[0], 10, 64); err != nil {
		return w, false
	}
	for i := range w.args {
		w.args[i], _ = strconv.ParseUint(strings.TrimPrefix(f[i+1], "0x"), 16, 64)
	}
	return w, true
}

// timeout is how long a call waits at most; ok is false where it has no limit.
func timeout(p *tracer.Process, w wait) (d time.Duration, ok bool) {
	at := mem.Addr(0)
	switch form := abi.TimeoutOf(w.nr); form {
	case abi.TimeoutMillis:
		ms := int32(uint32(w.args[3]))
		return time.Duration(ms) * time.Millisecond, ms >= 0
	case abi.TimeoutThird:
		at = mem.Addr(w.args[2])
	case abi.TimeoutFourth:
		at = mem.Addr(w.args[3])
	case abi.TimeoutFifth:
		at = mem.Addr(w.args[4])
	case abi.TimeoutReceive, abi.TimeoutSend:
		fd := int(int32(uint32(w.args[0])))
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

// sleptFor is how long a thread has slept, 0 where the kernel does not tell, and from when on by its processor's clock.
func sleptFor(pid, tid int) (d, began time.Duration) {
	began, ok := tracer.ExecStart(fmt.Sprintf("/proc/%d/task/%d/sched", pid, tid))
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	if !ok || err != nil {
		return 0, began
	}
	const processor = 39
	_ = tracer.Run(func() error { // a thread that ends with this
		_ = kern.Pin(int(statFields(stat)[processor])) // where it cannot be, the clocks of two processors differ by little
		time.Sleep(time.Microsecond)                   // the kernel notes when a thread begins to run
		if now, ok := tracer.ExecStart("/proc/thread-self/sched"); ok {
			d = max(now-began, 0)
		}
		return nil
	})
	return d, began
}

// Mend marks the calls of held threads that our stop alone has ended with EINTR as to be made again, unless a handler runs, so
// that the program never sees it: not when the process moves, and not when the move is refused or aborted.
func Mend(p *tracer.Process, waits Waits) {
	for _, t := range p.Held() {
		if int64(t.Regs.RAX) != -int64(kern.EINTR) || t.Regs.OrigRAX == abi.NoCall || abi.TimeoutOf(t.Regs.OrigRAX) == abi.TimeoutNone {
			continue
		}
		t.Regs.RAX = restartNoHand
		if w := waits[t.TID]; w.nr == t.Regs.OrigRAX && w.args == t.Regs.Args() {
			t.Until = w.until
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
