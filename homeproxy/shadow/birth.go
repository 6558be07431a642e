package shadow

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/stub"
	"mosix/migrator/freeze"
)

// Born is told which process a shadow has made: it waits in slot slot of its parent's region. It returns what the host must know
// of it, or an error, after which the process is no more.
type Born func(pid int, slot int) (homeproxy.Blob, error)

// Bear makes a thread or a process, as call seq of thread tid asks, once. The new thread serves as a thread of this shadow; of a
// new process OnBorn makes a shadow of its own. The result is that of clone.
func (s *Shadow) Bear(tid id.HomePID, seq id.Seq, req homeproxy.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.slots[tid]
	if sl == nil {
		return fmt.Errorf("thread %d of %v is not in its shadow", tid, s.Process)
	}
	if sl.job != nil && sl.job.seq == seq {
		return nil
	}
	for _, q := range sl.queue {
		if q.seq == seq {
			return nil
		}
	}
	b, ok := homeproxy.ParseBirth(req)
	if !ok {
		return fmt.Errorf("thread %d of %v asks for a birth that no honest host asks for: flags %#x", tid, s.Process, req.Args[0])
	}
	j := &job{seq: seq, nr: abi.SysClone, started: time.Now(), birth: &b}
	j.then = func(ret int64) { s.bore(sl, j, ret) }
	if sl.Epoch == uint64(s.Epoch) && sl.Seq == uint64(seq) {
		if atomic.LoadUint32(&sl.Done) == atomic.LoadUint32(&sl.Req) {
			s.bore(sl, j, sl.Ret)
		} else {
			sl.job = j
			s.ring()
		}
		return nil
	}
	if sl.Epoch == uint64(s.Epoch) && sl.Seq > uint64(seq) {
		return nil
	}
	s.push(sl, j)
	return nil
}

// bear hands a birth to the stub. No signal must reach the new one before it stands in its own slot: all are blocked until then.
func (s *Shadow) bear(sl *slot, j *job) {
	i := s.freeSlot()
	if i < 0 {
		sl.job = nil
		s.answer(sl, j, homeproxy.Unserved)
		return
	}
	if j.birth.SharesDescriptors() {
		s.alone = isShared
	}
	n := s.Region.Slot(i)
	*n = stub.Slot{Header: uint64(s.Region.Addr(stub.HeaderOff)), Mask: j.birth.Mask, Idle: freeze.IdleMask(&s.actions, j.birth.Mask, s.fds)}
	at := uint64(s.Region.SlotAddr(i))
	j.slot = i
	atomic.StoreUint32(&sl.IsSaved, 0)
	sl.Epoch, sl.Seq = uint64(s.Epoch), uint64(j.seq)
	sl.Nr, sl.Cut, sl.Child = abi.SysClone, 0, at
	sl.Args = [6]uint64{j.birth.Flags | abi.CloneParentSetTID, at + stub.SlotStackTop - 64, uint64(s.Region.SlotTID(i))}
	sl.Flags, sl.Mask = stub.SlotMask|stub.SlotClone, ^uint64(0)
	s.send(sl)
}

// bore ends a birth.
func (s *Shadow) bore(sl *slot, j *job, ret int64) {
	if ret <= 0 {
		s.answer(sl, j, ret)
		return
	}
	at := j.slot
	if at == 0 { // an earlier agent has begun it
		for i := 1; i < s.Region.Slots; i++ {
			if id.HomePID(s.Region.Slot(i).TID) == id.HomePID(ret) {
				at = i
			}
		}
	}
	if j.birth.Thread() {
		if at > 0 {
			s.slots[id.HomePID(ret)] = &slot{Slot: s.Region.Slot(at), i: at, tid: id.HomePID(ret)}
		}
		s.answer(sl, j, ret)
		return
	}
	s.wg.Add(1)
	go func() { // it takes a while, in which this shadow has other things to do
		defer s.wg.Done()
		about, err := s.OnBorn(int(ret), at)
		s.mu.Lock()
		defer s.mu.Unlock()
		if at > 0 {
			s.Region.Slot(at).TID = 0
		}
		if s.out == nil {
			return // asked again it is answered again
		}
		if err != nil {
			s.log.Error("a new process could not be made a shadow", "process", s.Process, "child", ret, "err", err)
			s.answer(sl, j, -int64(kern.EAGAIN))
			return
		}
		s.out.Result(sl.tid, j.seq, homeproxy.Result{Ret: ret, Out: []homeproxy.Blob{about}})
	}()
}

// freeSlot finds a slot that no thread of this process, and no child of it, has; -1 when there is none. The first is the leader's.
func (s *Shadow) freeSlot() int {
	for i := 1; i < s.Region.Slots; i++ {
		tid := s.Region.Slot(i).TID
		if tid != 0 && exists(s.PID, int(tid)) {
			continue
		}
		if tid != 0 && s.nursed(i) {
			continue
		}
		for t, sl := range s.slots {
			if sl.i == i {
				delete(s.slots, t)
			}
		}
		return i
	}
	return -1
}

// nursed reports whether a child of this process stands in slot i still.
func (s *Shadow) nursed(i int) bool {
	tid := int(s.Region.Slot(i).TID)
	for _, sl := range s.slots {
		if sl.i == i {
			return false // it was a thread, and has ended
		}
	}
	return exists(tid, tid)
}

func exists(pid, tid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", pid, tid))
	return err == nil
}

// Actions are the program's actions for signals, as the guest has them now.
func (s *Shadow) Actions() [abi.NSig + 1]abi.SigAction {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.actions
}
