package stub

import (
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// TestCodeIsPositionIndependent disassembles the stub: every byte up to the end decodes, and no operand is reached through RIP
// except the targets of jumps within the code.
func TestCodeIsPositionIndependent(t *testing.T) {
	c := Load()
	if len(c.Bytes) > CodeSize {
		t.Fatalf("the code has %d bytes, its pages hold %d", len(c.Bytes), CodeSize)
	}
	for pc := 0; pc < len(c.Bytes); {
		in, err := x86asm.Decode(c.Bytes[pc:], 64)
		if err != nil {
			t.Fatalf("offset %#x: %v", pc, err)
		}
		for _, a := range in.Args {
			switch a := a.(type) {
			case x86asm.Mem:
				if a.Base == x86asm.RIP {
					t.Errorf("offset %#x: %v uses an address relative to RIP", pc, in)
				}
			case x86asm.Rel:
				if to := pc + in.Len + int(a); to < 0 || to >= len(c.Bytes) {
					t.Errorf("offset %#x: %v leaves the code", pc, in)
				}
			}
		}
		switch in.Op {
		case x86asm.CALL, x86asm.PUSH, x86asm.POP:
			t.Errorf("offset %#x: %v uses a stack", pc, in)
		}
		pc += in.Len
	}
	if c.Bytes[c.At.CallSys] != 0x0f || c.Bytes[c.At.CallSys+1] != 0x05 || c.At.CallEnd != c.At.CallSys+2 {
		t.Errorf("the marks around the call are off: CallSys %#x, CallEnd %#x", c.At.CallSys, c.At.CallEnd)
	}
	if c.Bytes[c.At.Single] != 0x0f || c.Bytes[c.At.Single+1] != 0x05 || c.Bytes[c.At.BatchEnd] == 0 {
		t.Errorf("the marks of the injected calls are off: %+v", c.At)
	}
}
