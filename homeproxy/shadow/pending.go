package shadow

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/stub"
	"mosix/migrator/freeze"
)

// A signal that the guest blocks pends in the guest, with one exception: what the process can read from a signalfd pends here,
// where that descriptor is.

// Returned is a signal that the guest had, and blocks: it pends here again.
type Returned struct {
	TID     id.HomePID
	Process bool // for the process as a whole
	Info    abi.Siginfo
}

// SignalFDs are the signals that the process can read from descriptors.
func (s *Shadow) SignalFDs() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fds
}

// widen notes, before it is made, a call that makes a signalfd.
func (s *Shadow) widen(req homeproxy.Request) {
	if (req.Nr != abi.SysSignalfd && req.Nr != abi.SysSignalfd4) || len(req.In) != 1 || len(req.In[0].Data) != 8 {
		return
	}
	s.fds |= binary.LittleEndian.Uint64(req.In[0].Data) &^ (abi.SigBit(abi.SIGKILL) | abi.SigBit(abi.SIGSTOP))
	s.settle()
}

// settle gives every thread the idle mask that follows from what is known now: one that waits for work at once, one in a call
// after it.
func (s *Shadow) settle() {
	for _, sl := range s.slots {
		if idle := freeze.IdleMask(&s.actions, sl.Mask, s.fds); idle != sl.Idle {
			sl.Idle = idle
			if sl.job == nil {
				s.aside(sl, sl.Mask, stub.Call{Nr: abi.SysGetpid})
			}
		}
	}
}

// aside makes a call of this agent's own in sl when it is free, around which the thread's mask is mask.
func (s *Shadow) aside(sl *slot, mask uint64, c stub.Call) {
	s.push(sl, &job{masked: true, mask: mask, aside: true, plan: homeproxy.Plan{Nr: uint32(c.Nr), Args: c.Args}, then: func(int64) {
		sl.Ret = sl.Saved
		atomic.StoreUint32(&sl.IsSaved, 0)
	}})
}

// await begins rt_sigtimedwait. What it waits for is held back first: a signal that was recorded before it could begin is on its
// way to the guest, and the call, which would overtake it, is made again there.
func (s *Shadow) await(sl *slot, j *job, req homeproxy.Request) {
	var set uint64
	if len(req.In) > 0 && len(req.In[0].Data) == 8 {
		set = binary.LittleEndian.Uint64(req.In[0].Data)
	}
	s.push(sl, &job{masked: true, mask: j.mask, hold: set, leads: j, aside: true, plan: homeproxy.Plan{Nr: abi.SysGetpid}, then: func(int64) {
		sl.Ret = sl.Saved
		atomic.StoreUint32(&sl.IsSaved, 0)
		if sl.Epoch == uint64(s.Epoch) && sl.Seq >= uint64(j.seq) { // it was asked for twice
			return
		}
		if j.dropped || s.out == nil || s.out.Ahead(req.Heard, set) {
			s.aside(sl, j.mask, stub.Call{Nr: abi.SysGetpid})
			s.answer(sl, j, -abi.ERestartNoInt)
			return
		}
		s.start(sl, j)
	}})
}

// Masks takes what the guest's threads block now, and signals that it gives back because they are to be read from a descriptor.
func (s *Shadow) Masks(masks map[id.HomePID]uint64, back []Returned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for tid, m := range masks {
		if sl := s.slots[tid]; sl != nil && (sl.job == nil || !sl.job.masked) { // a call has the mask with which it was made
			sl.Mask = m
		}
	}
	s.settle()
	for _, r := range back {
		s.requeue(r)
	}
}

// requeue makes a thread of the shadow queue r when it is free: only so may a signal say that it came from the kernel or from a
// user, and for the whole process the leader alone may say so. The guest cancels the call that the thread is in.
func (s *Shadow) requeue(r Returned) {
	sl := s.slots[r.TID]
	if l := s.slots[id.HomePID(s.Process.PID)]; r.Process && l != nil {
		sl = l
	}
	if sl == nil {
		return // its thread has ended, and with it the signal
	}
	const size = len(abi.Siginfo{})
	off := stub.ScratchSize - returnedRoom*size + s.returned%returnedRoom*size
	s.returned++
	copy(s.Region.Scratch()[off:], r.Info[:])
	at := uint64(s.Region.Addr(stub.ScratchOff + off))
	c := stub.Call{Nr: abi.SysRtTgsigqueue, Args: [6]uint64{uint64(s.Process.PID), uint64(sl.tid), uint64(r.Info.Signo()), at}}
	if code := r.Info.Code(); r.Process && (sl.tid == id.HomePID(s.Process.PID) || code < 0 && code != abi.SITkill) {
		c = stub.Call{Nr: abi.SysRtSigqueueinfo, Args: [6]uint64{uint64(s.Process.PID), uint64(r.Info.Signo()), at}}
	}
	s.aside(sl, sl.Mask|abi.SigBit(r.Info.Signo()), c)
}

// returnedRoom is how many returned signals can wait for a thread to queue them.
const returnedRoom = 512

// pending reports whether a signal pends that the process can read from a descriptor, in the process or its leading thread.
func (s *Shadow) pending() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID))
	if err != nil {
		return false
	}
	var set uint64
	for line := range strings.Lines(string(b)) {
		if k, v, _ := strings.Cut(line, ":"); k == "SigPnd" || k == "ShdPnd" {
			m, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			set |= m
		}
	}
	return set&s.fds != 0
}

// begin keeps what an internal call would overwrite: the host may not have it yet.
func (sl *slot) begin(j *job) {
	if j.aside && atomic.LoadUint32(&sl.IsSaved) == 0 {
		sl.Saved = sl.Ret
		atomic.StoreUint32(&sl.IsSaved, 1)
	}
}
