// Package kern is the only door to the kernel's interfaces that the standard library does not know: ptrace, memory of other
// processes, userfaultfd, pagemap, pidfd, seccomp notifications, namespaces. Its one invariant: it decides nothing; each
// function is one mechanism, and its error is the kernel's errno with the name of the call.
package kern

import (
	"errors"
	"fmt"
	"syscall"
)

// Errno is the kernel's error number.
type Errno = syscall.Errno

// Error numbers that callers look at.
const (
	EPERM       = syscall.EPERM
	ESRCH       = syscall.ESRCH
	EINTR       = syscall.EINTR
	EACCES      = syscall.EACCES
	EAGAIN      = syscall.EAGAIN
	EINPROGRESS = syscall.EINPROGRESS
	EFAULT      = syscall.EFAULT
	EINVAL      = syscall.EINVAL
	ENOTTY      = syscall.ENOTTY
	ENOENT      = syscall.ENOENT
	ENOMEM      = syscall.ENOMEM
	ENOSYS      = syscall.ENOSYS
	EBADF       = syscall.EBADF
	EBUSY       = syscall.EBUSY
	ECHILD      = syscall.ECHILD
)

// IsGone reports whether err means that the process or thread no longer exists.
func IsGone(err error) bool { return errors.Is(err, ESRCH) || errors.Is(err, ECHILD) }

func wrap(what string, pid int, e Errno) error {
	if e == 0 {
		return nil
	}
	return fmt.Errorf("%s on %d: %w", what, pid, e)
}
