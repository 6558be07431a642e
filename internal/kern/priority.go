package kern

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// Prefer gives this program's threads, and those that they will make, the nice value n: on a busy machine a process that is
// being moved is held for as long as its agent waits for a processor. It does what it can, and says what it could not.
func Prefer(n int) error {
	es, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, e := range es {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			if err := syscall.Setpriority(syscall.PRIO_PROCESS, tid, n); err != nil && err != syscall.ESRCH {
				return fmt.Errorf("set the nice value of thread %d to %d: %w", tid, n, err)
			}
		}
	}
	// Where the kernel schedules sessions against each other, nice values count only within one. This touches others only if
	// the session is not our own.
	if sid, _, e := syscall.RawSyscall(syscall.SYS_GETSID, 0, 0, 0); e != 0 || int(sid) != os.Getpid() {
		return nil
	}
	err = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(n)), 0)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// Ordinary gives process pid, which has one thread, the nice value that programs start with, and the kernel's ordinary opinion of whom to
// kill when memory is short: a service may be spared where its guests must not be.
func Ordinary(pid int) error {
	path := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
	b, err := os.ReadFile(path)
	if err == nil && bytes.HasPrefix(b, []byte("-")) {
		if err := os.WriteFile(path, []byte("0"), 0); err != nil {
			return err
		}
	}
	return syscall.Setpriority(syscall.PRIO_PROCESS, pid, 0)
}
