package feature

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
)

// missing is an answer of the kernel, given otherwise than by an errno.
func missing(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrNotSupported, fmt.Sprintf(format, a...))
}

// root looks for the capabilities without which an agent can do nothing.
func root() error {
	const (
		sysPtrace = 1 << 19
		sysAdmin  = 1 << 21
		netAdmin  = 1 << 12
		need      = sysPtrace | sysAdmin | netAdmin
	)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		v, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		caps, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		if err != nil {
			return err
		}
		if os.Geteuid() != 0 || caps&need != need {
			return fmt.Errorf("uid %d with capabilities %x: %w", os.Geteuid(), caps, syscall.EPERM)
		}
		return nil
	}
	return errors.New("/proc/self/status has no line CapEff")
}

func ptraceSeize() error {
	return withChild(func(c *child) error {
		// The child is attached the old way. Let go with a stop, it is there to be seized.
		if err := kern.Detach(c.pid, int(syscall.SIGSTOP)); err != nil {
			return err
		}
		if _, _, err := kern.Wait(c.pid, syscall.WUNTRACED); err != nil {
			return err
		}
		if err := kern.Seize(c.pid, kern.OptExitKill); err != nil {
			return err
		}
		if err := kern.Interrupt(c.pid); err != nil {
			return err
		}
		_, event, err := c.wait()
		if err == nil && event != kern.EventStop {
			return missing("a seized process stopped with event %d", event)
		}
		return err
	})
}

func ptraceRseq() error {
	return withChild(func(c *child) error {
		_, err := kern.GetRseq(c.pid)
		return err
	})
}

func suspendSeccomp() error {
	return withChild(func(c *child) error {
		return kern.SetOptions(c.pid, kern.OptExitKill|kern.OptSuspendFilter)
	})
}

func xstate() error {
	return withChild(func(c *child) error {
		b, err := kern.GetXState(c.pid)
		if err != nil {
			return err
		}
		return kern.SetXState(c.pid, b)
	})
}

func processVM() error {
	return withChild(func(c *child) error {
		want := []byte("from one process to another")
		if err := c.write(c.scratch, want); err != nil {
			return err
		}
		got := make([]byte, len(want))
		if err := c.read(c.scratch, got); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return missing("read back %q", got)
		}
		return nil
	})
}

func pidfd() error {
	return withChild(func(c *child) error {
		fd, err := c.call(abi.SysPidfdOpen, uint64(c.pid), 0)
		if err != nil {
			return err
		}
		f, err := c.take(fd, "taken")
		if err != nil {
			return err
		}
		defer f.Close()
		ended, err := kern.PidfdWait(f, 0)
		if err == nil && ended {
			return missing("the handle of a process that lives says that it has ended")
		}
		return err
	})
}

func kcmp() error {
	const sysKcmp, kcmpVM = 312, 1
	self := uint64(os.Getpid())
	return withChild(func(c *child) error {
		n, err := c.call(sysKcmp, uint64(c.pid), uint64(c.pid), kcmpVM)
		if err != nil || n != 0 {
			return errors.Join(err, differs(n, 0))
		}
		n, err = c.call(sysKcmp, uint64(c.pid), self, kcmpVM)
		if err == nil && n == 0 {
			return missing("two processes seem to share their memory")
		}
		return err
	})
}

func differs(got, want uint64) error {
	if got == want {
		return nil
	}
	return missing("the kernel answered %d, want %d", got, want)
}

// seccompFlags asks whether the kernel knows flags of seccomp: with no filter it says EFAULT after it has looked at them.
func seccompFlags(flags uint64) error {
	return withChild(func(c *child) error {
		if _, err := c.call(abi.SysSeccomp, abi.SeccompSetFilter, flags, 0); !errors.Is(err, syscall.EFAULT) {
			return fmt.Errorf("seccomp with flags %#x: %w", flags, err)
		}
		return nil
	})
}

