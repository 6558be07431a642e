package tracer

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/arch/x86/x86asm"

	"mosix/internal/abi"
	"mosix/internal/stub"
)

// counts is a program that counts, in many system calls and many instructions between them, and catches none of the signals that
// may end an injected call.
const counts = `echo ready; i=0; while [ $i -lt 400000 ]; do i=$((i+1)); [ $((i % 1000)) -eq 0 ] && [ -e /nonexistent ]; done; echo done $i`

// dieInjecting is the agent that is killed while a call of its own is made in the process: it waits for that.
func dieInjecting(how string) error {
	pid, err := strconv.Atoi(os.Getenv("TRACER_PID"))
	if err != nil {
		return err
	}
	return Run(func() error {
		p, err := Open(pid, stub.Load())
		if err != nil {
			return err
		}
		p.Unattended = true
		l, err := p.Seize(pid)
		if err != nil {
			return err
		}
		if err := p.Plant(l, stub.Base, 1); err != nil {
			return err
		}
		g := p.Region
		le.PutUint64(g.Scratch(), 0) // 300 ms
		le.PutUint64(g.Scratch()[8:], 3e8)
		at := uint64(g.Addr(stub.ScratchOff))
		fmt.Println("injecting")
		const nanosleep = 35
		switch how {
		case "call":
			_, err = l.Call(nanosleep, at, 0)
		case "batch":
			_, err = l.Batch([]stub.Call{NewCall(abi.SysGettid), NewCall(nanosleep, at, 0), NewCall(abi.SysGettid)})
		default: // the last ones
			err = p.Uproot(l, NewCall(nanosleep, at, 0))
		}
		return fmt.Errorf("it outlived its call: %v", err)
	})
}

// TestAgentDiesInjecting: a process whose agent is killed in the middle of an injected call runs on as if nothing had been.
func TestAgentDiesInjecting(t *testing.T) {
	for _, how := range []string{"call", "batch", "uproot"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			for range 3 {
				cmd := exec.Command("/bin/sh", "-c", counts)
				pipe, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
				out := bufio.NewReader(pipe)
				if s, err := out.ReadString('\n'); s != "ready\n" {
					t.Fatalf("the program said %q, %v", s, err)
				}
				agent := exec.Command("/proc/self/exe")
				agent.Env = append(os.Environ(), "TRACER_AGENT="+how, fmt.Sprintf("TRACER_PID=%d", cmd.Process.Pid))
				said, err := agent.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := agent.Start(); err != nil {
					t.Fatal(err)
				}
				if s, err := bufio.NewReader(said).ReadString('\n'); s != "injecting\n" {
					_ = agent.Process.Kill()
					t.Fatalf("the agent said %q, %v", s, err)
				}
				time.Sleep(50 * time.Millisecond)
				_ = agent.Process.Kill()
				_ = agent.Wait()
				if s, err := out.ReadString('\n'); s != "done 400000\n" {
					t.Fatalf("the program said %q, %v; %v", s, err, cmd.Wait())
				}
				if err := cmd.Wait(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestEpilogue disassembles the instructions that end an injected call: all decode, none changes a flag behind the one that restores
// them, and each register that a call may change gets its own value.
func TestEpilogue(t *testing.T) {
	r := abi.Regs{RAX: 1, RCX: 2, RDX: 3, RSI: 4, RDI: 5, R8: 6, R9: 7, R10: 8, R11: 9, R13: 10, R14: 11, R15: 12, RSP: 13, RIP: 0x1000,
		EFlags: 0x246, OrigRAX: abi.NoCall}
	code, stop := epilogue(&r, 0x55, abi.SIGURG)
	if len(code) > endBytes {
		t.Fatalf("%d bytes, there is room for %d", len(code), endBytes)
	}
	got, restored := map[x86asm.Reg]uint64{}, false
	for pc := 0; pc < len(code)-24; {
		in, err := x86asm.Decode(code[pc:], 64)
		if err != nil {
			t.Fatalf("offset %d: %v", pc, err)
		}
		pc += in.Len
		if pc == stop && in.Op != x86asm.SYSCALL {
			t.Errorf("%v before the stop", in)
		}
		switch in.Op {
		case x86asm.POPFQ:
			restored = true
		case x86asm.MOV:
			if imm, ok := in.Args[1].(x86asm.Imm); ok {
				got[in.Args[0].(x86asm.Reg)] = uint64(imm)
			}
		case x86asm.SYSCALL, x86asm.LEA:
		case x86asm.JMP:
			m := in.Args[0].(x86asm.Mem)
			if to := le.Uint64(code[pc+int(m.Disp):]); m.Base != x86asm.RIP || to != r.RIP {
				t.Errorf("it goes to %#x", to)
			}
		default:
			t.Errorf("offset %d: %v is not expected", pc, in)
		}
	}
	if !restored {
		t.Error("the flags are not restored")
	}
	for reg, want := range map[x86asm.Reg]uint64{x86asm.RAX: 1, x86asm.RCX: 2, x86asm.RDX: 3, x86asm.RSI: 4, x86asm.RDI: 5, x86asm.R8: 6,
		x86asm.R9: 7, x86asm.R10: 8, x86asm.R11: 9, x86asm.R13: 10, x86asm.R14: 11, x86asm.R15: 12, x86asm.RSP: 13} {
		if got[reg] != want {
			t.Errorf("%v is %#x at the end, want %#x", reg, got[reg], want)
		}
	}
	restart := r
	neg := int64(-abi.ERestartBlock)
	restart.OrigRAX, restart.RAX = 7, uint64(neg)
	code, _ = epilogue(&restart, 0, abi.SIGURG)
	if to := le.Uint64(code[len(code)-8:]); to != r.RIP-2 {
		t.Errorf("a call that is to go on is continued at %#x", to)
	}
}
