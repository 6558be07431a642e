package node

import (
	"errors"
	"sync/atomic"
	"time"

	"mosix/homeproxy/shadow"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/migrator/thaw"
)

// ---- the memory of a shadow

// arrived notes that the guest runs and has its lease from here: now the memory here can go. Before that the guest may end with
// the short lease of its move, however late we hear of it, and the process must be able to run on here.
func (a *away) arrived() {
	h := a.region.Header()
	if atomic.LoadUint32(&h.State) == stub.StateAway {
		return
	}
	atomic.StoreUint64(&h.LeaseEnd, a.leaseEnd(a.n.env.Lease))
	atomic.StoreUint32(&h.State, stub.StateAway)
	if a.family.Members[0].Stopped {
		a.memory.CompareAndSwap(memoryHeld, memoryLater)
		return
	}
	a.giveBack(a.sh, memoryHeld)
}

// giveBack gives the memory of the shadow back to the kernel, if it is in state from.
func (a *away) giveBack(sh *shadow.Shadow, from int32) {
	if !a.memory.CompareAndSwap(from, memoryGoing) {
		return
	}
	err := sh.Release(&a.family.Members[0], thaw.Kept, func() { a.memory.Store(memoryGone) })
	if err != nil {
		a.memory.CompareAndSwap(memoryGoing, memoryHeld)
	}
	if err != nil && !errors.Is(err, shadow.ErrBusy) {
		a.n.log.Warn("memory of a shadow stays in use", "process", a.r.id, "err", err)
	}
}

// continued is told when the shadow goes on: a stopped one could give nothing back. It does nothing in an agent that was started
// since, in whose shadow a result may still wait for its host.
func (a *away) continued() {
	a.mu.Lock()
	sh := a.sh
	a.mu.Unlock()
	a.giveBack(sh, memoryLater)
}

// What has become of the memory of a shadow.
const (
	memoryHeld  = 0 // all of it is here still
	memoryGoing = 1
	memoryGone  = 2
	memoryKept  = 3 // and stays: the process is on its way home
	memoryLater = 4 // held until the process, which is stopped, is continued
)

// clear says which areas of the shadow must be emptied before a guest's memory is put in: those that were not given back. From
// then on the guest alone has the process.
func (a *away) clear() []mem.Range {
	kept := func() bool {
		return a.memory.CompareAndSwap(memoryHeld, memoryKept) || a.memory.CompareAndSwap(memoryLater, memoryKept)
	}
	for try := 0; !kept() && a.memory.Load() == memoryGoing && try < 500; try++ {
		time.Sleep(10 * time.Millisecond)
	}
	if a.memory.Load() == memoryGone {
		return nil
	}
	h := a.region.Header()
	atomic.StoreUint64(&h.LeaseEnd, a.leaseEnd(a.n.env.Lease))
	atomic.StoreUint32(&h.State, stub.StateAway)
	var out []mem.Range
	for _, x := range a.family.Members[0].Areas {
		if !x.Shared && !thaw.Kept(x) {
			out = append(out, x.Range)
		}
	}
	return out
}

// fixed lists the areas whose content stays at home whatever the guest sends.
func (a *away) fixed() []mem.Range {
	var out []mem.Range
	for _, x := range a.family.Members[0].Areas {
		if x.Fixed() {
			out = append(out, x.Range)
		}
	}
	return mem.Normalize(out)
}
