package kern

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Pin lets thread tid, or with 0 the calling one, run on processor cpu alone. Of an agent's own only a thread that ends soon should do so.
func Pin(tid, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(tid, &set)
}

// PendingError takes the error that waits on a socket (SO_ERROR) out of it.
func PendingError(f *os.File) (e Errno, err error) {
	var n int
	if cerr := control(f, func(fd int) { n, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) }); cerr != nil {
		return 0, cerr
	}
	return Errno(n), err
}

// SocketTimeouts are SO_RCVTIMEO and SO_SNDTIMEO of a socket; 0 is for ever.
func SocketTimeouts(f *os.File) (receive, send time.Duration, err error) {
	err = control(f, func(fd int) {
		get := func(opt int) time.Duration {
			tv, e := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, opt)
			if e != nil {
				err = e
				return 0
			}
			return time.Duration(tv.Nano())
		}
		receive, send = get(unix.SO_RCVTIMEO), get(unix.SO_SNDTIMEO)
	})
	return receive, send, err
}

// SetSocketTimeout sets SO_SNDTIMEO (send) or SO_RCVTIMEO of a socket; 0 is for ever.
func SetSocketTimeout(f *os.File, send bool, d time.Duration) (err error) {
	opt := unix.SO_RCVTIMEO
	if send {
		opt = unix.SO_SNDTIMEO
	}
	tv := unix.NsecToTimeval(int64(d))
	if cerr := control(f, func(fd int) { err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, opt, &tv) }); cerr != nil {
		return cerr
	}
	return err
}

// IdleProcess lets all threads of a process have only what nobody else wants of the processors (SCHED_IDLE), or their share again.
func IdleProcess(pid int, yes bool) error {
	es, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	const other, idle = 0, 5
	policy := uint32(other)
	if yes {
		policy = idle
	}
	for _, e := range es {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if err := unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy}, 0); err != nil {
			return fmt.Errorf("let thread %d idle: %w", tid, err)
		}
	}
	return nil
}
