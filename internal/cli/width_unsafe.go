package cli

import (
	"os"
	"syscall"
	"unsafe"
)

// terminalWidth returns the number of columns of the terminal that f is, or 0 where f is none.
func terminalWidth(f *os.File) int {
	var size struct{ rows, cols, x, y uint16 }
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size))); e != 0 {
		return 0
	}
	if size.cols == 0 { // a terminal that was never told its size
		return 80
	}
	return int(size.cols)
}
