package kern

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"mosix/internal/abi"
)

// PidfdOpen opens a handle on process pid that is never reused for another.
func PidfdOpen(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid)), nil
}

// PidfdGetfd copies descriptor fd of the process behind pidfd into this program.
func PidfdGetfd(pidfd *os.File, fd int, name string) (*os.File, error) {
	n, err := unix.PidfdGetfd(int(pidfd.Fd()), fd, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_getfd %d of %s: %w", fd, pidfd.Name(), err)
	}
	unix.CloseOnExec(n)
	return os.NewFile(uintptr(n), name), nil
}

// PidfdWait waits until the process behind pidfd has ended, at most d (negative: for ever).
func PidfdWait(pidfd *os.File, d time.Duration) (ended bool, err error) {
	ms := -1
	if d >= 0 {
		ms = int(d.Milliseconds())
	}
	p := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, ms)
		if err == unix.EINTR {
			continue
		}
		return n > 0, err
	}
}

// Kill sends sig to a process, Tgkill to one of its threads.
func Kill(pid, sig int) error { return wrap("kill", pid, errnoOf(unix.Kill(pid, unix.Signal(sig)))) }

// Tgkill sends sig to thread tid of process pid.
func Tgkill(pid, tid, sig int) error {
	return wrap("tgkill", tid, errnoOf(unix.Tgkill(pid, tid, unix.Signal(sig))))
}

func errnoOf(err error) Errno {
	if e, ok := err.(Errno); ok {
		return e
	}
	return 0
}

// FutexWait sleeps while *a is v, at most d (negative: for ever). It returns at once when *a differs.
func FutexWait(a *uint32, v uint32, d time.Duration) {
	var ts *unix.Timespec
	if d >= 0 {
		t := unix.NsecToTimespec(int64(d))
		ts = &t
	}
	if atomic.LoadUint32(a) == v {
		_, _ = blockingSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(a)), 0, uintptr(v), uintptr(unsafe.Pointer(ts)), 0, 0)
	}
}

// FutexWake wakes up to n sleepers on a.
func FutexWake(a *uint32, n int) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(a)), 1, uintptr(n), 0, 0, 0)
}

// Word returns the 32-bit word at off of shared memory, for atomic use.
func Word(b []byte, off int) *uint32 { return (*uint32)(unsafe.Pointer(&b[off : off+4][0])) }

// Long returns the 64-bit word at off of shared memory.
func Long(b []byte, off int) *uint64 { return (*uint64)(unsafe.Pointer(&b[off : off+8][0])) }

// Load32 and Load64 read a word of shared memory atomically.
func Load32(b []byte, off int) uint32 { return atomic.LoadUint32(Word(b, off)) }

// Load64 reads a 64-bit word of shared memory atomically.
func Load64(b []byte, off int) uint64 { return atomic.LoadUint64(Long(b, off)) }

// Clock identifiers.
const (
	ClockRealtime  = unix.CLOCK_REALTIME
	ClockMonotonic = unix.CLOCK_MONOTONIC
	ClockBoottime  = unix.CLOCK_BOOTTIME
	// As of the last tick.
	ClockMonotonicCoarse = unix.CLOCK_MONOTONIC_COARSE
)

// Now reads a clock, in nanoseconds.
func Now(clock int) int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(int32(clock), &ts)
	return ts.Nano()
}

// Notif is struct seccomp_notif: a call that a guest waits in.
type Notif struct {
	ID    uint64
	PID   uint32
	Flags uint32
	Nr    int32
	Arch  uint32
	IP    uint64
	Args  [6]uint64
}

const (
	notifRecv     = 0xc0502100
	notifSend     = 0xc0182101
	notifIDValid  = 0x40082102
	notifSetFlags = 0x40082104
	notifAddFD    = 0x40182103
)

// NotifSyncWakeUp asks for the wake-up on the same processor, four times faster on an idle machine.
func NotifSyncWakeUp(f *os.File) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), notifSetFlags, 1)
	return wrap("SECCOMP_IOCTL_NOTIF_SET_FLAGS", int(f.Fd()), e)
}

// NotifRecv takes the next call into n. It blocks until there is one; ENOENT says that the caller died meanwhile. The kernel tells of a
// call only once, and it is told when n has it.
func NotifRecv(f *os.File, n *Notif) error {
	*n = Notif{}
	if _, e := ioctl(f, notifRecv, unsafe.Pointer(n)); e != 0 {
		return fmt.Errorf("SECCOMP_IOCTL_NOTIF_RECV: %w", e)
	}
	return nil
}

