// Package abi holds the numbers and layouts of Linux on amd64 that mosix injects, decodes or carries. Its one invariant: it
// makes no system call, so that pure code, the simulator and a reader on another machine can import it.
package abi

import "encoding/binary"

// Regs is struct user_regs_struct: the general registers of a stopped thread, in the kernel's order.
type Regs struct {
	R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI uint64
	OrigRAX, RIP, CS, EFlags, RSP, SS, FSBase, GSBase, DS, ES, FS, GS       uint64
}

// Args returns the six arguments of the system call that r is in, or will make.
func (r *Regs) Args() [6]uint64 { return [6]uint64{r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9} }

// SetCall puts a system call into r and marks r as not being in one, so that the kernel does not restart another.
func (r *Regs) SetCall(nr uint64, args ...uint64) {
	var a [6]uint64
	copy(a[:], args)
	r.RAX, r.OrigRAX = nr, NoCall
	r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
}

// UserCS64 is the code segment of 64-bit programs.
const UserCS64 = 0x33

// NoCall in OrigRAX says that a thread is not in a system call.
const NoCall = ^uint64(0)

// What an interrupted system call has in RAX: nothing has happened, and the code says how it starts again.
const (
	ERestartSys   = 512 // restarted unless a handler without SA_RESTART runs
	ERestartNoInt = 513 // always restarted
	ERestartNoHnd = 514 // restarted unless any handler runs
	ERestartBlock = 516 // continued by restart_syscall, EINTR after a handler
)

// IsRestart reports whether ret is one of the codes above, and not a result that a program may see.
func IsRestart(ret int64) bool { return ret <= -ERestartSys && ret >= -ERestartBlock }

// IsErr reports whether ret is a negated errno.
func IsErr(ret int64) bool { return ret < 0 && ret >= -4095 }

// SigAction is the kernel's struct sigaction.
type SigAction struct{ Handler, Flags, Restorer, Mask uint64 }

// SigActionSize is its size in bytes.
const SigActionSize = 32

// Put writes a into b.
func (a SigAction) Put(b []byte) {
	binary.LittleEndian.PutUint64(b, a.Handler)
	binary.LittleEndian.PutUint64(b[8:], a.Flags)
	binary.LittleEndian.PutUint64(b[16:], a.Restorer)
	binary.LittleEndian.PutUint64(b[24:], a.Mask)
}

// GetSigAction reads one from b.
func GetSigAction(b []byte) SigAction {
	return SigAction{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]),
		binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])}
}

// Handlers that are not functions, and flags of actions.
const (
	SigDfl      = 0
	SigIgn      = 1
	SASiginfo   = 0x4
	SARestorer  = 0x04000000
	SARestart   = 0x10000000
	SAOnStack   = 0x08000000
	SANoDefer   = 0x40000000
	SSDisable   = 2
	SSAutoDisrm = 1 << 31
)

// NSig is the number of signals; they count from 1.
const NSig = 64

// Signals that are named in the code.
const (
	SIGHUP  = 1
	SIGINT  = 2
	SIGQUIT = 3
	SIGILL  = 4
	SIGTRAP = 5
	SIGABRT = 6
	SIGBUS  = 7
	SIGFPE  = 8
	SIGKILL = 9
	SIGSEGV = 11
	SIGPIPE = 13
	SIGALRM = 14
	SIGTERM = 15
	SIGCHLD = 17
	SIGCONT = 18
	SIGSTOP = 19
	SIGTSTP = 20
	SIGTTIN = 21
	SIGTTOU = 22
	SIGURG  = 23
	SIGXCPU = 24
	SIGXFSZ = 25
	SIGWNCH = 28
	SIGSYS  = 31
)

// SigBit is the bit of sig in a signal mask.
func SigBit(sig int) uint64 { return 1 << (uint(sig) - 1) }

