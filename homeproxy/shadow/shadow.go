// Package shadow executes the calls of a guest in the parked original of its process. Its one invariant: a call, named by
// (epoch, thread, sequence), is executed once; asked for again it is answered from its slot, also by an agent that was
// started later.
package shadow

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/migrator/freeze"
)

// Output is where what happens to a shadow goes. Its methods are called one at a time, in the order of what happened.
type Output interface {
	Result(tid id.HomePID, seq id.Seq, res homeproxy.Result)
	Signal(tid id.HomePID, si abi.Siginfo)
	Stopped(yes bool)
	// Ahead reports whether a signal of set is on its way that had not come when the one of number heard was the last.
	Ahead(heard, set uint64) bool
	Pends() // signals pend here that the guest may not block any more
	Ended() // the process is no more
}

// Shadow is a parked process.
type Shadow struct {
	Process id.Process
	Epoch   id.Epoch
	PID     int
	Region  *region.Region

	mem   *os.File
	pidfd *os.File
	stat  *os.File
	log   *slog.Logger

	mu        sync.Mutex
	out       Output // guarded by mu
	slots     map[id.HomePID]*slot
	actions   [abi.NSig + 1]abi.SigAction
	inPlace   map[mem.Addr]bool // pages that calls use at their own address; true: they are open
	files     mem.Addr          // where the next file is mapped that the guest maps; 0: not looked for yet
	closed    bool
	releasing bool     // memory is being given back
	delayed   []func() // calls that wait for the end of that
	hold      bool     // signals stay in the ring: the guest is about to come home
	fds       uint64   // signals that the process can read from descriptors
	returned  int      // signals that the guest has given back, in all
	ended     bool
	stopped   bool // as was told last
	done      chan struct{}
	wg        sync.WaitGroup

	OnExit   func(image.Usage) // it ends by a call of its guest, which had used so much away; may be nil
	Amend    func(nr uint32, args [6]uint64, ret int64, out []homeproxy.Blob)
	Children func() image.Usage // what children have used away that it has waited for; may be nil
	OnChange func()             // a call has changed what decides on where the process may be; may be nil
	OnBorn   Born
	// OnWritten is told that somebody has written a file of which the process has parts. It must come home.
	OnWritten func()

	common  map[file]bool // what the process shares, and may write
	mapped  map[file]bool // the files of which it has parts
	writes                // to those
	limits  atomic.Uint32 // how often the process has set limits
	alone   int           // whether others use its table of descriptors, once that was asked
	sighted bool          // a call has brought such a descriptor
	plain   atomic.Bool   // no descriptor shows the process's own memory
	tells   atomic.Bool   // one may tell how much memory it uses

	hands sync.Mutex // held by who traces a thread; taken before mu
}

// slot is a thread of the shadow.
type slot struct {
	*stub.Slot
	i     int
	tid   id.HomePID
	job   *job   // in flight
	queue []*job // waiting for it
}

// job is a call, with what must happen in the same thread before it.
type job struct {
	seq     id.Seq
	nr      uint32 // as the guest asked
	args    [6]uint64
	masked  bool
	mask    uint64
	more    bool // a piece of a larger transfer
	device  bool // the host asks what its descriptor is
	pre     []stub.Call
	plan    homeproxy.Plan
	started time.Time
	then    func(ret int64) // an internal call: nobody is answered
	birth   *homeproxy.Birth
	slot    int    // of whom it makes
	pinned  bool   // no call: somebody holds the thread
	hold    uint64 // signals that stay blocked afterwards
	leads   *job   // the call of the guest that begins afterwards
	dropped bool   // it was cancelled before it began
	aside   bool   // it may come between a call of the guest and its acknowledgement
}