// NotifSend answers call id: with ret (a value, or -errno), or by letting the guest's kernel execute it (proceed).
func NotifSend(f *os.File, id uint64, ret int64, proceed bool) error {
	var r struct {
		id    uint64
		val   int64
		err   int32
		flags uint32
	}
	r.id = id
	switch {
	case proceed:
		r.flags = 1
	case abi.IsErr(ret):
		r.err = int32(ret)
	default:
		r.val = ret
	}
	if _, e := ioctl(f, notifSend, unsafe.Pointer(&r)); e != 0 {
		return fmt.Errorf("SECCOMP_IOCTL_NOTIF_SEND: %w", e)
	}
	return nil
}

// NotifAddFD gives the process that waits in call id a descriptor of file, with number fd, in place of one that it may have.
func NotifAddFD(f *os.File, id uint64, file *os.File, fd int) error {
	const setFD, cloexec = 1, 0x80000
	a := struct {
		id                     uint64
		flags, src, new, flag2 uint32
	}{id, setFD, uint32(file.Fd()), uint32(fd), cloexec}
	if _, e := ioctl(f, notifAddFD, unsafe.Pointer(&a)); e != 0 {
		return fmt.Errorf("SECCOMP_IOCTL_NOTIF_ADDFD: %w", e)
	}
	return nil
}

// NotifValid reports whether call id is still waiting for its answer.
func NotifValid(f *os.File, id uint64) bool {
	_, e := ioctl(f, notifIDValid, unsafe.Pointer(&id))
	return e == 0
}

// PollIn waits until f is readable (in) or its other end is gone (hup), at most d (negative: for ever).
func PollIn(f *os.File, d time.Duration) (in, hup bool) {
	ms := -1
	if d >= 0 {
		ms = int(d.Milliseconds())
	}
	p := &unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLIN}
	n, _, e := unix.RawSyscall(unix.SYS_POLL, uintptr(unsafe.Pointer(p)), 1, 0)
	if n == 0 && e == 0 && ms != 0 { // nothing yet
		_, e = blockingSyscall6(unix.SYS_POLL, uintptr(unsafe.Pointer(p)), 1, uintptr(ms), 0, 0, 0)
	}
	if e != 0 {
		return false, false
	}
	return p.Revents&unix.POLLIN != 0, p.Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// SetLimit gives another process limits, as far as its hard ones allow.
func SetLimit(pid, what int, soft, hard uint64) error {
	var old unix.Rlimit
	if err := unix.Prlimit(pid, what, nil, &old); err != nil {
		return fmt.Errorf("read limit %d of process %d: %w", what, pid, err)
	}
	hard = min(hard, old.Max)
	if err := unix.Prlimit(pid, what, &unix.Rlimit{Cur: min(soft, hard), Max: hard}, nil); err != nil {
		return fmt.Errorf("set limit %d of process %d: %w", what, pid, err)
	}
	return nil
}

// LiftLimit raises a limit of another process, to its hard one where this agent may not go beyond, and returns what puts it back.
func LiftLimit(pid, what int) (back func()) {
	var old unix.Rlimit
	if unix.Prlimit(pid, what, nil, &old) != nil {
		return func() {}
	}
	const none = unix.RLIM_INFINITY
	if unix.Prlimit(pid, what, &unix.Rlimit{Cur: none, Max: none}, nil) != nil {
		_ = unix.Prlimit(pid, what, &unix.Rlimit{Cur: old.Max, Max: old.Max}, nil)
	}
	return func() { _ = unix.Prlimit(pid, what, &old, nil) }
}

// CPUClock is the clock that counts the CPU time of process pid.
func CPUClock(pid int) int { return ^pid<<3 | 2 }

// Resource limits that concern memory and CPU time: a guest has its home's.
const (
	LimitCPU     = unix.RLIMIT_CPU
	LimitData    = unix.RLIMIT_DATA
	LimitStack   = unix.RLIMIT_STACK
	LimitMemlock = unix.RLIMIT_MEMLOCK
	LimitAS      = unix.RLIMIT_AS
	LimitCore    = unix.RLIMIT_CORE

	LimitSigpending = unix.RLIMIT_SIGPENDING
)
