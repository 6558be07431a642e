package thaw

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/mem"
)

// TestHookIsCode disassembles the hook: all of it decodes, jumps stay within or lead back behind the site, and only registers that
// a system call destroys are written.
func TestHookIsCode(t *testing.T) {
	h, err := ownHook()
	if err != nil {
		t.Skip(err)
	}
	const base = mem.Addr(0x7ffc00000000)
	code := h.code(base)
	if len(code) > hookCodeSize || h.room < hookCodeSize+3*hookEntrySize {
		t.Fatalf("%d bytes of code, room for %d", len(code), h.room)
	}
	calls := 0
	for pc := 0; pc < len(code); {
		in, err := x86asm.Decode(code[pc:], 64)
		if err != nil {
			t.Fatalf("offset %d: %v", pc, err)
		}
		switch in.Op {
		case x86asm.SYSCALL:
			calls++
		case x86asm.PUSH, x86asm.POP, x86asm.CALL, x86asm.RET:
			t.Errorf("offset %d: %v uses a stack", pc, in)
		case x86asm.MOV, x86asm.SAR, x86asm.NOT, x86asm.AND, x86asm.ADD, x86asm.SUB, x86asm.XOR:
			if r, ok := in.Args[0].(x86asm.Reg); ok {
				switch r {
				case x86asm.EAX, x86asm.RAX, x86asm.ECX, x86asm.R11:
				default:
					t.Errorf("offset %d: %v writes %v", pc, in, r)
				}
			}
		}
		if rel, ok := in.Args[0].(x86asm.Rel); ok {
			to := pc + in.Len + int(rel)
			if out := in.Len == 5; out != (to+h.pad == h.site+len(askClock)) || !out && (to < 0 || to >= len(code)) {
				t.Errorf("offset %d: %v leads to %d", pc, in, to)
			}
		}
		pc += in.Len
	}
	if calls != 3 {
		t.Errorf("%d system calls", calls)
	}
}

// TestHookTable: the process, the threads that have used something, the end; and no more than there is room for.
func TestHookTable(t *testing.T) {
	m := image.Process{PID: 10, Away: image.Usage{Run: 3_500_000_000}}
	for i := range 200 {
		m.Threads = append(m.Threads, image.Thread{TID: m.PID + 1, Away: image.Usage{Run: uint64(i % 2)}})
	}
	h := cpuHook{room: 1000}
	b := h.table(&m)
	if len(b) > h.room-hookCodeSize || !bytes.Equal(b[len(b)-hookEntrySize:], make([]byte, hookEntrySize)) {
		t.Fatalf("%d bytes: %x", len(b), b)
	}
	le := binary.LittleEndian
	if le.Uint64(b) != 10 || le.Uint64(b[8:]) != 3 || le.Uint64(b[16:]) != 500_000_000 || le.Uint64(b[24:]) != 11 || le.Uint64(b[40:]) != 1 {
		t.Errorf("%x", b[:48])
	}
}

// TestBeginAgain: who stands in the hook, or in the middle of what leads there, asks again; nobody else is moved.
func TestBeginAgain(t *testing.T) {
	h := cpuHook{site: 100, pad: 1000, room: 1000}
	for at, moved := range map[int]bool{99: false, 100: false, 101: true, 105: true, 106: true, 107: false, 999: false, 1000: true, 1191: true, 1192: false, -8: false} {
		r := abi.Regs{RIP: uint64(4096 + at), OrigRAX: 7}
		h.beginAgain(&r, 4096)
		if got := r.RIP == 4196 && r.OrigRAX == abi.NoCall; got != moved || !moved && r.RIP != uint64(4096+at) {
			t.Errorf("from %d to %d, call %d", at, r.RIP-4096, int64(r.OrigRAX))
		}
	}
	if _, err := findHook(make([]byte, 8192)); err == nil {
		t.Error("a hook in a vDSO without code")
	}
}