// Open takes charge of the parked process pid. The record in its region, or the caller's newer family, says what it is.
func Open(pid int, g *region.Region, f *image.Family, log *slog.Logger) (*Shadow, error) {
	pidfd, err := kern.PidfdOpen(pid)
	if err != nil {
		return nil, err
	}
	m, err := kern.OpenMem(pid)
	if err != nil {
		pidfd.Close()
		return nil, err
	}
	st, err := os.Open(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		pidfd.Close()
		m.Close()
		return nil, err
	}
	s := &Shadow{Process: f.Process, Epoch: f.Epoch, PID: pid, Region: g, mem: m, pidfd: pidfd, stat: st, log: log,
		slots: map[id.HomePID]*slot{}, actions: f.Members[0].Actions, inPlace: map[mem.Addr]bool{}, done: make(chan struct{})}
	s.findFiles(f.Members[0].Areas)
	for i := range g.Slots { // by the numbers in the slots: threads may have come and gone since the parking
		if sl := (&slot{Slot: g.Slot(i), i: i, tid: id.HomePID(g.Slot(i).TID)}); sl.tid != 0 && exists(pid, int(sl.tid)) {
			s.slots[sl.tid] = sl
		}
	}
	s.fds = freeze.SignalFDs(pid)
	s.wg.Add(2)
	go s.lookForViews()
	go s.listen()
	go s.watch()
	return s, nil
}

// Connect makes out the receiver of what happens from now on; nil for nobody. Results that nobody received stay in their slots.
func (s *Shadow) Connect(out Output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.out, s.hold = out, false
	if out != nil {
		s.stopped = s.IsStopped()
		out.Stopped(s.stopped)
		if s.ended {
			out.Ended()
		}
		if s.written.Load() {
			go s.tellWritten()
		}
	}
	s.ring()
}

// HoldSignals leaves signals in the ring, or hands them on again.
func (s *Shadow) HoldSignals(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold = yes; !yes && !s.closed {
		s.ring()
	}
}

// Close ends this agent's part; the shadow stays parked.
func (s *Shadow) Close() {
	s.hands.Lock() // a cancellation under way ends first
	defer s.hands.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed, s.out = true, nil
	close(s.done)
	s.ring()
	s.mu.Unlock()
	s.wg.Wait()
	s.unwatch()
	s.mem.Close()
}

// ring wakes listen.
func (s *Shadow) ring() {
	h := s.Region.Header()
	atomic.AddUint32(&h.Doorbell, 1)
	kern.FutexWake(&h.Doorbell, 1<<30)
}

// Threads lists the shadow's threads.
func (s *Shadow) Threads() []id.HomePID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []id.HomePID
	for t := range s.slots {
		out = append(out, t)
	}
	return out
}

// Call executes call seq of thread tid, or answers it again. restart continues the call that was cut with -516.
func (s *Shadow) Call(tid id.HomePID, seq id.Seq, req homeproxy.Request, restart bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.slots[tid]
	if sl == nil && req.Nr == abi.SysExit {
		return nil // it has ended: this is asked again
	}
	if sl == nil {
		return fmt.Errorf("thread %d of %v is not in its shadow", tid, s.Process)
	}
	if sl.job != nil && sl.job.seq == seq {
		return nil // its answer goes to whoever is connected then
	}
	for _, q := range sl.queue {
		if q.seq == seq {
			return nil
		}
	}
	j := &job{seq: seq, nr: req.Nr, args: req.Args, mask: req.Mask, masked: homeproxy.Lookup(req.Nr).NeedsMask(req.Args), more: req.More, device: req.Device, started: time.Now()}
	if sl.Epoch == uint64(s.Epoch) && sl.Seq == uint64(seq) {
		return s.again(sl, j, req)
	}
	if sl.Epoch == uint64(s.Epoch) && sl.Seq > uint64(seq) {
		return nil // an old request: its answer has been used
	}
	if s.viewsMemory(tid, req) {
		if s.out != nil {
			s.out.Result(sl.tid, seq, homeproxy.Result{AtHome: true})
		}
		return nil
	}
	s.widen(req)
	if err := s.plan(sl, j, req, restart); err != nil {
		return err
	}
	if j.nr == abi.SysRtSigtimedwait {
		s.await(sl, j, req)
		return nil
	}
	if s.releasing && len(j.plan.InPlace) > 0 {
		s.delayed = append(s.delayed, func() { s.push(sl, j) }) // its pages would be closed under it
		return nil
	}
	s.push(sl, j)
	return nil
}

