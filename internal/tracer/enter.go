package tracer

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"mosix/internal/abi"
	"mosix/internal/kern"
)

// A thread that was stopped in a call such as sigsuspend, which brings a mask of its own, has its own mask back by then, and would
// get what that lets in before it makes the call again: signals for which the call does not wait. So it is led into the call with
// all signals blocked; the mask that the call is to find is set once it is in.

const (
	sysRtSigsuspend = 130
	sysPselect6     = 270
	sysPpoll        = 271
)

// enters reports whether the thread, which was put back, must be led into its call.
func (t *Thread) enters() bool {
	switch t.Regs.OrigRAX {
	case sysRtSigsuspend, sysPselect6, sysPpoll, abi.SysEpollPwait, abi.SysEpollPwait2:
	default:
		return false
	}
	return abi.IsRestart(int64(t.Regs.RAX)) && int64(t.Regs.RAX) != -abi.ERestartBlock && t.pending()&^t.Mask != 0
}

// pending is the set of the signals that wait for the thread, or its process; all of them where that cannot be read.
func (t *Thread) pending() (set uint64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", t.Proc.PID, t.TID))
	if err != nil {
		return ^uint64(0)
	}
	for _, key := range []string{"\nSigPnd:\t", "\nShdPnd:\t"} {
		_, rest, _ := bytes.Cut(b, []byte(key))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		x, err := strconv.ParseUint(string(line), 16, 64)
		if err != nil {
			return ^uint64(0)
		}
		set |= x
	}
	return set
}

// enter leads the thread to the entry of the call that it is to make again, and leaves it there, held.
func (t *Thread) enter() error {
	r := t.Regs
	r.RIP, r.RAX, r.OrigRAX = r.RIP-syscallSize, r.OrigRAX, abi.NoCall
	if err := kern.SetRegs(t.TID, &r); err != nil {
		return gone(err)
	}
	if err := kern.SetSigMask(t.TID, ^uint64(0)); err != nil {
		return gone(err)
	}
	if err := kern.SetOptions(t.TID, kern.OptTraceSysGood); err != nil {
		return gone(err)
	}
	for range 100 {
		if err := kern.ToCall(t.TID, t.resume()); err != nil {
			return gone(err)
		}
		s, err := wait(t.TID, nil)
		if err != nil {
			return err
		}
		if s.Kind == SyscallStop {
			break
		}
		if s.Kind == SignalStop { // one that no mask blocks
			if err := t.keepSignal(); err != nil {
				return err
			}
		}
	}
	return gone(kern.SetSigMask(t.TID, t.Mask))
}
