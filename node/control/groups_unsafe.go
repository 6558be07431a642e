package control

import (
	"syscall"
	"unsafe"
)

const soPeerGroups = 59 // SO_PEERGROUPS, Linux 4.13; the syscall package does not name it

// peerGroups returns the supplementary groups that the peer of the unix socket fd had when it connected.
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4) // bytes; the kernel writes what it used, or what it would need
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.SOL_SOCKET, soPeerGroups,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == syscall.ERANGE && int(size/4) > len(groups):
			groups = make([]uint32, size/4)
		default:
			return nil, errno
		}
	}
}
