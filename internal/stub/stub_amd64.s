#include "go_asm.h"
#include "textflag.h"

// MARK(n) is an eight-byte no-op that carries n: labels are found by it in the copied code.
#define MARK(n) BYTE $0x0F; BYTE $0x1F; BYTE $0x84; BYTE $0x00; LONG $(0x4D530000+n)

#define SYS_pwrite64 18
#define SYS_wait4 61
#define SYS_kill 62
#define SYS_futex 202
#define SYS_clock_gettime 228
#define SYS_exit_group 231
#define SYS_rt_sigprocmask 14
#define SYS_rt_sigreturn 15
#define SYS_rt_sigtimedwait 128
#define SYS_pause 34
#define SIGTRAP 5
#define SIGKILL 9
#define SI_KERNEL 0x80
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define SIG_SETMASK 2

// REALTIME makes of a monotonic time in AX home's realtime, with the header's region at R9, by ClockLine.At. It uses CX, DX, DI
// and R11. The line is looked for again where the agent has counted meanwhile.
#define REALTIME(again, late, near) \
again: \
	MOVL (const_HeaderOff+Header_ClockCount)(R9), R11 \
	MOVL R11, DI \
	ANDL $1, DI \
	SHLL $6, DI \
	LEAQ (const_HeaderOff+Header_Clock)(R9)(DI*1), DI \
	MOVQ AX, CX \
	SUBQ ClockLine_Base(DI), CX \
	MOVQ ClockLine_Rate(DI), DX \
	JGE late \
	MOVQ ClockLine_Before(DI), DX \
	CMPQ CX, $-0x80000000 \
	JGE near \
	XORL CX, CX \
late: \
	CMPQ CX, ClockLine_Span(DI) \
	JLE near \
	MOVQ ClockLine_Span(DI), CX \
near: \
	IMULQ CX, DX \
	SARQ $const_ClockBits, DX \
	ADDQ ClockLine_Offset(DI), DX \
	CMPL R11, (const_HeaderOff+Header_ClockCount)(R9) \
	JNE again \
	ADDQ DX, AX

