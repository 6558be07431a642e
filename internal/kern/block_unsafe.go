package kern

import (
	_ "unsafe" // for go:linkname

	"golang.org/x/sys/unix"
)

// A goroutine that enters an ordinary system call keeps its place among those that run (its P) until the scheduler's monitor takes
// it away: up to 10 ms later where other places are free, and until then the monitor looks every 20 µs. An agent that waits at
// a doorbell for each forwarded call spent a quarter of its processor time in that. runtime.entersyscallblock gives the place up at
// once; it is one of the two functions here that the runtime keeps for such users (go.dev/issue/67401).

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// blockingSyscall6 is unix.Syscall6 for a call that will wait.
//
//go:nosplit
//go:noinline
//go:norace
//go:uintptrescapes
func blockingSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1 uintptr, err unix.Errno) {
	entersyscallblock()
	r1, _, err = unix.RawSyscall6(trap, a1, a2, a3, a4, a5, a6)
	exitsyscall()
	return r1, err
}
