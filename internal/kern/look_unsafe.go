package kern

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FileFacts is what the kernel remembers about a file.
type FileFacts struct {
	Mode                 uint32 // type and permissions
	Nlink                uint32
	UID                  uint32
	DevMajor, DevMinor   uint32 // of the file system
	Inode                uint64
	RdevMajor, RdevMinor uint32 // of a device
}

// IsDevice reports whether the file is a character or block device.
func (f FileFacts) IsDevice() bool {
	t := f.Mode & unix.S_IFMT
	return t == unix.S_IFCHR || t == unix.S_IFBLK
}

// Cached looks at path, follows links, and asks nobody: nothing is wanted of the file system but what the kernel has in
// memory, so a dead file server, or one that a user wrote, cannot hold the caller.
func Cached(path string) (FileFacts, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, 0, &st); err != nil {
		return FileFacts{}, fmt.Errorf("statx %s: %w", path, err)
	}
	return FileFacts{
		Mode: uint32(st.Mode), Nlink: st.Nlink, UID: st.Uid, DevMajor: st.Dev_major, DevMinor: st.Dev_minor, Inode: st.Ino,
		RdevMajor: st.Rdev_major, RdevMinor: st.Rdev_minor,
	}, nil
}

// SameMemory reports whether processes a and b share their address space. It compares two pointers in the kernel and touches
// neither process.
func SameMemory(a, b int) (bool, error) { return same(a, b, 1) }

// SameDescriptors is the same for their tables of descriptors.
func SameDescriptors(a, b int) (bool, error) { return same(a, b, 2) }

func same(a, b int, what uintptr) (bool, error) {
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), what, 0, 0, 0)
	if e != 0 {
		return false, wrap("kcmp", b, e)
	}
	return r == 0, nil
}

// OwnerIsThread reports whether the signals of the file behind f go to one thread (F_SETOWN_EX with F_OWNER_TID).
func OwnerIsThread(f *os.File) (bool, error) {
	const getOwnEx, ownerTID = 16, 0
	var owner struct{ kind, id int32 }
	if _, _, e := unix.Syscall(unix.SYS_FCNTL, f.Fd(), getOwnEx, uintptr(unsafe.Pointer(&owner))); e != 0 {
		return false, fmt.Errorf("F_GETOWN_EX: %w", e)
	}
	return owner.kind == ownerTID && owner.id != 0, nil
}

// SetPipeSize makes the pipe behind f hold size bytes, rounded up to pages.
func SetPipeSize(f *os.File, size int) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, size); err != nil {
		return fmt.Errorf("make a pipe of %d bytes: %w", size, err)
	}
	return nil
}

// NextData finds the first part of f from at on that was ever written, in bytes; ok is false where there is none before its end. Only
// file systems that keep account of holes know; others say that all is data.
func NextData(f *os.File, at int64) (from, to int64, ok bool, err error) {
	if from, err = f.Seek(at, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
		return 0, 0, false, nil
	}
	if err == nil {
		to, err = f.Seek(from, unix.SEEK_HOLE)
	}
	return from, to, err == nil, err
}
