package tracer

import (
	"errors"

	"mosix/internal/abi"
	"mosix/internal/mem"
)

// Leave lets the held thread go on, one instruction at a time and at most most of them, until it is out of r. A thread that
// waits in a call stays where it is, and so does one whose next instruction faults: it will fault again where it goes on.
func (t *Thread) Leave(r mem.Range, most int) error {
	if t.Regs.OrigRAX != abi.NoCall || !r.Contains(mem.Addr(t.Regs.RIP)) {
		return nil
	}
	for ; most > 0 && r.Contains(mem.Addr(t.Regs.RIP)); most-- {
		next, err := t.runTo(t.Regs, end{})
		if errors.Is(err, ErrSpoiled) {
			break
		}
		if err != nil {
			return err
		}
		next.OrigRAX = abi.NoCall // a call that was stepped over has been made
		t.Regs = next
	}
	return t.settle()
}
