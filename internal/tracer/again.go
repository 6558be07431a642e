package tracer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
)

// Again makes the held thread, whose timed call a stop has ended (Until), make it again for what remains of its time at now.
// Registers that a call takes are the caller's to lose for every function of C; a timespec cannot be changed where the program
// has it, and is put behind the end of the vDSO, where nothing is: the kernel reads it when the call begins.
// With an error it is made again for its whole time.
func (t *Thread) Again(now int64) error {
	if t.Until == 0 || t.Regs.OrigRAX == abi.NoCall {
		return nil
	}
	left := max(t.Until-now, 0)
	r := &t.Regs
	form := abi.TimeoutOf(r.OrigRAX)
	if form == abi.TimeoutNone {
		return nil
	}
	r.RAX = ^uint64(abi.ERestartNoHnd - 1)
	var arg *uint64
	switch form {
	case abi.TimeoutMillis:
		r.R10 = uint64((left + 999999) / 1000000)
		return nil
	case abi.TimeoutThird:
		arg = &r.RDX
	case abi.TimeoutFourth:
		arg = &r.R10
	case abi.TimeoutFifth:
		arg = &r.R8
	case abi.TimeoutReceive, abi.TimeoutSend:
		return t.hurry(time.Duration(left), form == abi.TimeoutSend)
	default:
		return nil
	}
	at, err := t.Proc.spare(t.TID)
	if err != nil {
		return err
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], uint64(left/1e9))
	binary.LittleEndian.PutUint64(b[8:], uint64(left%1e9))
	if _, err := t.Proc.WriteMemory(at, b[:]); err != nil {
		return fmt.Errorf("shorten the wait of thread %d: %w", t.TID, err)
	}
	*arg = uint64(at)
	return nil
}

// hurry gives the socket in whose call the thread waits a shorter timeout, until the call has begun again: it looks at it once.
func (t *Thread) hurry(left time.Duration, send bool) error {
	fd := int(int32(uint32(t.Regs.RDI)))
	s, err := kern.PidfdGetfd(t.Proc.Pidfd, fd, "socket")
	if err != nil {
		return fmt.Errorf("shorten the wait of thread %d: %w", t.TID, err)
	}
	receive, sent, err := kern.SocketTimeouts(s)
	if send {
		receive = sent
	}
	key := socketTimeout{fd, send}
	if whole, ok := t.Proc.hurried[key]; ok { // another thread waits for it, too
		receive = whole
	}
	if err == nil && receive > 0 {
		err = kern.SetSocketTimeout(s, send, max(left, time.Microsecond))
	}
	if err != nil || receive == 0 {
		s.Close()
		return err
	}
	if t.Proc.hurried == nil {
		t.Proc.hurried = map[socketTimeout]time.Duration{}
	}
	t.Proc.hurried[key] = receive
	pid, tid, nr, until := t.Proc.PID, t.TID, t.Regs.OrigRAX, t.Until
	t.after = func() {
		defer s.Close()
		for late := time.Now().Add(200 * time.Millisecond); time.Now().Before(late); time.Sleep(50 * time.Microsecond) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
			n, _, _ := strings.Cut(string(b), " ")
			if n == fmt.Sprint(nr) {
				remember(pid, tid, until)
			}
			if err != nil || strings.TrimSpace(n) != "running" {
				break // it waits, or is past it
			}
		}
		_ = kern.SetSocketTimeout(s, send, receive) // it had this value before
	}
	return nil
}

// shortened remembers, by thread, the waits that hurry has shortened: the socket does not show it.
var shortened = struct {
	sync.Mutex
	at map[int]shortWait
}{at: map[int]shortWait{}}

type shortWait struct {
	began time.Duration // as ExecStart had it while the thread slept
	until int64         // by CLOCK_MONOTONIC
}

func remember(pid, tid int, until int64) {
	began, ok := ExecStart(fmt.Sprintf("/proc/%d/task/%d/sched", pid, tid))
	if !ok {
		return
	}
	now := kern.Now(kern.ClockMonotonic)
	shortened.Lock()
	defer shortened.Unlock()
	for t, w := range shortened.at {
		if w.until < now {
			delete(shortened.at, t)
		}
	}
	shortened.at[tid] = shortWait{began, until}
}

// Shortened says when the wait of thread tid on a socket ends, if a stop has shortened it and the thread has slept ever since: from
// began on, as ExecStart has it.
func Shortened(tid int, began time.Duration) (until int64, ok bool) {
	shortened.Lock()
	defer shortened.Unlock()
	w, ok := shortened.at[tid]
	return w.until, ok && began == w.began
}

// ExecStart is when a thread was last given a processor, or counted for having one, by the clock of that processor; path is that of
// its sched file. ok is false where the kernel does not tell.
func ExecStart(path string) (at time.Duration, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if k, v, found := strings.Cut(line, ":"); found && strings.TrimSpace(k) == "se.exec_start" {
			ms, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			return time.Duration(ms * float64(time.Millisecond)), err == nil
		}
	}
	return 0, false
}

// socketTimeout names a timeout of a socket.
type socketTimeout struct {
	fd   int
	send bool
}

// SpareBytes at the end of the vDSO's last page are for timespecs; nobody else puts anything there.
const SpareBytes = 256

// spare is a place of 16 bytes for thread tid, at the end of the vDSO's last page. Threads whose numbers are 16 apart share one, which
// the kernel reads at once.
func (p *Process) spare(tid int) (mem.Addr, error) {
	hi, err := p.vdsoEnd(SpareBytes)
	if err != nil {
		return 0, fmt.Errorf("a wait cannot be shortened: %w", err)
	}
	return hi - SpareBytes + mem.Addr(16*(tid%(SpareBytes/16))), nil
}

// vdsoEnd is the end of the process's vDSO, where it has room of n bytes behind what is in it.
func (p *Process) vdsoEnd(n mem.Addr) (mem.Addr, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.PID))
	if err != nil {
		return 0, fmt.Errorf("%w (%v)", ErrGone, err)
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(line, "[vdso]\n") {
			continue
		}
		var lo, hi mem.Addr
		if _, err := fmt.Sscanf(line, "%x-%x", (*uint64)(&lo), (*uint64)(&hi)); err != nil {
			return 0, err
		}
		var head [64]byte
		if _, err := p.ReadMemory(lo, head[:]); err != nil || !bytes.HasPrefix(head[:], []byte("\x7fELF")) {
			break
		}
		// The section headers are what the linker puts last.
		le := binary.LittleEndian
		end := lo + mem.Addr(le.Uint64(head[40:])) + mem.Addr(le.Uint16(head[58:]))*mem.Addr(le.Uint16(head[60:]))
		if end <= lo || end+n > hi {
			break
		}
		return hi, nil
	}
	return 0, fmt.Errorf("process %d has no vDSO with room behind it", p.PID)
}
