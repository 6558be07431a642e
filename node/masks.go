package node

import (
	"strings"

	"mosix/homeproxy/guest"
	"mosix/homeproxy/shadow"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/pack"
	"mosix/internal/procfs"
	"mosix/internal/stub"
	"mosix/internal/wire"
)

// directed reports whether a signal that thread tid of the shadow took is for that thread alone: it comes from a POSIX timer or a
// descriptor that is to signal one thread, or it was queued (SI_QUEUE) and the leading thread would have taken it if it were for all. One
// that takes nothing just now, because it records a signal or is held, would have a moment ago.
func (a *away) directed(tid int, si *abi.Siginfo) bool {
	if leader := int(a.r.id.PID); si.Code() == abi.SIQueue && tid != leader {
		bit := abi.SigBit(si.Signo())
		st, err := procfs.Default.TaskStatus(leader, leader)
		if err != nil || st.SigBlk&bit == 0 {
			return err == nil
		}
		return deaf(st.SigBlk) && a.slot(leader, func(s *stub.Slot) bool { return s.Idle&bit == 0 }) && a.slot(tid, func(s *stub.Slot) bool { return s.Mask&bit == 0 })
	}
	if fd, ok := si.ReadyFD(); ok {
		return a.ownedByThread(fd)
	}
	if si.Code() != abi.SITimer {
		return false
	}
	timers, err := procfs.Default.Timers(int(a.r.id.PID))
	if err != nil {
		return false // the process has ended
	}
	for _, t := range timers {
		if t.ID == si.TimerID() {
			return strings.Contains(t.Notify, "/tid.")
		}
	}
	return false
}

// deaf reports whether a thread that blocks set takes no signal at all.
func deaf(set uint64) bool {
	const never = 1<<(abi.SIGKILL-1) | 1<<(abi.SIGSTOP-1) | 1<<(abi.SIGTRAP-1) // that are not blocked, or not always
	return set|never == ^uint64(0)
}

// slot asks f about the slot of thread tid of the shadow; false where it has none.
func (a *away) slot(tid int, f func(*stub.Slot) bool) bool {
	done, ok := a.use()
	if !ok {
		return false
	}
	defer done()
	for i := range a.region.Slots {
		if s := a.region.Slot(i); int(s.TID) == tid {
			return f(s)
		}
	}
	return false
}

func (a *away) ownedByThread(fd int) bool {
	pidfd, err := kern.PidfdOpen(int(a.r.id.PID))
	if err != nil {
		return false // it has ended
	}
	defer pidfd.Close()
	f, err := kern.PidfdGetfd(pidfd, fd, "descriptor")
	if err != nil {
		return false // closed meanwhile: the process as a whole gets it
	}
	defer f.Close()
	is, err := kern.OwnerIsThread(f)
	return is && err == nil
}

// Masks implements guest.Link.
func (t *tenant) Masks(masks map[id.HomePID]uint64, back []guest.Returned) bool {
	t.mu.Lock()
	s := t.conn
	t.mu.Unlock()
	if s == nil {
		return false
	}
	w := &pack.Writer{}
	w.U32(uint32(len(masks)))
	for tid, m := range masks {
		w.U32(uint32(tid))
		w.U64(m)
	}
	w.U32(uint32(len(back)))
	for i := range back {
		w.U32(uint32(back[i].TID))
		w.Bool(back[i].Process)
		w.Bytes(back[i].Info[:])
	}
	if err := s.Send(wire.Masks, t.g.Epoch, w.B); err != nil {
		s.Close()
		return false
	}
	return true
}

// parseMasks reads what Masks has written.
func parseMasks(r *pack.Reader) (map[id.HomePID]uint64, []shadow.Returned, error) {
	masks := map[id.HomePID]uint64{}
	for n := r.Count(12); n > 0; n-- {
		tid := id.HomePID(r.U32())
		masks[tid] = r.U64()
	}
	var back []shadow.Returned
	for n := r.Count(5); n > 0 && r.Err() == nil; n-- {
		x := shadow.Returned{TID: id.HomePID(r.U32()), Process: r.Bool()}
		copy(x.Info[:], r.Bytes())
		back = append(back, x)
	}
	return masks, back, r.Err()
}
