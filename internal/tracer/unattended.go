package tracer

import (
	"encoding/binary"

	"mosix/internal/abi"
	"mosix/internal/mem"
	"mosix/internal/procfs"
)

// A trap at the end of an injected call kills a process whose agent has died meanwhile, and without one the process would run on from
// the middle of somebody's code. In a process that runs its own program (Unattended) calls are made from a few instructions behind the
// end of the vDSO instead, which end in a signal that nobody but a tracer gets: one whose default is to be ignored, and which the
// program neither catches nor blocks. Where there is no tracer any more, the instructions behind it give the thread its own mask
// and registers again, and jump to where it was.

var le = binary.LittleEndian

// syscallSize is the length of the instruction.
const syscallSize = 2

// endBytes is the room that these instructions have, before that of the timespecs (SpareBytes).
const endBytes = 256

// end is how an injected call ends.
type end struct {
	at   mem.Addr // where the thread stands then; 0: after one instruction
	sig  int      // with which it stops; 0: SIGTRAP
	code mem.Addr // the instructions that do so; 0: a trap does
}

// quiet finds a signal that thread t would not get, 0 where there is none.
func (t *Thread) quiet() int {
	p := t.Proc
	if !p.asked {
		p.asked = true
		if st, err := procfs.Default.Status(p.PID); err == nil {
			p.uncaught = ^uint64(st.SigCgt)
		}
	}
	for _, sig := range []int{abi.SIGURG, abi.SIGWNCH, abi.SIGCHLD} {
		if p.uncaught&^t.Mask&abi.SigBit(sig) != 0 {
			return sig
		}
	}
	return 0
}

// unattended puts the instructions into the process that end an injected call of t, and begin it: a syscall instruction is the first.
// ok is false where that cannot be: then a trap ends the call.
func (t *Thread) unattended() (e end, ok bool) {
	p := t.Proc
	if !p.Unattended {
		return e, false
	}
	sig := t.quiet()
	if sig == 0 {
		return e, false
	}
	if p.tail == 0 {
		hi, err := p.vdsoEnd(SpareBytes + endBytes)
		if err != nil {
			p.Unattended = false
			return e, false
		}
		p.tail = hi - SpareBytes - endBytes
	}
	code, stop := epilogue(&t.Regs, t.Mask, sig)
	if _, err := p.WriteMemory(p.tail, code); err != nil {
		return e, false
	}
	return end{at: p.tail + mem.Addr(stop), sig: sig, code: p.tail}, true
}

// epilogue is the machine code: a system call, whose result it keeps in R15; the signal sig, stop bytes from its begin; and then the
// way back to r and mask. It is given with the system call's registers, or entered behind its first instruction.
func epilogue(r *abi.Regs, mask uint64, sig int) (code []byte, stop int) {
	var b []byte
	put := func(x ...byte) { b = append(b, x...) }
	imm32 := func(x uint32) { b = binary.LittleEndian.AppendUint32(b, x) }
	imm64 := func(x uint64) { b = binary.LittleEndian.AppendUint64(b, x) }
	syscall := func() { put(0x0f, 0x05) }
	var holes [3]int // displacements from the next instruction to the data at the end: flags, mask, where to go
	hole := func(i int) { holes[i] = len(b); imm32(0) }

	syscall()
	put(0x49, 0x89, 0xc7) // mov r15, rax
	put(0xb8)             // mov eax, gettid
	imm32(abi.SysGettid)
	syscall()
	put(0x89, 0xc7) // mov edi, eax
	put(0xbe)       // mov esi, sig
	imm32(uint32(sig))
	put(0xb8) // mov eax, tkill
	imm32(abi.SysTkill)
	syscall()
	stop = len(b)

	put(0x48, 0x8d, 0x25) // lea rsp, [flags]: every other signal is still blocked
	hole(0)
	put(0x9d)       // popfq
	put(0x48, 0xbc) // mov rsp, …
	imm64(r.RSP)
	put(0xb8) // rt_sigprocmask(SIG_SETMASK, mask, 0, 8), with moves alone, which leave the flags as they are
	imm32(abi.SysRtSigprocmask)
	put(0xbf)
	imm32(2)
	put(0x48, 0x8d, 0x35) // lea rsi, [mask]
	hole(1)
	put(0xba)
	imm32(0)
	put(0x41, 0xba)
	imm32(8)
	syscall()
	rip, rax := r.RIP, r.RAX
	if r.OrigRAX != abi.NoCall && abi.IsRestart(int64(rax)) {
		rip -= 2 // the call that the thread was in is made again
		if rax = r.OrigRAX; int64(r.RAX) == -abi.ERestartBlock {
			rax = abi.SysRestartSyscall
		}
	}
	for _, m := range []struct {
		rex, op byte
		x       uint64
	}{
		{0x48, 0xb8, rax}, {0x48, 0xb9, r.RCX}, {0x48, 0xba, r.RDX}, {0x48, 0xbe, r.RSI}, {0x48, 0xbf, r.RDI},
		{0x49, 0xb8, r.R8}, {0x49, 0xb9, r.R9}, {0x49, 0xba, r.R10}, {0x49, 0xbb, r.R11},
		{0x49, 0xbd, r.R13}, {0x49, 0xbe, r.R14}, {0x49, 0xbf, r.R15},
	} {
		put(m.rex, m.op)
		imm64(m.x)
	}
	put(0xff, 0x25) // jmp [where]
	hole(2)
	for i, x := range []uint64{r.EFlags, mask, rip} {
		binary.LittleEndian.PutUint32(b[holes[i]:], uint32(len(b)-holes[i]-4))
		imm64(x)
	}
	return b, stop
}