func seccompWaitKillable() error {
	return seccompFlags(abi.SeccompNewListener | abi.SeccompWaitKill)
}

func seccompTSyncESRCH() error {
	return seccompFlags(abi.SeccompNewListener | abi.SeccompTSync | abi.SeccompTSyncESRCH)
}

// withListener gives the child a filter that notifies getppid and allows all else.
func withListener(fn func(c *child, listener *os.File) error) error {
	const (
		ldNr, jeq, ret   = 0x20, 0x15, 0x06 // BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
		notify, allow    = 0x7fc00000, 0x7fff0000
		progOff, progLen = 64, 4
	)
	return withChild(func(c *child) error {
		b := make([]byte, progOff, progOff+8*progLen)
		binary.LittleEndian.PutUint16(b, progLen)
		binary.LittleEndian.PutUint64(b[8:], uint64(c.scratch)+progOff)
		for _, i := range [progLen]struct {
			code   uint16
			jt, jf uint8
			k      uint32
		}{{ldNr, 0, 0, 0}, {jeq, 0, 1, syscall.SYS_GETPPID}, {ret, 0, 0, notify}, {ret, 0, 0, allow}} {
			b = binary.LittleEndian.AppendUint16(b, i.code)
			b = append(b, i.jt, i.jf)
			b = binary.LittleEndian.AppendUint32(b, i.k)
		}
		if err := c.write(c.scratch, b); err != nil {
			return err
		}
		if _, err := c.call(abi.SysPrctl, abi.PrSetNoNewPrivs, 1, 0, 0, 0); err != nil {
			return err
		}
		fd, err := c.call(abi.SysSeccomp, abi.SeccompSetFilter, abi.SeccompNewListener, uint64(c.scratch))
		if err != nil {
			return fmt.Errorf("seccomp with a listener: %w", err)
		}
		f, err := c.take(fd, "listener")
		if err != nil {
			return err
		}
		defer f.Close()
		return fn(c, f)
	})
}

func seccompNotify() error {
	return withListener(func(c *child, listener *os.File) error {
		const answer = 4711
		if err := c.start(syscall.SYS_GETPPID); err != nil {
			return err
		}
		if in, _ := kern.PollIn(listener, time.Second); !in {
			return missing("a notified call did not arrive within a second")
		}
		var n kern.Notif
		err := kern.NotifRecv(listener, &n)
		if err != nil {
			return err
		}
		if err := kern.NotifSend(listener, n.ID, answer, false); err != nil {
			return err
		}
		got, err := c.finish()
		return errors.Join(err, differs(got, answer))
	})
}

func seccompSyncWakeUp() error {
	return withListener(func(_ *child, listener *os.File) error { return kern.NotifSyncWakeUp(listener) })
}

// withArmed gives the child an area of four populated pages that notes writes.
func withArmed(fn func(c *child, area mem.Range) error) error {
	const pages, userModeOnly = 4, 1
	return withChild(func(c *child) error {
		a, err := c.call(abi.SysMmap, 0, pages*mem.PageSize, abi.ProtRead|abi.ProtWrite, abi.MapPrivate|abi.MapAnonymous, ^uint64(0), 0)
		if err != nil {
			return err
		}
		area := mem.Range{Start: mem.Addr(a), End: mem.Addr(a) + pages*mem.PageSize}
		if err := c.write(area.Start, make([]byte, area.Len())); err != nil {
			return err
		}
		fd, err := c.call(abi.SysUserfaultfd, syscall.O_CLOEXEC|syscall.O_NONBLOCK|userModeOnly)
		if err != nil {
			return fmt.Errorf("userfaultfd: %w", err)
		}
		f, err := c.take(fd, "userfaultfd")
		if err != nil {
			return err
		}
		defer f.Close()
		if err := kern.UffdOpen(f); err != nil {
			return err
		}
		if err := kern.UffdRegister(f, area); err != nil {
			return err
		}
		return fn(c, area)
	})
}

