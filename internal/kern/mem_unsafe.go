package kern

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"mosix/internal/mem"
)

// maxIOV is the kernel's limit of pieces in one call.
const maxIOV = 1024

func vmCall(nr uintptr, what string, pid int, b []byte, rs []mem.Range) (int, error) {
	done := 0
	for len(rs) > 0 {
		k := min(len(rs), maxIOV)
		remote := make([]unix.RemoteIovec, k)
		total := 0
		for i, r := range rs[:k] {
			remote[i] = unix.RemoteIovec{Base: uintptr(r.Start), Len: int(r.Len())}
			total += int(r.Len())
		}
		if total == 0 {
			rs = rs[k:]
			continue
		}
		local := unix.Iovec{Base: &b[done], Len: uint64(total)}
		n, _, e := unix.Syscall6(nr, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote[0])), uintptr(k), 0)
		if e != 0 {
			return done, wrap(what, pid, e)
		}
		done += int(n)
		if int(n) < total {
			return done, fmt.Errorf("%s on %d: %d of %d bytes: %w", what, pid, n, total, EFAULT)
		}
		rs = rs[k:]
	}
	return done, nil
}

// ReadVM copies the ranges rs of process pid, one after the other, into b. It stops at the first page that cannot be read
// and returns how much was copied.
func ReadVM(pid int, b []byte, rs ...mem.Range) (int, error) {
	return vmCall(unix.SYS_PROCESS_VM_READV, "process_vm_readv", pid, b, rs)
}

// WriteVM copies b into the ranges rs of process pid.
func WriteVM(pid int, b []byte, rs ...mem.Range) (int, error) {
	return vmCall(unix.SYS_PROCESS_VM_WRITEV, "process_vm_writev", pid, b, rs)
}

// OpenMem opens /proc/PID/mem: it reads and writes also what the process itself may not (PROT_NONE, text).
func OpenMem(pid int) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
}

// Memfd makes an anonymous file of size bytes that can neither grow, shrink nor be sealed further.
func Memfd(name string, size uint64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := SizeAndSeal(f, size); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// SizeAndSeal gives a fresh memfd its size for ever.
func SizeAndSeal(f *os.File, size uint64) error {
	if err := f.Truncate(int64(size)); err != nil {
		return fmt.Errorf("size memfd %s: %w", f.Name(), err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("seal memfd %s: %w", f.Name(), err)
	}
	return nil
}

// Sealed reports whether f can no longer change its size: only then may it be mapped by an agent.
func Sealed(f *os.File) bool {
	s, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	return err == nil && s&(unix.F_SEAL_SHRINK|unix.F_SEAL_GROW) == unix.F_SEAL_SHRINK|unix.F_SEAL_GROW
}

// Map maps size bytes of f, shared, readable and writable, into this program.
func Map(f *os.File, size uint64) ([]byte, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	return b, nil
}

// Unmap undoes Map.
func Unmap(b []byte) error { return unix.Munmap(b) }

// SealWrites makes f a memfd that nobody can write any more but through mappings that exist.
func SealWrites(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); err != nil {
		return fmt.Errorf("seal %s against writing: %w", f.Name(), err)
	}
	return nil
}

// ReadableMemfd makes an anonymous file of size bytes, and a second file of it that can only be read.
func ReadableMemfd(name string, size uint64) (rw, ro *os.File, err error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("memfd_create %s: %w", name, err)
	}
	rw = os.NewFile(uintptr(fd), name)
	if err := rw.Truncate(int64(size)); err != nil {
		rw.Close()
		return nil, nil, fmt.Errorf("size memfd %s: %w", name, err)
	}
	if ro, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		rw.Close()
		return nil, nil, err
	}
	return rw, ro, nil
}
