package tracer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/stub"
)

// firstRealTime is the first signal that is queued however often it is sent, in the order in which it was.
const firstRealTime = 32

// Requeue puts signals back into the held thread's own queue and, through the leader, into that of its process: before the real-time
// signals of the same numbers that have come since. These are taken out and queued again behind them, in one go; where more have
// come in the middle of that, once more. The process has a region.
func (t *Thread) Requeue(own, shared []abi.Siginfo) error {
	var order uint64 // the numbers whose order counts
	for _, si := range slices.Concat(own, shared) {
		if s := si.Signo(); s >= firstRealTime && s <= abi.NSig {
			order |= abi.SigBit(s)
		}
	}
	const most = 3000 // that a batch has room for
	if order == 0 || len(own)+len(shared) > most {
		return t.queueBoth(own, shared)
	}
	for try := 0; ; try++ {
		lateOwn, err := queued(t.TID, false, order)
		if err != nil {
			return gone(err)
		}
		var lateShared []abi.Siginfo
		if t.TID == t.Proc.PID {
			if lateShared, err = queued(t.Proc.PID, true, order); err != nil {
				return gone(err)
			}
		}
		take := slices.Concat(lateOwn, lateShared)
		if try > 0 {
			var now [2]bool
			now[0], lateOwn = inOrder(own, lateOwn)
			now[1], lateShared = inOrder(shared, lateShared)
			if now[0] && now[1] {
				return nil
			}
		}
		own, shared = slices.Concat(own, lateOwn), slices.Concat(shared, lateShared)
		if len(own)+len(shared)+len(take) > most || try == 100 {
			return nil // they come faster than they can be put in order, and none is lost
		}
		if err := t.queueBoth(own, shared, take...); err != nil {
			return err
		}
		other := func(si abi.Siginfo) bool {
			s := si.Signo()
			return s < 1 || s > abi.NSig || order&abi.SigBit(s) == 0
		}
		own, shared = slices.DeleteFunc(own, other), slices.DeleteFunc(shared, other)
	}
}

// queued are the signals of set that pend for a thread or, shared, for the whole process.
func queued(pid int, shared bool, set uint64) ([]abi.Siginfo, error) {
	infos, err := kern.PeekSiginfo(pid, shared)
	return slices.DeleteFunc(infos, func(si abi.Siginfo) bool {
		return si.Signo() < 1 || si.Signo() > abi.NSig || set&abi.SigBit(si.Signo()) == 0
	}), err
}

// inOrder reports whether of each number those of want that are in have are the first there, in their order, and which of have are not
// in want.
func inOrder(want, have []abi.Siginfo) (ok bool, others []abi.Siginfo) {
	ok = true
	rest := slices.Clone(want)
	strange := map[int]bool{} // numbers of which one not wanted has been seen
	for _, si := range have {
		s := si.Signo()
		i := slices.IndexFunc(rest, func(x abi.Siginfo) bool { return x.Signo() == s })
		switch {
		case i >= 0 && bytes.Equal(rest[i][:], si[:]):
			ok = ok && !strange[s]
			rest = slices.Delete(rest, i, i+1)
		default:
			j := slices.IndexFunc(rest, func(x abi.Siginfo) bool { return bytes.Equal(x[:], si[:]) })
			if j >= 0 {
				ok = false
				rest = slices.Delete(rest, j, j+1)
				continue
			}
			strange[s] = true
			others = append(others, si)
		}
	}
	return ok, others
}

// queueBoth takes as many signals out of the kernel's queues as take has, by their numbers, and queues own and shared, in one batch.
func (t *Thread) queueBoth(own, shared []abi.Siginfo, take ...abi.Siginfo) error {
	if len(take) == 0 {
		if err := t.QueueSignals(own, false); err != nil {
			return err
		}
		return t.QueueSignals(shared, true)
	}
	tgid, tid, err := t.ownIDs()
	if err != nil {
		return err
	}
	g := t.Proc.Region
	const size, setsOff = len(abi.Siginfo{}), stub.ScratchSize - 8*(abi.NSig+4)
	at := func(off int) uint64 { return uint64(g.Addr(stub.ScratchOff + off)) }
	clear(g.Scratch()[setsOff : setsOff+16]) // no time at all
	var calls []stub.Call
	for _, si := range take {
		off := setsOff + 16 + 8*si.Signo()
		binary.LittleEndian.PutUint64(g.Scratch()[off:], abi.SigBit(si.Signo()))
		calls = append(calls, NewCall(abi.SysRtSigtimedwait, at(off), 0, at(setsOff), 8))
	}
	first := len(calls)
	for i, si := range slices.Concat(own, shared) {
		copy(g.Scratch()[i*size:], si[:])
		if i < len(own) {
			calls = append(calls, NewCall(abi.SysRtTgsigqueue, tgid, tid, uint64(si.Signo()), at(i*size)))
		} else {
			calls = append(calls, NewCall(abi.SysRtSigqueueinfo, tgid, uint64(si.Signo()), at(i*size)))
		}
	}
	out, err := t.Batch(calls)
	if err != nil {
		return err
	}
	for _, ret := range out[first:] {
		if abi.IsErr(ret) {
			return fmt.Errorf("queue signals again in process %d: %w", t.Proc.PID, kern.Errno(-ret))
		}
	}
	return nil
}
