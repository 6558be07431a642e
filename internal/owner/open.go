package owner

import "syscall"

// nonblock lets the runtime wait for a device, so that watching many costs no threads.
const nonblock = syscall.O_NONBLOCK | syscall.O_CLOEXEC
