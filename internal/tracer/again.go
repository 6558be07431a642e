package tracer

import (
	"bytes"
	"encoding/binary"
	"errors"
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
		t.remember(nil)
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
	t.remember(nil)
	return nil
}

// hurry gives the socket in whose call the thread waits a shorter timeout, until the call has begun again: it looks at it once.
func (t *Thread) hurry(left time.Duration, send bool) error {
	fd := int(int32(uint32(t.Regs.RDI)))
	key := socketTimeout{fd, send}
	if h := t.Proc.hurried[key]; h != nil { // another thread waits for it, too
		if err := h.set(left); err != nil {
			return err
		}
		t.remember(h.still(t.Proc.PID, fd))
		return nil
	}
	s, err := kern.PidfdGetfd(t.Proc.Pidfd, fd, "socket")
	if err != nil {
		return fmt.Errorf("shorten the wait of thread %d: %w", t.TID, err)
	}
	h := &hurried{socket: s, send: send}
	if h.whole, err = h.get(); err == nil && h.whole > 0 {
		err = h.set(left)
	}
	if err != nil || h.whole == 0 {
		s.Close()
		return err
	}
	if t.Proc.hurried == nil {
		t.Proc.hurried = map[socketTimeout]*hurried{}
	}
	t.Proc.hurried[key] = h
	t.remember(h.still(t.Proc.PID, fd))
	return nil
}

// hurried is a socket whose timeout is shorter just now.
type hurried struct {
	socket *os.File
	send   bool
	whole  time.Duration // what the program has set
	short  time.Duration // what it is now, as the kernel has rounded it
}

func (h *hurried) get() (time.Duration, error) {
	receive, send, err := kern.SocketTimeouts(h.socket)
	if h.send {
		return send, err
	}
	return receive, err
}

func (h *hurried) set(left time.Duration) (err error) {
	if err = kern.SetSocketTimeout(h.socket, h.send, max(left, time.Microsecond)); err == nil {
		h.short, err = h.get()
	}
	return err
}

// still tells, of a call of process pid with descriptor fd that looks like the one that is made again, whether it may be that one: the
// next call may have the same arguments, and another socket, or another timeout.
func (h *hurried) still(pid, fd int) func() bool {
	return func() bool {
		now, err := h.get()
		own, err2 := h.socket.Stat()
		its, err3 := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		return errors.Join(err, err2, err3) == nil && now == h.short && os.SameFile(own, its)
	}
}

// restore gives it its own timeout again, unless the program, whose wait may be over already, has set another.
func (h *hurried) restore() {
	if now, err := h.get(); err == nil && now == h.short {
		_ = kern.SetSocketTimeout(h.socket, h.send, h.whole) // it had this value before
	}
	h.socket.Close()
}

// unhurry ends what hurry has begun.
func (p *Process) unhurry() {
	for _, h := range p.hurried {
		h.restore()
	}
	clear(p.hurried)
}

// remember has the end of the wait that Again has shortened remembered when the thread, let go, sleeps in it: nothing shows that it
// was longer once. Where its arguments do not tell it from a later call, same does.
func (t *Thread) remember(same func() bool) {
	pid, tid, until, args := t.Proc.PID, t.TID, t.Until, t.Regs.Args()
	nr := t.Regs.OrigRAX
	t.after = func(late time.Time) {
		for before, _ := SleepOf(pid, tid); time.Now().Before(late); time.Sleep(50 * time.Microsecond) {
			s, serr := SleepOf(pid, tid) // not every kernel tells
			now, in, err := InCall(pid, tid)
			if err != nil || serr == nil && s.Ran > before.Ran+enterTime {
				return // it is past it
			}
			if !in {
				continue
			}
			ours := now.NR == nr && now.Args == args && (same == nil || same())
			if after, err := SleepOf(pid, tid); serr == nil && err == nil && after != s {
				continue // it was still on its way
			}
			if serr == nil && ours {
				shortened.put(tid, shortWait{now, s.Switches, until})
			}
			return
		}
	}
}

// enterTime is more than a thread computes on its way from a stop into a call.
const enterTime = 2 * time.Millisecond

// shortened remembers, by thread, the waits that Again has shortened.
var shortened = shortWaits{at: map[int]shortWait{}}

type shortWaits struct {
	sync.Mutex
	at map[int]shortWait
}

type shortWait struct {
	call     Call
	switches uint64 // of the thread, while it slept
	until    int64  // by CLOCK_MONOTONIC
}

func (s *shortWaits) put(tid int, w shortWait) {
	now := kern.Now(kern.ClockMonotonic)
	s.Lock()
	defer s.Unlock()
	for t, w := range s.at {
		if w.until < now {
			delete(s.at, t)
		}
	}
	s.at[tid] = w
}

// Shortened says when the wait of thread tid in a call ends, if a stop has shortened it and the thread has slept ever since.
func Shortened(tid int, c Call, s Sleep) (until int64, ok bool) {
	shortened.Lock()
	defer shortened.Unlock()
	w, ok := shortened.at[tid]
	return w.until, ok && w.call == c && w.switches == s.Switches
}

// Call is a system call that a thread is in.
type Call struct {
	NR   uint64
	Args [6]uint64
}

// InCall reads the call that a thread sleeps in; in is false where it runs, or computes.
func InCall(pid, tid int) (c Call, in bool, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	if err != nil {
		return c, false, err
	}
	f := strings.Fields(string(b))
	if len(f) < 7 {
		return c, false, nil // "running", or "-1" between calls
	}
	if c.NR, err = strconv.ParseUint(f[0], 10, 64); err != nil {
		return c, false, nil
	}
	for i := range c.Args {
		c.Args[i], _ = strconv.ParseUint(strings.TrimPrefix(f[i+1], "0x"), 16, 64)
	}
	return c, true, nil
}

// Sleep tells one sleep of a thread from another.
type Sleep struct {
	// Began is when the thread last had a processor, by the clock of that processor; 0 where the kernel does not tell. Linux 6.12 and
	// newer clear it when they move a thread to another processor that sleeps, but whose time there was not over yet.
	Began    time.Duration
	Ran      time.Duration // how long it has had one, as of the last tick
	Switches uint64        // how often it has got and left one
}

// SleepOf reads what the kernel says of a thread's time on processors; tid 0 is the calling thread.
func SleepOf(pid, tid int) (s Sleep, err error) {
	path := "/proc/thread-self/sched"
	if tid != 0 {
		path = fmt.Sprintf("/proc/%d/task/%d/sched", pid, tid)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(string(b)) {
		k, v, found := strings.Cut(line, ":")
		if v = strings.TrimSpace(v); !found {
			continue
		}
		switch strings.TrimSpace(k) {
		case "se.exec_start":
			s.Began, err = millis(v)
		case "se.sum_exec_runtime":
			s.Ran, err = millis(v)
		case "nr_switches":
			s.Switches, err = strconv.ParseUint(v, 10, 64)
		}
		if err != nil {
			return s, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return s, nil
}

func millis(v string) (time.Duration, error) {
	ms, err := strconv.ParseFloat(v, 64)
	return time.Duration(ms * float64(time.Millisecond)), err
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
