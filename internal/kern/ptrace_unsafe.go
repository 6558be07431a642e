package kern

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"mosix/internal/abi"
)

// Options of PTRACE_SEIZE and what a stop may report.
const (
	OptTraceSysGood  = unix.PTRACE_O_TRACESYSGOOD
	OptTraceFork     = unix.PTRACE_O_TRACEFORK
	OptTraceVfork    = unix.PTRACE_O_TRACEVFORK
	OptTraceClone    = unix.PTRACE_O_TRACECLONE
	OptTraceExec     = unix.PTRACE_O_TRACEEXEC
	OptTraceExit     = unix.PTRACE_O_TRACEEXIT
	OptExitKill      = unix.PTRACE_O_EXITKILL
	OptSuspendFilter = unix.PTRACE_O_SUSPEND_SECCOMP

	EventFork  = unix.PTRACE_EVENT_FORK
	EventVfork = unix.PTRACE_EVENT_VFORK
	EventClone = unix.PTRACE_EVENT_CLONE
	EventExec  = unix.PTRACE_EVENT_EXEC
	EventExit  = unix.PTRACE_EVENT_EXIT
	EventStop  = unix.PTRACE_EVENT_STOP

	ptraceGetSigMask  = 0x420a
	ptraceSetSigMask  = 0x420b
	ptraceSeize       = 0x4206
	ptraceInterrupt   = 0x4207
	ptraceListen      = 0x4208
	ptracePeekSiginfo = 0x4209
	ptraceGetRseq     = 0x420f
	ntX86XState       = 0x202
)

func ptrace(what string, req, tid int, addr uintptr, data unsafe.Pointer) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, uintptr(data), 0, 0)
	return wrap(what, tid, e)
}

// Seize attaches to tid without stopping it.
func Seize(tid, options int) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, ptraceSeize, uintptr(tid), 0, uintptr(options), 0, 0)
	return wrap("ptrace seize", tid, e)
}

// Interrupt asks a seized thread to stop.
func Interrupt(tid int) error { return ptrace("ptrace interrupt", ptraceInterrupt, tid, 0, nil) }

func ptraceSig(what string, req, tid, sig int) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), 0, uintptr(sig), 0, 0)
	return wrap(what, tid, e)
}

// Cont lets a stopped thread run on, delivering sig where it stopped for one.
func Cont(tid, sig int) error { return ptraceSig("ptrace cont", unix.PTRACE_CONT, tid, sig) }

// ToCall lets a stopped thread run on to the entry, or the exit, of its next system call.
func ToCall(tid, sig int) error {
	return ptraceSig("ptrace syscall", unix.PTRACE_SYSCALL, tid, sig)
}

// Step lets it run for one instruction.
func Step(tid, sig int) error { return ptraceSig("ptrace step", unix.PTRACE_SINGLESTEP, tid, sig) }

// Detach lets it go, delivering sig where it stopped for one.
func Detach(tid, sig int) error { return ptraceSig("ptrace detach", unix.PTRACE_DETACH, tid, sig) }

// Listen keeps a group-stopped thread stopped without holding it.
func Listen(tid int) error { return ptrace("ptrace listen", ptraceListen, tid, 0, nil) }

// SetOptions changes the options of a stopped thread.
func SetOptions(tid, options int) error {
	return ptraceSig("ptrace setoptions", unix.PTRACE_SETOPTIONS, tid, options)
}

// Dispatches reports whether the held thread has its system calls dispatched to itself (PR_SET_SYSCALL_USER_DISPATCH). A kernel that
// cannot tell says no.
func Dispatches(tid int) bool {
	const getDispatch = 0x4211
	var c [4]uint64 // mode, selector, offset, length
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, getDispatch, uintptr(tid), unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)), 0, 0)
	return e == 0 && c[0] != 0
}

// EventMsg is the number that came with the last event: the new thread's.
func EventMsg(tid int) (uint64, error) {
	var m uint64
	err := ptrace("ptrace geteventmsg", unix.PTRACE_GETEVENTMSG, tid, 0, unsafe.Pointer(&m))
	return m, err
}

// GetRegs reads the general registers.
func GetRegs(tid int) (r abi.Regs, err error) {
	err = ptrace("ptrace getregs", unix.PTRACE_GETREGS, tid, 0, unsafe.Pointer(&r))
	return
}

// SetRegs writes them.
func SetRegs(tid int, r *abi.Regs) error {
	return ptrace("ptrace setregs", unix.PTRACE_SETREGS, tid, 0, unsafe.Pointer(r))
}

