package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// Newborn is a process that a guest has made here: it runs when Begin is called.
type Newborn struct {
	Options
	Parent *Guest
}

// bearing is a birth that home has finished, and this side has not.
type bearing struct {
	pid id.HomePID
	res homeproxy.Result
}

// clone begins a birth: first at home, where the number comes from, then here. The caller holds mu.
func (g *Guest) clone(c *call, name string, args [6]uint64) {
	if w := g.waits[c.tid]; w != nil { // asked again by a thread that waits for its child: a stop has got it out
		g.waitForChild(c, w)
		return
	}
	wish, ok := g.wishOf(c.nr, args)
	c.wish = &wish
	if b := g.bearing[c.tid]; b != nil { // asked again while home has done its part
		g.calls[c.tid] = c
		g.deliverSoon(c, b)
		return
	}
	if !ok || int32(g.Den.Keeper.Keeper().LastPID) < 0 || !wish.Thread && g.sharesMemory() {
		g.comeHome(c, name)
		return
	}
	if g.closing || g.leaving || g.stopping[c.host] { // at home it is easier
		g.later(c)
		return
	}
	if wish.SharesDescriptors() {
		g.devices.Forget()
	}
	g.births++
	req := wish.Request(g.signalState(c.host).blocked)
	if g.Den.unborn(c.tid) { // an earlier agent has asked home already, and home answers the same
		c.seq, c.req = g.seqs[c.tid], req
		g.calls[c.tid] = c
		g.note(c)
		g.link.Call(c.tid, c.seq, req, false)
		return
	}
	g.dispatch(c, req)
}

// later lets a call be made again, when whoever stops the thread is done. The caller holds mu.
func (g *Guest) later(c *call) {
	ret := int64(-abi.ERestartNoInt)
	c.answer = &ret
	g.calls[c.tid] = c
	if g.leaving && !g.holding || g.stopping[c.host] {
		g.release(c)
	}
}

// wishOf reads what a thread wants made; ok is false when nr makes nobody, or when it cannot be served here.
func (g *Guest) wishOf(nr uint32, args [6]uint64) (w homeproxy.Clone, ok bool) {
	switch nr {
	case abi.SysClone3:
		w, ok = g.wishOfClone3(args)
	case abi.SysClone, abi.SysFork, abi.SysVfork:
		w, ok = homeproxy.WishOfClone(nr, args), true
	}
	return w, ok && w.Served()
}

func (g *Guest) wishOfClone3(args [6]uint64) (homeproxy.Clone, bool) {
	if args[1] > mem.PageSize {
		return homeproxy.Clone{}, false
	}
	b := make([]byte, args[1])
	if n, err := g.ReadMemory(mem.Addr(args[0]), b); err != nil || n != len(b) {
		return homeproxy.Clone{}, false
	}
	return homeproxy.WishOfClone3(b)
}

// sharesMemory reports whether the guest has memory that a child would share with it: they could not part.
func (g *Guest) sharesMemory() bool {
	shared := func(what string) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", g.PID, what))
		if err != nil {
			return true
		}
		as, _ := image.ParseMaps(b, g.Region.Range())
		for _, a := range as {
			if a.Shared && !a.Fixed() {
				return true
			}
		}
		return false
	}
	return shared("maps") && shared("smaps") // which costs more, and tells what is only read
}

// born takes home's answer to a birth. The caller holds mu.
func (g *Guest) born(c *call, res homeproxy.Result) {
	if c.wish.SharesDescriptors() {
		g.devices.Forget() // home knows by now, and tells of no device any more
	}
	if res.Ret > 0 {
		g.traffic.Births++
		b := &bearing{id.HomePID(res.Ret), res}
		g.bearing[c.tid] = b
		g.deliverSoon(c, b)
		return
	}
	g.births--
	g.Den.bore(c.tid)
	if res.Ret == homeproxy.Unserved {
		g.comeHome(c, homeproxy.Lookup(c.nr).Name)
		return
	}
	g.finish(c, res.Ret)
}