// func blobAddr() unsafe.Pointer
TEXT ·blobAddr(SB), NOSPLIT, $0-8
	LEAQ ·blob(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// The blob. Registers that it owns: R15 the table, the slot or the keeper's page; R14 the header or a counter.
TEXT ·blob(SB), NOSPLIT|NOFRAME, $0
	MARK(1) // ELF entry of the keeper: wait until the agent has made the rest.
start:
	MOVL $SYS_pause, AX
	SYSCALL
	JMP start

	MARK(2) // one call, everything in registers
	SYSCALL
	BYTE $0xCC
orphan: // the agent died during an injected call, and the trap came to the recorder: wait for the next agent, deaf to signals
	MOVL $SYS_pause, AX
	SYSCALL
	JMP  orphan

	MARK(3) // a batch: R15 = first Call, R14 = how many, R13 = where to go then, 0: a trap
batch:
	TESTQ R14, R14
	JEQ   batchend
	MOVQ  Call_Nr(R15), AX
	MOVQ  (Call_Args+0)(R15), DI
	MOVQ  (Call_Args+8)(R15), SI
	MOVQ  (Call_Args+16)(R15), DX
	MOVQ  (Call_Args+24)(R15), R10
	MOVQ  (Call_Args+32)(R15), R8
	MOVQ  (Call_Args+40)(R15), R9
	SYSCALL
	MOVQ  AX, Call_Ret(R15)
	ADDQ  $const_CallSize, R15
	DECQ  R14
	JMP   batch
batchend:
	TESTQ R13, R13
	JEQ   trap
	JMP   R13
trap:
	BYTE $0xCC
	MARK(4)
	JMP orphan

	MARK(5) // the shadow's loop: R15 = slot, RSP = top of the slot's stack
loop:
	MOVL $SYS_rt_sigprocmask, AX
	MOVL $SIG_SETMASK, DI
	LEAQ Slot_Idle(R15), SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
wait:
	MOVL Slot_Req(R15), AX
	CMPL AX, Slot_Done(R15)
	JNE  taken
	MOVL AX, DX
	MOVL $SYS_futex, AX
	LEAQ Slot_Req(R15), DI
	MOVL $FUTEX_WAIT, SI
	XORL R10, R10
	SYSCALL
	JMP  wait

	MARK(6) // from here to the call itself a signal means: nothing has happened yet
taken:
	MOVL $const_SlotRunning, Slot_State(R15)
	TESTL $const_SlotMask, Slot_Flags(R15)
	JEQ  load
	MOVL $SYS_rt_sigprocmask, AX
	MOVL $SIG_SETMASK, DI
	LEAQ Slot_Mask(R15), SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
load:
	MOVQ (Slot_Args+0)(R15), DI
	MOVQ (Slot_Args+8)(R15), SI
	MOVQ (Slot_Args+16)(R15), DX
	MOVQ (Slot_Args+24)(R15), R10
	MOVQ (Slot_Args+32)(R15), R8
	MOVQ (Slot_Args+40)(R15), R9
	XORL CX, CX // the kernel puts the return address there: tells a restart from a call that has not begun
	MOVQ Slot_Nr(R15), AX
	TESTL $const_SlotClone, Slot_Flags(R15)
	JNE  clone
	MARK(7)
	SYSCALL
	MARK(8)
	MOVQ AX, Slot_Ret(R15)
made:
	TESTL $const_SlotMask, Slot_Flags(R15)
	JEQ  publish
	MOVL $SYS_rt_sigprocmask, AX
	MOVL $SIG_SETMASK, DI
	LEAQ Slot_Idle(R15), SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
publish:
	MOVL $const_SlotDone, Slot_State(R15)
	MOVL Slot_Req(R15), AX
	XCHGL AX, Slot_Done(R15)
	MOVQ Slot_Header(R15), DI
	LOCK
	INCL Header_Doorbell(DI)
	ADDQ $Header_Doorbell, DI
	MOVL $SYS_futex, AX
	MOVL $FUTEX_WAKE, SI
	MOVL $1, DX
	SYSCALL
	JMP  wait

	MARK(16) // a call that makes somebody, with all signals blocked: the new one would be taken for its maker. It has a stack of its own
clone:
	MOVQ Slot_Child(R15), R12
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	MOVQ AX, Slot_Ret(R15)
	MARK(17)
	JMP  made
child:
	MOVQ R12, R15
	JMP  loop

	MARK(9) // the recorder: handler of every signal that the guest shall get. DI = signal, SI = siginfo, DX = ucontext
	CMPL DI, $SIGTRAP
	JNE  slot
	CMPL 8(SI), $SI_KERNEL
	JEQ  orphan                 // the end of an injected call without an agent: R15 is no slot
slot:
	MOVQ 96(DX), R15            // the interrupted code is always the stub's: its R15 is the slot
	MOVQ Slot_Header(R15), R14
	MOVQ 168(DX), AX            // where it was
	CMPQ AX, Header_Taken(R14)
	JCS  record
	CMPQ AX, Header_CallSys(R14)
	JHI  after
	MOVQ $-513, CX              // not begun: always again
	CMPQ AX, Header_CallSys(R14)
	JNE  cut
	MOVQ 152(DX), BX
	TESTQ BX, BX
	JEQ  cut
	MOVQ $-512, CX              // begun, and the kernel would restart it
cut:
	MOVQ CX, 144(DX)
	MOVQ Header_CallEnd(R14), AX
	MOVQ AX, 168(DX)
	MOVL $const_CutBefore, Slot_Cut(R15)
	JMP  record
after:
	CMPQ AX, Header_CallEnd(R14)
	JNE  record
	CMPQ 144(DX), $-4
	JNE  record
	MOVL $const_CutAfter, Slot_Cut(R15)
record:
	MOVQ SI, R13
	MOVL $1, R12
	LOCK
	XADDL R12, Header_RingHead(R14) // R12 = ticket
full:
	MOVL Header_RingTail(R14), DX
	MOVL R12, BX
	SUBL DX, BX
	CMPL BX, $const_RingEntries
	JCS  room
	MOVL $SYS_futex, AX         // full: wait until the agent has taken one
	LEAQ Header_RingTail(R14), DI
	MOVL $FUTEX_WAIT, SI
	XORL R10, R10
	SYSCALL
	JMP  full
room:
	MOVL R12, BX
	ANDL $(const_RingEntries-1), BX
	IMULQ $const_EntrySize, BX
	LEAQ (const_RingOff-const_HeaderOff)(R14), DI
	ADDQ BX, DI
	MOVQ DI, BX
	MOVL Slot_TID(R15), AX
	MOVL AX, Entry_TID(BX)
	ADDQ $Entry_Info, DI
	MOVQ R13, SI
	MOVL $16, CX
	CLD
	REP; MOVSQ
	INCL R12
	XCHGL R12, Entry_Seq(BX)
	LOCK
	INCL Header_Doorbell(R14)
	LEAQ Header_Doorbell(R14), DI
	MOVL $SYS_futex, AX
	MOVL $FUTEX_WAKE, SI
	MOVL $1, DX
	SYSCALL
	RET

	MARK(10) // restorer
	MOVL $SYS_rt_sigreturn, AX
	SYSCALL
	BYTE $0xCC

	MARK(11) // the keeper: R15 = Keeper
keeper:
	MOVL $SYS_clock_gettime, AX
	MOVL $7, DI // CLOCK_BOOTTIME
	LEAQ Keeper_Now(R15), SI
	SYSCALL
	MOVQ (Keeper_Now+0)(R15), R14
	MOVQ $1000000000, CX
	IMULQ CX, R14
	ADDQ (Keeper_Now+8)(R15), R14
	CMPQ R14, Keeper_Deadline(R15)
	JCC  expired
	XORL BX, BX
lease: // of each member
	CMPL BX, Keeper_Count(R15)
	JCC  reap
	MOVL BX, R13
	SHLQ $const_MemberShift, R13
	LEAQ (const_MembersOff-const_KeeperOff)(R15)(R13*1), R13
	INCL BX
	CMPL Member_Ended(R13), $0
	JNE  lease
	MOVL Member_PID(R13), DI
	TESTL DI, DI
	JEQ  lease
	CMPQ R14, Member_Deadline(R13)
	JCS  lease
	MOVL $SYS_kill, AX
	MOVL $SIGKILL, SI
	SYSCALL
	JMP  lease
reap:
	MOVL $SYS_wait4, AX
	MOVQ $-1, DI
	LEAQ Keeper_Status(R15), SI
	MOVL $0x40000001, DX // WNOHANG | __WALL
	XORL R10, R10
	SYSCALL
	TESTQ AX, AX
	JLE  asked
	XORL BX, BX
which:
	CMPL BX, Keeper_Count(R15)
	JCC  reap
	MOVL BX, R13
	SHLQ $const_MemberShift, R13
	LEAQ (const_MembersOff-const_KeeperOff)(R15)(R13*1), R13
	INCL BX
	CMPL Member_Ended(R13), $0
	JNE  which
	CMPL AX, Member_PID(R13)
	JNE  which
	MOVL Keeper_Status(R15), AX
	MOVL AX, Member_Status(R13)
	MOVL $1, AX
	XCHGL AX, Member_Ended(R13)
	LOCK
	INCL Keeper_Doorbell(R15)
	MOVL $SYS_futex, AX
	LEAQ Keeper_Doorbell(R15), DI
	MOVL $FUTEX_WAKE, SI
	MOVL $0x7fffffff, DX
	SYSCALL
	JMP  reap
asked:
	MOVL Keeper_Ask(R15), R12
	CMPL R12, Keeper_Answer(R15)
	JEQ  sleep
	MOVL $SYS_pwrite64, AX
	MOVL Keeper_LastPID(R15), DI
	LEAQ Keeper_Text(R15), SI
	MOVL Keeper_TextLen(R15), DX
	XORL R10, R10
	SYSCALL
	MOVQ AX, Keeper_Asked(R15)
	XCHGL R12, Keeper_Answer(R15)
	LOCK
	INCL Keeper_Doorbell(R15)
	MOVL $SYS_futex, AX
	LEAQ Keeper_Doorbell(R15), DI
	MOVL $FUTEX_WAKE, SI
	MOVL $0x7fffffff, DX
	SYSCALL
	JMP  keeper
sleep:
	MOVL $SYS_rt_sigtimedwait, AX
	LEAQ Keeper_Set(R15), DI
	XORL SI, SI
	LEAQ Keeper_Timeout(R15), DX
	MOVL $8, R10
	SYSCALL
	JMP  keeper
expired:
	MOVL $SYS_exit_group, AX
	MOVL $99, DI
	SYSCALL
	BYTE $0xCC

	// The guest's clocks, entered from its vDSO with RAX = the entry's own address. The region begins at a multiple of 1 MiB, so
	// that this is enough to find the header. Realtime is the guest's monotonic clock, which is home's, plus home's difference.
	// The arguments stay in R8 and R10 from the second instruction on, and no stack is used: whoever is stopped in here, or has a
	// signal frame that returns here, can be put back to the entry of the vDSO's function (thaw.Rewind).
	MARK(12) // clock_gettime: DI = clock, SI = timespec
	MOVQ DI, R8
	MOVQ SI, R10
	CMPL DI, $0  // CLOCK_REALTIME
	JEQ  real
	CMPL DI, $5  // CLOCK_REALTIME_COARSE
	JEQ  real
	MOVL $SYS_clock_gettime, AX
	SYSCALL
	RET
real:
	MOVQ AX, R9
	ANDQ $~0xFFFFF, R9
	MOVL $1, DI  // CLOCK_MONOTONIC
	MOVL $SYS_clock_gettime, AX
	SYSCALL
	TESTQ AX, AX
	JNE  realend
	MOVQ 0(SI), AX
	MOVQ $1000000000, CX
	IMULQ CX, AX
	ADDQ 8(SI), AX
	REALTIME(clockagain, clocklate, clocknear)
	MOVQ $1000000000, CX
	XORL DX, DX
	DIVQ CX
	MOVQ AX, 0(SI)
	MOVQ DX, 8(SI)
	XORL AX, AX
realend:
	RET

	MARK(14) // gettimeofday: DI = timeval or 0, SI = timezone or 0
	MOVQ DI, R8
	MOVQ SI, R10
	MOVQ AX, R9
	ANDQ $~0xFFFFF, R9
	TESTQ SI, SI
	JEQ  nozone
	MOVQ $0, 0(SI)
nozone:
	TESTQ DI, DI
	JEQ  dayend
	MOVQ DI, SI
	MOVL $1, DI
	MOVL $SYS_clock_gettime, AX
	SYSCALL
	TESTQ AX, AX
	JNE  dayret
	MOVQ 0(SI), AX
	MOVQ $1000000000, CX
	IMULQ CX, AX
	ADDQ 8(SI), AX
	REALTIME(dayagain, daylate, daynear)
	MOVQ $1000000000, CX
	XORL DX, DX
	DIVQ CX
	MOVQ AX, 0(SI)
	MOVQ DX, AX
	XORL DX, DX
	MOVL $1000, CX
	DIVQ CX
	MOVQ AX, 8(SI)
dayend:
	XORL AX, AX
dayret:
	RET

	MARK(15) // time: DI = where to store it, or 0
	MOVQ DI, R8
	MOVQ SI, R10
	MOVQ AX, R9
	ANDQ $~0xFFFFF, R9
	LEAQ -24(SP), SI // in the red zone of the program's stack
	MOVL $1, DI
	MOVL $SYS_clock_gettime, AX
	SYSCALL
	TESTQ AX, AX
	JNE  timeret
	MOVQ 0(SI), AX
	MOVQ $1000000000, CX
	IMULQ CX, AX
	ADDQ 8(SI), AX
	REALTIME(timeagain, timelate, timenear)
	MOVQ $1000000000, CX
	XORL DX, DX
	DIVQ CX
	TESTQ R8, R8
	JEQ  timeret
	MOVQ AX, 0(R8)
timeret:
	RET

	// The handler of a fault that would leave a core file. Such a call brings the guest home, and there the thread stands where it was
	// before the fault (thaw.Refault).
	MARK(18)
fault:
	MOVL $const_FaultCall, AX
	SYSCALL
	JMP  fault

	MARK(13)
	RET