// GetXState reads the whole extended state (x87, SSE, AVX, AVX-512, PKRU, …) in the processor's XSAVE layout.
func GetXState(tid int) ([]byte, error) {
	b := make([]byte, 16384)
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	err := ptrace("ptrace getregset", unix.PTRACE_GETREGSET, tid, ntX86XState, unsafe.Pointer(&iov))
	return b[:iov.Len:iov.Len], err
}

// SetXState writes it. b may come from a processor with more or fewer register sets, whose area is longer or shorter, as long as each
// lies at the same place: the kernel takes only an area of its own length. ErrRegisterSets says that b has something in a set that
// this processor does not have.
func SetXState(tid int, b []byte) error {
	own, err := GetXState(tid)
	if err != nil {
		return err
	}
	if b, err = fitXState(b, own); err != nil {
		return err
	}
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	err = ptrace("ptrace setregset", unix.PTRACE_SETREGSET, tid, ntX86XState, unsafe.Pointer(&iov))
	runtime.KeepAlive(b)
	return err
}

// ErrRegisterSets says that a processor lacks register sets that a program has used.
var ErrRegisterSets = errors.New("the program has used registers that this processor does not have")

// fitXState makes area b as long as own, this processor's. The layout is that of Intel's Software Developer's Manual, volume 1, 13.4;
// the kernel says in bytes that the processor leaves to software which sets there are.
func fitXState(b, own []byte) ([]byte, error) {
	const enabled, used, header = 464, 512, 576
	if len(b) < header || len(own) < header {
		return nil, fmt.Errorf("an XSAVE area of %d bytes, for one of %d: at least %d are needed", len(b), len(own), header)
	}
	if more := binary.LittleEndian.Uint64(b[used:]) &^ binary.LittleEndian.Uint64(own[enabled:]); more != 0 {
		return nil, fmt.Errorf("%w (XSAVE component bits %#x)", ErrRegisterSets, more)
	}
	if len(b) == len(own) {
		return b, nil
	}
	out := make([]byte, len(own))
	copy(out, b)
	return out, nil
}

// GetSigMask reads the mask of blocked signals.
func GetSigMask(tid int) (m uint64, err error) {
	err = ptrace("ptrace getsigmask", ptraceGetSigMask, tid, 8, unsafe.Pointer(&m))
	return
}

// SetSigMask writes it.
func SetSigMask(tid int, m uint64) error {
	return ptrace("ptrace setsigmask", ptraceSetSigMask, tid, 8, unsafe.Pointer(&m))
}

// GetSiginfo reads the siginfo of the signal that a thread stopped for.
func GetSiginfo(tid int) (s abi.Siginfo, err error) {
	err = ptrace("ptrace getsiginfo", unix.PTRACE_GETSIGINFO, tid, 0, unsafe.Pointer(&s))
	return
}

// PeekSiginfo reads, without taking, the pending signals of the thread (shared false) or of its process.
func PeekSiginfo(tid int, shared bool) ([]abi.Siginfo, error) {
	type peekArgs struct {
		off   uint64
		flags uint32
		nr    int32
	}
	var all []abi.Siginfo
	for {
		a := peekArgs{off: uint64(len(all)), nr: 32}
		if shared {
			a.flags = 1
		}
		var buf [32]abi.Siginfo
		n, _, e := unix.RawSyscall6(unix.SYS_PTRACE, ptracePeekSiginfo, uintptr(tid), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&buf)), 0, 0)
		if e != 0 {
			return all, wrap("ptrace peeksiginfo", tid, e)
		}
		all = append(all, buf[:n]...)
		if n < 32 {
			return all, nil
		}
	}
}

// Rseq is a thread's registered area of restartable sequences.
type Rseq struct {
	Addr uint64
	Size uint32
	Sig  uint32
	_    [2]uint32
}

// GetRseq reads the registration; Addr is 0 where there is none.
func GetRseq(tid int) (r Rseq, err error) {
	err = ptrace("ptrace get rseq", ptraceGetRseq, tid, unsafe.Sizeof(r), unsafe.Pointer(&r))
	return
}

// RobustList reads the head of a thread's list of robust futexes.
func RobustList(tid int) (head, size uint64, err error) {
	_, _, e := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	return head, size, wrap("get_robust_list", tid, e)
}

// Wait waits for a change of tid (-1: any child or tracee of the calling thread) and returns who and what. flags is 0 or WNoHang.
func Wait(tid, flags int) (int, int, error) {
	var st int32
	for {
		n, _, e := unix.Syscall6(unix.SYS_WAIT4, uintptr(tid), uintptr(unsafe.Pointer(&st)), uintptr(unix.WALL|flags), 0, 0, 0)
		if e == unix.EINTR {
			continue
		}
		return int(n), int(st), wrap("wait4", tid, e)
	}
}

// WNoHang makes Wait return at once, with who = 0, when nothing has changed.
const WNoHang = unix.WNOHANG