// DefaultIgnored reports whether the default action of sig is to do nothing.
func DefaultIgnored(sig int) bool {
	return sig == SIGCHLD || sig == SIGURG || sig == SIGWNCH || sig == SIGCONT
}

// Faults are the signals of instructions that cannot be executed, and are executed again where the thread goes on.
var Faults = [...]int{SIGILL, SIGBUS, SIGFPE, SIGSEGV}

// DefaultStops reports whether the default action of sig is to stop the process, where a program can change it.
func DefaultStops(sig int) bool { return sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU }

// DumpsCore reports whether the default action of sig is to end the process with a core dump.
func DumpsCore(sig int) bool {
	switch sig {
	case SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS:
		return true
	}
	return false
}

// Siginfo is the kernel's siginfo_t.
type Siginfo [128]byte

// Signo is the signal's number.
func (s *Siginfo) Signo() int { return int(int32(binary.LittleEndian.Uint32(s[0:]))) }

// Code says where the signal came from: SI_USER 0, SI_KERNEL 0x80, SI_QUEUE -1, SI_TKILL -6, ….
func (s *Siginfo) Code() int { return int(int32(binary.LittleEndian.Uint32(s[8:]))) }

// ReadyFD is the descriptor that became ready, of a signal that F_SETSIG asked for.
func (s *Siginfo) ReadyFD() (fd int, ok bool) {
	const pollIn, pollHup = 1, 6
	switch s.Signo() {
	case SIGCHLD, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS:
		return 0, false // their codes mean something else
	}
	return int(int32(binary.LittleEndian.Uint32(s[24:]))), s.Code() >= pollIn && s.Code() <= pollHup
}

// TimerID is, with SITimer, the number of the POSIX timer.
func (s *Siginfo) TimerID() int { return int(int32(binary.LittleEndian.Uint32(s[16:]))) }

// Overruns is, with SITimer, how often the timer has expired besides before the signal was taken.
func (s *Siginfo) Overruns() int32 { return int32(binary.LittleEndian.Uint32(s[20:])) }

// SetOverruns sets what Overruns returns.
func (s *Siginfo) SetOverruns(n int32) { binary.LittleEndian.PutUint32(s[20:], uint32(n)) }

// Codes of siginfo.
const (
	SIUser  = 0
	SIQueue = -1
	SITimer = -2
	SITkill = -6
)

// StackT is stack_t.
type StackT struct {
	SP    uint64
	Flags uint32
	Size  uint64
}

// StackTSize is its size in bytes, with padding.
const StackTSize = 24

// Put writes s into b.
func (s StackT) Put(b []byte) {
	binary.LittleEndian.PutUint64(b, s.SP)
	binary.LittleEndian.PutUint64(b[8:], uint64(s.Flags))
	binary.LittleEndian.PutUint64(b[16:], s.Size)
}

// GetStackT reads one from b.
func GetStackT(b []byte) StackT {
	return StackT{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint64(b[16:])}
}

// Memory protections, flags and advice.
const (
	ProtNone  = 0
	ProtRead  = 1
	ProtWrite = 2
	ProtExec  = 4

	MapShared         = 0x1
	MapPrivate        = 0x2
	MapFixed          = 0x10
	MapAnonymous      = 0x20
	MapGrowsDown      = 0x100
	MapNoReserve      = 0x4000
	MapStack          = 0x20000
	MapFixedNoReplace = 0x100000

	MadvNormal         = 0
	MadvRandom         = 1
	MadvSequential     = 2
	MadvDontNeed       = 4
	MadvGuardInstall   = 102
	MadvGuardRemove    = 103
	MadvDontFork       = 10
	MadvDoFork         = 11
	MadvHugePage       = 14
	MadvNoHugePage     = 15
	MadvDontDump       = 16
	MadvDoDump         = 17
	MadvWipeOnFork     = 18
	MadvKeepOnFork     = 19
	MadvDontNeedLocked = 24

	MremapMayMove   = 1
	MremapFixed     = 2
	MremapDontUnmap = 4
)

