package guest

import (
	"encoding/binary"
	"testing"

	"mosix/internal/abi"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// TestUnsuspend: a thread that is to leave while it makes rt_sigsuspend in place of its own call takes its own call along, for the mask
// lies in a page that only this host has; a call of the program's own stays what it is.
func TestUnsuspend(t *testing.T) {
	g := &Guest{Region: &region.Region{B: make([]byte, stub.TableOff), Base: 0x7000_0000_0000}}
	const at = stub.SuspendedOff + 3*stub.SuspendedSize
	for i, x := range []uint64{0xff, sysPpoll, 0x1111, 0x2222} {
		binary.LittleEndian.PutUint64(g.Region.B[at+8*i:], x)
	}
	ours := uint64(g.Region.Addr(at))
	restart := ^uint64(abi.ERestartNoHnd - 1)
	for _, c := range []struct {
		name      string
		was, want abi.Regs
	}{
		{"begun", abi.Regs{OrigRAX: sysRtSigsuspend, RAX: restart, RDI: ours, RSI: 8},
			abi.Regs{OrigRAX: sysPpoll, RAX: restart, RDI: 0x1111, RSI: 0x2222}},
		{"about to", abi.Regs{OrigRAX: abi.NoCall, RAX: sysRtSigsuspend, RDI: ours, RSI: 8},
			abi.Regs{OrigRAX: abi.NoCall, RAX: sysPpoll, RDI: 0x1111, RSI: 0x2222}},
		{"its own", abi.Regs{OrigRAX: sysRtSigsuspend, RAX: restart, RDI: 0x5555, RSI: 8},
			abi.Regs{OrigRAX: sysRtSigsuspend, RAX: restart, RDI: 0x5555, RSI: 8}},
		{"another call", abi.Regs{OrigRAX: 1, RDI: ours, RSI: 8}, abi.Regs{OrigRAX: 1, RDI: ours, RSI: 8}},
		{"behind the table", abi.Regs{OrigRAX: sysRtSigsuspend, RDI: uint64(g.Region.Addr(stub.TableOff)), RSI: 8},
			abi.Regs{OrigRAX: sysRtSigsuspend, RDI: uint64(g.Region.Addr(stub.TableOff)), RSI: 8}},
	} {
		th := &tracer.Thread{TID: 3, Regs: c.was}
		if g.unsuspend(th); th.Regs != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, th.Regs, c.want)
		}
	}
}