// deliverSoon makes b here, unless somebody stops the thread just now: then it asks again. The caller holds mu.
func (g *Guest) deliverSoon(c *call, b *bearing) {
	if g.stopping[c.host] {
		g.later(c)
		return
	}
	c.seq = 0 // nothing at home is to be cancelled or asked again
	again := int64(-abi.ERestartNoInt)
	c.answer = &again // for whoever stops the thread before deliver does
	go g.deliver(c, b)
}

// deliver makes here what home has made there.
func (g *Guest) deliver(c *call, b *bearing) {
	g.hands.Lock()
	defer g.hands.Unlock()
	g.mu.Lock()
	there := g.calls[c.tid] == c && g.bearing[c.tid] == b
	g.mu.Unlock()
	if !there {
		return // it was stopped meanwhile, and asks again
	}
	err := g.bear(c, b)
	if errors.Is(err, errAskAgain) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bearing[c.tid] == b { // not the next, which may be under way
		delete(g.bearing, c.tid)
	}
	g.births--
	for _, s := range g.signals { // those that came meanwhile
		g.kick(s, s.process)
	}
	if err != nil && !errors.Is(err, tracer.ErrGone) {
		g.log.Error("a guest's new thread or process could not be made", "process", g.Process, "number", b.pid, "err", err)
		if g.calls[c.tid] == c {
			c.answer = nil
			g.finish(c, -int64(kern.EAGAIN))
		}
	}
}

var errAskAgain = errors.New("the thread was not in its call when it stopped")

func (g *Guest) bear(c *call, b *bearing) error {
	g.Den.births.Lock()
	defer g.Den.births.Unlock()
	if err := g.Den.next(b.pid); err != nil {
		return err
	}
	return tracer.Run(func() error {
		p, err := tracer.Open(g.PID, g.code)
		if err != nil {
			return err
		}
		defer p.Close()
		p.Region = g.Region
		p.Options = kern.OptTraceClone | kern.OptTraceFork | kern.OptTraceVfork
		t, err := p.SeizeWith(c.host, func() error { return g.unblock(c.host) })
		g.mu.Lock()
		delete(g.stopping, c.host)
		g.mu.Unlock()
		if err != nil {
			return err
		}
		if t.Regs.OrigRAX == uint64(c.nr) && int64(t.Regs.RAX) == -abi.ERestartNoInt && len(t.Stash) == 0 {
			if err = g.split(c, p, t, b); err != nil {
				no := -int64(kern.EAGAIN)
				t.Regs.RAX, t.Regs.OrigRAX = uint64(no), abi.NoCall
			}
			g.mu.Lock()
			delete(g.bearing, c.tid) // before the thread runs: its next call is another
			g.mu.Unlock()
		} else {
			err = errAskAgain
		}
		return errors.Join(err, kern.SetOptions(t.TID, 0), g.letGo(t))
	})
}