// again answers a repeated request: from the slot when the call is done, else when it will be.
func (s *Shadow) again(sl *slot, j *job, req homeproxy.Request) error {
	// This agent does not know the call: an earlier one began it. The plan is a function of the request alone.
	if homeproxy.Lookup(req.Nr).ByHand {
		if err := s.plan(sl, j, req, false); err != nil {
			return err
		}
		if atomic.LoadUint32(&sl.Done) != atomic.LoadUint32(&sl.Req) {
			sl.job = j
			s.ring()
		} else if j.then != nil {
			j.then(s.resultOf(sl))
		} else {
			s.finish(sl, j)
		}
		return nil
	}
	plan, errno := homeproxy.Lay(req, s.dataAddr(sl), stub.SlotDataSize)
	if errno != 0 {
		s.answer(sl, j, -int64(errno))
		return nil
	}
	j.plan = plan
	for _, a := range plan.InPlacePages() { // that agent has opened them
		s.inPlace[a] = true
	}
	if atomic.LoadUint32(&sl.Done) == atomic.LoadUint32(&sl.Req) {
		s.finish(sl, j)
		return nil
	}
	sl.job = j
	s.ring()
	return nil
}

func (s *Shadow) dataAddr(sl *slot) mem.Addr { return s.Region.SlotAddr(sl.i) + stub.SlotDataOff }

// plan prepares the job: lays its data out, or finds its special meaning for a shadow.
func (s *Shadow) plan(sl *slot, j *job, req homeproxy.Request, restart bool) error {
	if restart && sl.Nest == 0 {
		j.plan = homeproxy.Plan{Nr: abi.SysRestartSyscall}
		return nil
	}
	if j.nr == abi.SysRtSigaction {
		s.mirror(sl, j, req)
		return nil
	}
	if j.nr == abi.SysMmap {
		s.mapFile(sl, j, req)
		return nil
	}
	if j.nr == abi.SysExit || j.nr == abi.SysExitGroup {
		if s.OnExit != nil && len(req.In) == 1 {
			s.OnExit(image.DecodeUsage(req.In[0].Data))
		}
		j.plan = homeproxy.Plan{Nr: j.nr, Args: [6]uint64{req.Args[0]}}
		return nil
	}
	plan, errno := homeproxy.Lay(req, s.dataAddr(sl), stub.SlotDataSize)
	for _, ip := range plan.InPlace {
		if (mem.Range{Start: ip.Addr.Page(), End: (ip.Addr + mem.Addr(len(ip.Data))).PageUp()}).Overlaps(s.Region.Range()) {
			errno = int(kern.EFAULT)
		}
	}
	if errno != 0 {
		j.nr, j.plan = abi.SysGetpid, homeproxy.Plan{Nr: abi.SysGetpid}
		j.then = func(int64) { s.answer(sl, j, -int64(errno)) }
		return nil
	}
	for _, a := range plan.InPlacePages() {
		if !s.inPlace[a] { // not yet: a call of another thread may be about to open it
			s.inPlace[a] = false
			// Memory that the guest has mapped away is not here; where there is some, the first call fails.
			j.pre = append(j.pre, stub.Call{Nr: abi.SysMmap, Args: [6]uint64{uint64(a), mem.PageSize, abi.ProtRead | abi.ProtWrite, abi.MapPrivate | abi.MapAnonymous | abi.MapFixedNoReplace, ^uint64(0)}})
			j.pre = append(j.pre, stub.Call{Nr: abi.SysMprotect, Args: [6]uint64{uint64(a), mem.PageSize, abi.ProtRead | abi.ProtWrite}})
		}
	}
	if restart {
		plan = plan.Resume()
	}
	j.plan = plan
	return nil
}