func uffdWPAsync() error {
	return withArmed(func(*child, mem.Range) error { return nil })
}

// pagemapScan arms an area, writes one page of it from outside as the kernel does, and looks whether that one is found.
func pagemapScan() error {
	return withArmed(func(c *child, area mem.Range) error {
		f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", c.pid))
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := kern.ScanPages(f, area, true, nil); err != nil {
			return err
		}
		written := mem.Range{Start: area.Start + mem.PageSize, End: area.Start + 2*mem.PageSize}
		if err := c.write(written.Start, []byte{1}); err != nil {
			return err
		}
		found, err := kern.ScanPages(f, area, true, nil)
		if err != nil {
			return err
		}
		if len(found) != 1 || found[0].Range != written {
			return missing("after a write to %v it reported %v", written, found)
		}
		return nil
	})
}

// setTID makes a PID namespace, its init, and in there a process with a number of our choice.
func setTID() error {
	return withChild(func(c *child) error {
		if err := c.unshare(newPID); err != nil {
			return err
		}
		first, _, err := c.fork(0)
		if err != nil {
			return err
		}
		const want = 31234
		_, n, err := first.fork(want)
		return errors.Join(err, differs(n, want))
	})
}

// Namespaces, by the flag that makes one.
const (
	newPID   = syscall.CLONE_NEWPID
	newMount = syscall.CLONE_NEWNS
	newNet   = syscall.CLONE_NEWNET
	newIPC   = syscall.CLONE_NEWIPC
	newUTS   = syscall.CLONE_NEWUTS
	newUser  = syscall.CLONE_NEWUSER
	newTime  = abi.CloneNewTime
)

func namespace(flag uint64) func() error {
	return func() error {
		return withChild(func(c *child) error {
			err := c.unshare(flag)
			if errors.Is(err, syscall.ENOSPC) {
				return missing("the limit in /proc/sys/user does not allow another namespace of this kind")
			}
			return err
		})
	}
}

// timeOffsets sets the clocks of a time namespace ahead and looks at them from inside.
func timeOffsets() error {
	const ahead = 1_000_000 // seconds
	return withChild(func(c *child) error {
		if err := c.unshare(newTime); err != nil {
			return err
		}
		offsets := fmt.Sprintf("monotonic %d 0\nboottime %d 0\n", ahead, ahead)
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", c.pid), []byte(offsets), 0); err != nil {
			return err
		}
		inside, _, err := c.fork(0)
		if err != nil {
			return err
		}
		if _, err := inside.call(abi.SysClockGettime, uint64(kern.ClockMonotonic), uint64(inside.scratch)); err != nil {
			return err
		}
		b := make([]byte, 8)
		if err := inside.read(inside.scratch, b); err != nil {
			return err
		}
		there, here := int64(binary.LittleEndian.Uint64(b)), kern.Now(kern.ClockMonotonic)/int64(time.Second)
		if d := there - here; d < ahead-10 || d > ahead+10 {
			return missing("a clock that was set %d s ahead is %d s ahead", ahead, d)
		}
		return nil
	})
}

func memfdSeal() error {
	f, err := kern.Memfd("mosix-probe", mem.PageSize)
	if err != nil {
		return err
	}
	defer f.Close()
	if !kern.Sealed(f) {
		return missing("seals were accepted and are not there")
	}
	if err := f.Truncate(0); !errors.Is(err, syscall.EPERM) {
		return missing("a sealed file was cut: %v", err)
	}
	return nil
}

func mmMap() error {
	const mapSize, wantSize = 15, 104 // PR_SET_MM_MAP_SIZE, sizeof(struct prctl_mm_map)
	return withChild(func(c *child) error {
		if _, err := c.call(abi.SysPrctl, abi.PrSetMM, mapSize, uint64(c.scratch), 0, 0); err != nil {
			return err
		}
		b := make([]byte, 4)
		if err := c.read(c.scratch, b); err != nil {
			return err
		}
		return differs(uint64(binary.LittleEndian.Uint32(b)), wantSize)
	})
}