// split lets the held thread t make the new one, which it then is to have made all along.
func (g *Guest) split(c *call, p *tracer.Process, t *tracer.Thread, b *bearing) error {
	pid := b.pid
	// The filter stays: other threads of the guest can change the code that makes the call. Exactly this call is let through.
	w := c.wish
	args := [5]uint64{w.GuestFlags() &^ abi.CloneVfork, w.Stack, w.ParentTID, w.ChildTID, w.TLS}
	g.mu.Lock()
	g.cloning[t.TID] = args
	g.mu.Unlock()
	done := g.watched(t.TID)
	ret, err := t.Call(abi.SysClone, args[:]...)
	done()
	g.mu.Lock()
	delete(g.cloning, t.TID)
	g.mu.Unlock()
	if err != nil {
		return err
	}
	if ret < 0 {
		return fmt.Errorf("clone with flags %#x: %w", w.GuestFlags(), kern.Errno(-ret))
	}
	host := p.NewTask
	q := p
	if !w.Thread {
		if q, err = tracer.Open(host, g.code); err != nil {
			return err
		}
		defer q.Close()
	}
	n, err := q.Adopt(host)
	if err != nil {
		return err
	}
	if id.HomePID(ret) != pid {
		_ = kern.Kill(host, abi.SIGKILL)
		return fmt.Errorf("the kernel gave the number %d instead of %d", ret, pid)
	}
	fs, gs := n.Regs.FSBase, n.Regs.GSBase
	n.Regs, n.Mask = t.Regs, t.Mask
	n.Regs.RAX, n.Regs.OrigRAX, n.Regs.FSBase, n.Regs.GSBase = 0, abi.NoCall, fs, gs
	if w.Stack != 0 {
		n.Regs.RSP = w.Stack
	}
	if w.Thread {
		g.mu.Lock()
		g.tids[pid], g.back[host] = host, pid
		g.seqs[pid] = 0
		g.dropExits(pid)
		g.mu.Unlock()
		g.Den.addTask(host, g)
	} else if err := g.parent(c, p, q, n, b); err != nil {
		_ = kern.Kill(host, abi.SIGKILL)
		return err
	}
	t.Regs.RAX, t.Regs.OrigRAX = uint64(pid), abi.NoCall
	if w.Waiting {
		// It goes back to its call, in which it waits until the child does without its memory.
		t.Regs.RAX, t.Regs.OrigRAX = uint64(c.nr), abi.NoCall
		t.Regs.RIP -= 2
	}
	if err := kern.SetOptions(n.TID, 0); err != nil {
		return err
	}
	if err := t.PutBack(); err != nil {
		return err
	}
	g.Den.bore(c.tid)
	return n.Release()
}

// dropExits forgets threads that have ended and whose number home has given out again.
func (g *Guest) dropExits(tid id.HomePID) {
	keep := g.exits[:0]
	for _, x := range g.exits {
		if x.tid != tid {
			keep = append(keep, x)
		}
	}
	g.exits = keep
}

// parent makes a guest of the new process q, whose only thread n is held.
func (g *Guest) parent(c *call, p, q *tracer.Process, n *tracer.Thread, b *bearing) error {
	if len(b.res.Out) != 1 || len(b.res.Out[0].Data) != 16 {
		return errors.New("home did not say whom it has made")
	}
	pid, about := b.pid, b.res.Out[0].Data
	o := Options{
		Process: id.Process{Home: g.Process.Home, PID: pid, Start: binary.LittleEndian.Uint64(about)}, Epoch: id.Epoch(binary.LittleEndian.Uint64(about[8:])),
		PID: q.PID, Den: g.Den, Listener: g.listener, Clocks: g.Clocks, Image: &image.Process{}, Log: g.log, Code: g.code,
	}
	if g.cores { // limits are inherited
		o.Image.Limits[kern.LimitCore][0] = 1
	}
	var shares uint32
	if c.wish.SharesMemory {
		var err error
		if o.Region, err = g.Region.Share(); err != nil {
			return err
		}
		shares = uint32(c.tid)
	} else {
		// Its memory is its parent's, who may have written anything into it. Replant executes one instruction at a time, so that
		// without the filter nothing but our calls is done.
		if err := kern.SetOptions(n.TID, p.Options|kern.OptSuspendFilter); err != nil {
			return err
		}
		if err := errors.Join(q.Replant(n, g.Region), kern.SetOptions(n.TID, p.Options)); err != nil {
			return err
		}
		o.Region = q.Region
		h := o.Region.Header()
		h.State, h.RealOffset = stub.StateGuest, g.Region.Header().RealOffset
		h.Faulting, h.FaultActions = g.faulting.Load(), g.Region.Header().FaultActions
		line, _ := g.line()
		h.ClockCount, h.Clock[0] = 0, line
	}
	var err error
	if o.Entry, err = g.Den.book(stub.Member{PID: uint32(pid), Deadline: g.Deadline(), Start: o.Process.Start, Epoch: uint64(o.Epoch),
		Base: uint64(g.Region.Base), Shares: shares, Listener: g.member().Listener}); err != nil {
		return err
	}
	if err := g.link.Born(Newborn{Options: o, Parent: g}); err != nil {
		return err
	}
	if c.wish.Waiting {
		g.mu.Lock()
		g.waits[c.tid] = &wait{child: pid}
		g.mu.Unlock()
	}
	return nil
}