// mirror makes the shadow's action for a signal follow the guest's, before the guest's kernel changes its own.
func (s *Shadow) mirror(sl *slot, j *job, req homeproxy.Request) {
	j.plan = homeproxy.Plan{Nr: abi.SysGetpid}
	j.then = func(int64) {
		s.settle()
		s.answer(sl, j, 0)
	}
	sig := int(req.Args[0])
	if len(req.In) != 1 || len(req.In[0].Data) < abi.SigActionSize || sig < 1 || sig > abi.NSig || sig == abi.SIGKILL || sig == abi.SIGSTOP {
		return
	}
	s.actions[sig] = abi.GetSigAction(req.In[0].Data)
	data := s.Region.SlotData(sl.i)
	freeze.ShadowAction(s.Region, sig, s.actions[sig]).Put(data)
	j.plan = homeproxy.Plan{Nr: abi.SysRtSigaction, Args: [6]uint64{uint64(sig), uint64(s.dataAddr(sl)), 0, 8}}
}

func (s *Shadow) push(sl *slot, j *job) {
	if sl.job != nil {
		sl.queue = append(sl.queue, j)
		return
	}
	s.start(sl, j)
}

// start begins a job in an idle slot.
func (s *Shadow) start(sl *slot, j *job) {
	sl.job = j
	if j.birth != nil {
		s.bear(sl, j)
		return
	}
	sl.begin(j)
	if len(j.pre) > 0 {
		s.issue(sl, j.pre[0].Nr, j.pre[0].Args, false, 0)
		return
	}
	for _, a := range j.plan.InPlacePages() {
		s.inPlace[a] = true
	}
	data := s.Region.SlotData(sl.i)
	for _, w := range j.plan.Writes {
		copy(data[w.Off:], w.Data)
	}
	for _, ip := range j.plan.InPlace {
		if _, err := s.mem.WriteAt(ip.Data, int64(ip.Addr)); err != nil {
			s.log.Warn("cannot fill memory for a call", "process", s.Process, "at", ip.Addr, "err", err)
		}
	}
	if j.seq != 0 {
		atomic.StoreUint32(&sl.IsSaved, 0)
		sl.Epoch, sl.Seq = uint64(s.Epoch), uint64(j.seq)
	}
	s.issue(sl, uint64(j.plan.Nr), j.plan.Args, j.masked, j.mask)
}

// issue hands one call to the stub.
func (s *Shadow) issue(sl *slot, nr uint64, args [6]uint64, masked bool, mask uint64) {
	sl.Nr, sl.Args, sl.Cut, sl.Flags = nr, args, 0, 0
	if masked {
		sl.Flags, sl.Mask, sl.Idle = stub.SlotMask, mask, freeze.IdleMask(&s.actions, mask, s.fds)|sl.job.hold
	}
	s.send(sl)
}

// send wakes the thread of a slot whose call is complete.
func (s *Shadow) send(sl *slot) {
	atomic.StoreUint32(&sl.State, stub.SlotIdle) // until the stub takes it: it may still be on its way back from the last one
	atomic.AddUint32(&sl.Req, 1)
	kern.FutexWake(&sl.Req, 1)
}

// listen waits at the doorbell and hands on what has happened: first signals, then results, because a signal that a call
// has raised must be pending when its answer is seen.
func (s *Shadow) listen() {
	defer s.wg.Done()
	h := s.Region.Header()
	for {
		bell := atomic.LoadUint32(&h.Doorbell)
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		s.collect()
		s.mu.Unlock()
		kern.FutexWait(&h.Doorbell, bell, -1)
	}
}