func mapFiles() error {
	const protRW, shared = abi.ProtRead | abi.ProtWrite, abi.MapShared
	return withChild(func(c *child) error {
		if err := c.write(c.scratch, []byte("mosix-probe\x00")); err != nil {
			return err
		}
		fd, err := c.call(abi.SysMemfdCreate, uint64(c.scratch), 0)
		if err != nil {
			return err
		}
		a, err := c.call(abi.SysMmap, 0, mem.PageSize, protRW, shared, fd, 0)
		if err != nil {
			return err
		}
		f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", c.pid, a, a+mem.PageSize))
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// remapVDSO moves the vDSO of the child to where nothing was.
func remapVDSO() error {
	return withChild(func(c *child) error {
		old, err := kernelAreas(c.pid)
		if err != nil {
			return err
		}
		if len(old) == 0 {
			return missing("a fresh process has no vDSO")
		}
		for _, r := range old {
			if _, err := c.call(abi.SysMunmap, uint64(r.Start), r.Len()); err != nil {
				return err
			}
		}
		const at = 0x200000000000
		if _, err := c.call(abi.SysArchPrctl, abi.ArchMapVDSO64, at); err != nil {
			return fmt.Errorf("ARCH_MAP_VDSO_64: %w", err)
		}
		now, err := kernelAreas(c.pid)
		if err != nil {
			return err
		}
		if len(now) == 0 || now[0].Start != at {
			return missing("the vDSO was asked for at %#x and is at %v", uint64(at), now)
		}
		return nil
	})
}

// kernelAreas finds the vDSO and its data pages in the memory of process pid.
func kernelAreas(pid int) (rs []mem.Range, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 6 || !strings.HasPrefix(f[5], "[vdso]") && !strings.HasPrefix(f[5], "[vvar") {
			continue
		}
		var start, end uint64
		if _, err := fmt.Sscanf(f[0], "%x-%x", &start, &end); err != nil {
			return nil, fmt.Errorf("line %q of maps: %w", line, err)
		}
		rs = append(rs, mem.Range{Start: mem.Addr(start), End: mem.Addr(end)})
	}
	return rs, nil
}

func fsgsBase() error {
	const atHWCap2, bit = 26, 1 << 1
	b, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return err
	}
	for ; len(b) >= 16; b = b[16:] {
		if binary.LittleEndian.Uint64(b) == atHWCap2 {
			if binary.LittleEndian.Uint64(b[8:])&bit != 0 {
				return nil
			}
			break
		}
	}
	return missing("the kernel does not let programs use the instructions")
}

// cpuQuota looks for a hierarchy of cgroups that limits processor time.
func cpuQuota() error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		// 36 35 98:0 / /mount/point rw,noatime master:1 - cgroup2 cgroup rw,cpu
		before, after, ok := strings.Cut(line, " - ")
		m, fs := strings.Fields(before), strings.Fields(after)
		if !ok || len(m) < 5 || len(fs) < 3 {
			continue
		}
		switch fs[0] {
		case "cgroup2":
			c, err := os.ReadFile(filepath.Join(m[4], "cgroup.controllers"))
			if err == nil && slices.Contains(strings.Fields(string(c)), "cpu") {
				return nil
			}
		case "cgroup":
			if _, err := os.Stat(filepath.Join(m[4], "cpu.cfs_quota_us")); err == nil && slices.Contains(strings.Split(fs[2], ","), "cpu") {
				return nil
			}
		}
	}
	return missing("no cgroup hierarchy with the cpu controller is mounted")
}

func schedstat() error {
	b, err := os.ReadFile("/proc/self/schedstat")
	if err != nil {
		return err
	}
	f := strings.Fields(string(b))
	if len(f) < 3 || f[0] == "0" {
		return missing("/proc/self/schedstat reads %q", strings.TrimSpace(string(b)))
	}
	return nil
}