// wait is a thread that waits until its child, which has its memory, executes a program or ends: vfork.
type wait struct {
	child id.HomePID
	call  *call
	over  bool
}

// waitForChild leaves the call of a thread unanswered until its child does without its memory. The caller holds mu.
func (g *Guest) waitForChild(c *call, w *wait) {
	if w.over {
		delete(g.waits, c.tid)
		g.calls[c.tid] = c
		g.finish(c, int64(w.child))
		return
	}
	w.call = c
	c.waiting = true
	g.calls[c.tid] = c
	if g.leaving && !g.holding || g.stopping[c.host] {
		g.release(c)
	}
}

// Parted says that a child has no part in this guest's memory any more.
func (g *Guest) Parted(child id.HomePID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for tid, w := range g.waits {
		if w.child != child || w.over {
			continue
		}
		w.over = true
		g.Den.parted(tid)
		if c := w.call; c != nil && g.calls[tid] == c && c.answer == nil {
			delete(g.waits, tid)
			g.finish(c, int64(child))
		}
	}
}

// Borrows reports whether the guest uses its parent's memory.
func (g *Guest) Borrows() bool { return atomic.LoadUint32(&g.member().Shares) != 0 }

// awaitBirths lets no birth begin any more, and waits for the end of those that have: half of one lies at home. It returns an error
// where a child uses this guest's memory, too.
func (g *Guest) awaitBirths(quit func() bool) error {
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		births, lends := g.births, false
		for _, w := range g.waits {
			lends = lends || !w.over
		}
		g.mu.Unlock()
		switch {
		case births == 0 && !lends:
			return nil
		case quit != nil && quit() || time.Now().After(late):
			if lends {
				return errors.New("a child uses the memory of this process (vfork) until it executes a program: try again later")
			}
			return errors.New("it is making a thread or a process: try again later")
		}
	}
}

// parted takes down that the thread tid lends its memory to nobody any more.
func (d *Den) parted(tid id.HomePID) {
	k := d.Keeper.Keeper()
	for i := range int(min(k.Count, stub.MaxMembers)) {
		if m := d.Keeper.Member(i); m.Shares == uint32(tid) {
			m.Shares = 0
		}
	}
}

// lent finds the children that use the memory of this guest's threads, as an earlier agent has noted them. The caller holds mu.
func (g *Guest) lent() {
	k := g.Den.Keeper.Keeper()
	for i := range int(min(k.Count, stub.MaxMembers)) {
		m := g.Den.Keeper.Member(i)
		if tid := id.HomePID(m.Shares); tid != 0 && g.tids[tid] != 0 {
			g.waits[tid] = &wait{child: id.HomePID(m.PID), over: atomic.LoadUint32(&m.Ended) != 0}
		}
	}
}

// Lends reports whether the process child uses the memory of this guest.
func (g *Guest) Lends(child id.HomePID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.waits {
		if w.child == child {
			return true
		}
	}
	return false
}

// Together reports whether the guest has arrived with others.
func (g *Guest) Together() bool { return g.member().Together != 0 }

// AwaitEnd waits, for d at most, until the keeper has seen the end of this guest.
func (g *Guest) AwaitEnd(d time.Duration) {
	for late := time.Now().Add(d); atomic.LoadUint32(&g.member().Ended) == 0 && time.Now().Before(late); time.Sleep(200 * time.Microsecond) {
		if kern.IsGone(kern.Kill(g.Den.KeeperID, 0)) {
			return
		}
	}
}