func (s *Shadow) collect() {
	var ready []*slot
	for _, sl := range s.slots {
		if sl.job != nil && !sl.job.pinned && atomic.LoadUint32(&sl.Done) == atomic.LoadUint32(&sl.Req) {
			ready = append(ready, sl)
		}
	}
	if s.out != nil && !s.hold && !s.outdated() { // with nobody to take them signals wait in the ring
		for _, sig := range s.Region.TakeSignals() {
			s.out.Signal(id.HomePID(sig.TID), sig.Info)
		}
	}
	for _, sl := range ready {
		j := sl.job
		if len(j.pre) > 0 {
			j.pre = j.pre[1:]
			s.start(sl, j)
			continue
		}
		sl.job = nil
		if j.then != nil {
			j.then(sl.Ret)
		} else {
			s.finish(sl, j)
		}
		if sl.job == nil && len(sl.queue) > 0 {
			next := sl.queue[0]
			sl.queue = sl.queue[1:]
			s.start(sl, next)
		}
	}
}

// finish answers a call whose result is in its slot.
func (s *Shadow) finish(sl *slot, j *job) {
	ret := s.resultOf(sl)
	row := homeproxy.Lookup(j.nr)
	var left time.Duration
	if ret == -int64(kern.EINTR) {
		left = s.left(j)
		switch code := row.RestartCode(j.args); {
		case sl.Cut == stub.CutAfter && code != -abi.ERestartSys: // one that the recorder's action restarts is cut before
			ret = code
		case sl.Cut == 0 && atomic.LoadUint32(&sl.OutLen) == cancelled:
			ret = -abi.ERestartNoHnd // our own stop has ended it, not a signal
		}
	}
	sl.OutLen = 0
	if atomic.LoadUint32(&sl.IsSaved) == 0 { // asked again it is answered with the same
		sl.Ret, sl.Cut = ret, 0
	}
	if ret == -abi.ERestartBlock && j.nr != abi.SysRestartSyscall {
		sl.Nest = j.nr
	}
	data := s.Region.SlotData(sl.i)
	out := j.plan.Collect(ret, func(off, n int) []byte {
		if off < 0 || n < 0 || off+n > len(data) {
			return nil
		}
		return append([]byte(nil), data[off:off+n]...)
	}, func(a mem.Addr, n int) []byte {
		b := make([]byte, n)
		if _, err := s.mem.ReadAt(b, int64(a)); err != nil {
			return nil
		}
		return b
	})
	s.brought(sl.tid, j.nr, ret)
	if j.nr == abi.SysSetrlimit || j.nr == abi.SysPrlimit {
		s.limits.Add(1)
	}
	if s.out == nil {
		return // it stays in the slot
	}
	if s.OnChange != nil && ret >= 0 && row.LooksAfter(j.args) {
		s.OnChange()
	}
	if s.Amend != nil {
		s.Amend(j.nr, j.args, ret, out)
	}
	view, out := s.viewOf(sl.tid, row, j, ret, out)
	s.out.Result(sl.tid, j.seq, homeproxy.Result{
		Ret: ret, Out: out, Left: left, View: view, Device: s.deviceOf(j, ret),
		Regular: row.AsksRegular(j.args, ret, j.more) && s.regular(int(int32(j.args[0]))), Homeward: s.outdated(),
	})
}

// resultOf is what the last call in a slot has returned.
func (s *Shadow) resultOf(sl *slot) int64 {
	if atomic.LoadUint32(&sl.IsSaved) != 0 { // an earlier agent ended in the middle of a call of its own
		return sl.Saved
	}
	return sl.Ret
}

func (s *Shadow) answer(sl *slot, j *job, ret int64) {
	if s.out != nil {
		s.out.Result(sl.tid, j.seq, homeproxy.Result{Ret: ret})
	}
}

// regular reports whether a descriptor of the shadow is a regular file.
func (s *Shadow) regular(fd int) bool {
	st, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", s.PID, fd))
	return err == nil && st.Mode().IsRegular()
}

