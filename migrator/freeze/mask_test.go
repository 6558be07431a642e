package freeze

import (
	"testing"

	"mosix/internal/abi"
)

// TestIdleMask: what a shadow's thread blocks between calls.
func TestIdleMask(t *testing.T) {
	const usr1, chld, tstp = 10, 17, 20
	var actions [abi.NSig + 1]abi.SigAction
	actions[usr1].Handler = 0x1000
	for _, x := range []struct {
		name      string
		mask, fds uint64
		blocks    uint64
		lets      uint64
	}{
		{"what the recorder takes is let in, blocked or not", abi.SigBit(usr1), 0, abi.SigBit(chld), abi.SigBit(usr1)},
		{"… unless it is to be read from a descriptor", abi.SigBit(usr1), abi.SigBit(usr1), abi.SigBit(usr1), 0},
		{"what would stop the process is as the program has it", abi.SigBit(tstp), 0, abi.SigBit(tstp), abi.SigBit(usr1)},
		{"a thread that has ended takes nothing", Ended, 0, ^uint64(0), 0},
	} {
		if got := IdleMask(&actions, x.mask, x.fds); got&x.blocks != x.blocks || got&x.lets != 0 {
			t.Errorf("%s: %#x", x.name, got)
		}
	}
}
