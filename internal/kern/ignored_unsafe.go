package kern

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// HeedSignals gives every signal that this process was born ignoring its default meaning again, lest the programs that it starts
// ignore it as well. Go's runtime leaves some of them as they are, and so does os/signal: the C library's own, 32 and 33, are
// ignored in all that a make starts by posix_spawn.
func HeedSignals() {
	const ignored = 1                                           // SIG_IGN
	type action struct{ handler, flags, restorer, mask uint64 } // the kernel's struct sigaction
	for sig := uintptr(1); sig <= 64; sig++ {
		var a action
		const size = unsafe.Sizeof(a.mask)
		if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&a)), size, 0, 0); e != 0 || a.handler != ignored {
			continue
		}
		a = action{}
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&a)), 0, size, 0, 0)
	}
}