// watch looks for the end of the process, and ten times a second for its being stopped or continued.
func (s *Shadow) watch() {
	defer s.pidfd.Close()
	defer s.stat.Close()
	buf := make([]byte, 512)
	for {
		select {
		case <-s.done:
			return
		default:
		}
		if gone, err := kern.PidfdWait(s.pidfd, 100*time.Millisecond); gone || err != nil {
			s.mu.Lock()
			s.ended = true
			if s.out != nil && !s.closed {
				s.out.Ended()
			}
			s.mu.Unlock()
			return
		}
		// Looked at and told under the lock: a SIGCONT that is recorded afterwards is told afterwards.
		s.mu.Lock()
		if now := s.isStopped(buf); now != s.stopped {
			s.stopped = now
			if s.out != nil {
				s.out.Stopped(now)
			}
		}
		if s.fds != 0 && s.out != nil && !s.hold && s.pending() {
			s.out.Pends()
		}
		s.mu.Unlock()
	}
}

// IsStopped reports whether the process is stopped, by a signal, now.
func (s *Shadow) IsStopped() bool { return s.isStopped(make([]byte, 512)) }

func (s *Shadow) isStopped(buf []byte) bool {
	n, err := s.stat.ReadAt(buf, 0)
	if n == 0 && err != nil {
		return false
	}
	for i := n - 1; i > 1; i-- {
		if buf[i] == ')' {
			return i+2 < n && buf[i+2] == 'T'
		}
	}
	return false
}

// ErrBusy says that a thread of the shadow is in a call, or the shadow is stopped.
var ErrBusy = errors.New("the shadow is in a call or stopped")

// Release gives the shadow's memory back to the kernel: what the guest has now. Areas that are kept stay, and so do the pages
// with arguments and environment, which ps shows. Other areas can no longer be read, so that a debugger does not see zeros.
// done is called when it is all given back.
func (s *Shadow) Release(m *image.Process, kept func(image.Area) bool, done func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.isStopped(make([]byte, 512)) {
		return ErrBusy
	}
	var calls []stub.Call
	keep := mem.Normalize(append(s.busy(), mem.Range{Start: mem.Addr(m.Layout.ArgStart).Page(), End: mem.Addr(m.Layout.EnvEnd).PageUp()}))
	for _, a := range m.Areas {
		if a.Shared || kept(a) {
			continue
		}
		give := uint64(abi.MadvDontNeed)
		if a.Advice.Has(image.Locked) {
			give = abi.MadvDontNeedLocked
		}
		for _, r := range mem.Subtract([]mem.Range{a.Range}, keep) {
			calls = append(calls, stub.Call{Nr: abi.SysMadvise, Args: [6]uint64{uint64(r.Start), r.Len(), give}},
				stub.Call{Nr: abi.SysMprotect, Args: [6]uint64{uint64(r.Start), r.Len(), abi.ProtNone}})
		}
	}
	if len(calls) == 0 {
		done()
		return nil
	}
	// Any thread will do; one that waits in a call may wait for ever.
	var sl *slot
	for _, x := range s.slots {
		if x.job == nil && (sl == nil || x.tid == id.HomePID(s.Process.PID)) {
			sl = x
		}
	}
	if sl == nil {
		return ErrBusy
	}
	last := calls[len(calls)-1]
	s.releasing = true
	sl.Saved = sl.Ret // the host may not have it yet
	atomic.StoreUint32(&sl.IsSaved, 1)
	s.push(sl, &job{pre: calls[:len(calls)-1], plan: homeproxy.Plan{Nr: uint32(last.Nr), Args: last.Args}, then: func(int64) {
		sl.Ret = sl.Saved
		atomic.StoreUint32(&sl.IsSaved, 0)
		s.releasing = false
		for _, f := range s.delayed {
			f()
		}
		s.delayed = nil
		done()
	}})
	return nil
}
