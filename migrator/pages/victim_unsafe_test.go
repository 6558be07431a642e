package pages

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// TestMain is also the victim: a program that does to its memory what it is told, line by line.
func TestMain(m *testing.M) {
	if os.Getenv("PAGES_VICTIM") != "" {
		victimMain()
		return
	}
	os.Exit(m.Run())
}

func victimMain() {
	in := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	for in.Scan() {
		w := strings.Fields(in.Text())
		var n []uintptr
		for _, s := range w[1:] {
			v, err := strconv.ParseUint(s, 0, 64)
			if err != nil {
				fmt.Println("not a number:", s)
				os.Exit(1)
			}
			n = append(n, uintptr(v))
		}
		if err := obey(w[0], n); err != nil {
			fmt.Println(in.Text(), "failed:", err)
			continue
		}
		fmt.Println("ok")
	}
}

func raw(nr uintptr, args ...uintptr) error {
	_, err := rawValue(nr, args...)
	return err
}

func rawValue(nr uintptr, args ...uintptr) (uintptr, error) {
	var a [6]uintptr
	copy(a[:], args)
	v, _, e := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if e != 0 {
		return 0, e
	}
	return v, nil
}

// bytesAt is memory of the victim, outside of what Go knows.
func bytesAt(at, n uintptr) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&at))), n)
}

const fixedNoReplace, fixed, anonymous, private, shared = 0x100000, 0x10, 0x20, 2, 1

// storm is asked to end when it is closed, and says that it has.
var storm, calm chan struct{}

func obey(verb string, n []uintptr) error {
	switch verb {
	case "anon": // ADDR LEN PROT
		return raw(syscall.SYS_MMAP, n[0], n[1], n[2], private|anonymous|fixedNoReplace, ^uintptr(0), 0)
	case "replace": // ADDR LEN PROT: whatever is there
		return raw(syscall.SYS_MMAP, n[0], n[1], n[2], private|anonymous|fixed, ^uintptr(0), 0)
	case "shared": // ADDR LEN
		return raw(syscall.SYS_MMAP, n[0], n[1], 3, shared|anonymous|fixedNoReplace, ^uintptr(0), 0)
	case "file": // ADDR LEN PROT BYTES: a private mapping of a file with so many bytes
		f, err := os.CreateTemp("", "pages-victim")
		if err != nil {
			return err
		}
		defer f.Close()
		defer os.Remove(f.Name())
		b := make([]byte, n[3])
		pattern(b, 99)
		if _, err := f.Write(b); err != nil {
			return err
		}
		return raw(syscall.SYS_MMAP, n[0], n[1], n[2], private|fixedNoReplace, f.Fd(), 0)
	case "unmap": // ADDR LEN
		return raw(syscall.SYS_MUNMAP, n[0], n[1])
	case "remap": // ADDR LEN NEWLEN NEWADDR; NEWADDR 0: in place
		if n[3] == 0 {
			return raw(syscall.SYS_MREMAP, n[0], n[1], n[2], 0)
		}
		return raw(syscall.SYS_MREMAP, n[0], n[1], n[2], 1|2, n[3])
	case "protect": // ADDR LEN PROT
		return raw(syscall.SYS_MPROTECT, n[0], n[1], n[2])
	case "forget": // ADDR LEN
		return raw(syscall.SYS_MADVISE, n[0], n[1], syscall.MADV_DONTNEED)
	case "fill": // ADDR LEN SEED
		pattern(bytesAt(n[0], n[1]), uint64(n[2]))
	case "poke": // ADDR VALUE
		bytesAt(n[0], 1)[0] = byte(n[1])
	case "touch": // ADDR LEN: read, so that pages of zeros are there
		sum := byte(0)
		for i := uintptr(0); i < n[1]; i += 4096 {
			sum += bytesAt(n[0]+i, 1)[0]
		}
		_ = sum
	case "kernel": // ADDR LEN: the kernel writes
		fd, err := syscall.Open("/dev/urandom", syscall.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		got, err := rawValue(syscall.SYS_READ, uintptr(fd), n[0], n[1])
		if err == nil && got != n[1] {
			err = fmt.Errorf("%d of %d bytes", got, n[1])
		}
		return err
	case "stack": // BYTES: the main thread's stack grows downward by so much
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, "[stack]") {
				lo, err := strconv.ParseUint(line[:strings.Index(line, "-")], 16, 64)
				if err != nil {
					return err
				}
				for at := uintptr(lo) - 4096; at >= uintptr(lo)-n[0]; at -= 4096 {
					pattern(bytesAt(at, 4096), uint64(at))
				}
				return nil
			}
		}
		return fmt.Errorf("no stack")
	case "fork": // a child that waits; from now on the first write to a page copies it
		pid, err := rawValue(syscall.SYS_FORK)
		if err == nil && pid == 0 {
			for {
				syscall.RawSyscall(syscall.SYS_PAUSE, 0, 0, 0)
			}
		}
		orphans = append(orphans, int(pid))
		return err
	case "reap": // the children of fork
		for _, pid := range orphans {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
		orphans = nil
	case "storm": // ADDR LEN: writes all over the place, until calm
		storm, calm = make(chan struct{}), make(chan struct{})
		go func() {
			defer close(calm)
			b := bytesAt(n[0], n[1])
			for i := uint64(0); ; i++ {
				select {
				case <-storm:
					return
				default:
				}
				for range 100 {
					b[rand.IntN(len(b))]++
				}
			}
		}()
	case "calm":
		close(storm)
		<-calm
	case "nothing":
	default:
		return fmt.Errorf("no such verb")
	}
	return nil
}

var orphans []int

// pattern fills b with bytes that differ from page to page and from seed to seed; few are zero.
func pattern(b []byte, seed uint64) {
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
}