// Numbers of the system calls that mosix itself injects or decides about.
const (
	SysRead            = 0
	SysWrite           = 1
	SysClose           = 3
	SysPoll            = 7
	SysMmap            = 9
	SysMprotect        = 10
	SysMunmap          = 11
	SysBrk             = 12
	SysRtSigaction     = 13
	SysRtSigprocmask   = 14
	SysRtSigreturn     = 15
	SysPwrite64        = 18
	SysAccess          = 21
	SysMremap          = 25
	SysMadvise         = 28
	SysPause           = 34
	SysNanosleep       = 35
	SysGetitimer       = 36
	SysSetitimer       = 38
	SysGetpid          = 39
	SysClone           = 56
	SysFork            = 57
	SysVfork           = 58
	SysExecve          = 59
	SysExit            = 60
	SysWait4           = 61
	SysKill            = 62
	SysChdir           = 80
	SysSetgroups       = 116
	SysSetresuid       = 117
	SysSetresgid       = 119
	SysRtSigqueueinfo  = 129
	SysSigaltstack     = 131
	SysRtSigtimedwait  = 128
	SysTgkill          = 234
	SysPivotRoot       = 155
	SysModifyLdt       = 154
	SysPrctl           = 157
	SysRecvmmsg        = 299
	SysArchPrctl       = 158
	SysMount           = 165
	SysUmount2         = 166
	SysSethostname     = 170
	SysGettid          = 186
	SysTkill           = 200
	SysFutex           = 202
	SysSetTidAddress   = 218
	SysRestartSyscall  = 219
	SysClockGettime    = 228
	SysClockGetres     = 229
	SysClockNanosleep  = 230
	SysExitGroup       = 231
	SysSignalfd        = 282
	SysSignalfd4       = 289
	SysRtSigpending    = 127
	SysEpollWait       = 232
	SysUnshare         = 272
	SysSetRobustList   = 273
	SysGetRobustList   = 274
	SysOpenat          = 257
	SysEpollPwait      = 281
	SysRtTgsigqueue    = 297
	SysSetrlimit       = 160
	SysPrlimit         = 302
	SysMlock           = 149
	SysMunlock         = 150
	SysMlock2          = 325
	SysSeccomp         = 317
	SysMemfdCreate     = 319
	SysExecveat        = 322
	SysUserfaultfd     = 323
	SysMembarrier      = 324
	SysRseq            = 334
	SysPidfdOpen       = 434
	SysClone3          = 435
	SysCloseRange      = 436
	SysPidfdGetfd      = 438
	SysEpollPwait2     = 441
	PrSetNoNewPrivs    = 38
	PrSetName          = 15
	PrSetTimerSlack    = 29
	PrGetTimerSlack    = 30
	PrSetTHPDisable    = 41
	PrGetTHPDisable    = 42
	PrSetMM            = 35
	PrSetMMMap         = 14
	PrGetTidAddress    = 40
	PrSetDumpable      = 4
	ArchMapVDSO64      = 0x2003
	SeccompSetFilter   = 1
	SeccompTSync       = 1
	SeccompNewListener = 8
	SeccompTSyncESRCH  = 16
	SeccompWaitKill    = 32
)

// Flags of clone.
const (
	CloneVM           = 0x100
	CloneFS           = 0x200
	CloneFiles        = 0x400
	CloneSighand      = 0x800
	CloneVfork        = 0x4000
	CloneParent       = 0x8000
	CloneThread       = 0x10000
	CloneSysvsem      = 0x40000
	CloneSetTLS       = 0x80000
	CloneParentSetTID = 0x100000
	CloneChildClrTID  = 0x200000
	CloneDetached     = 0x400000
	CloneChildSetTID  = 0x1000000
	CloneIO           = 0x80000000
	CloneExitSignal   = 0xff // the part of the flags that is a signal
	CloneNewTime      = 0x80
)
