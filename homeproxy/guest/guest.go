// Package guest serves the calls of a guest on its host: it answers the few that it may, forwards the others to the shadow, and
// brings signals in. Its one invariant: a raw restart code, -512 to -516, reaches a thread only between the interruption of
// that very thread and its stop, so that the guest's own kernel decides what the program sees.
package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/migrator/thaw"
)

// Link carries frames to home. Send must not block for long; while home is out of reach it drops what it is given, and Resend
// repeats it.
type Link interface {
	Call(tid id.HomePID, seq id.Seq, req homeproxy.Request, restart bool)
	Cancel(tid id.HomePID, seq id.Seq)
	Died(status int)
	Expired()    // the keeper has ended the guest with its lease: home decides alone what that means
	Hold() error // home keeps signals from now on; all that it sent before are here when it returns
	Unhold()
	WantHome(why string) // a call that cannot be served at a distance: start the move home
	Heard() uint64       // the last signal from home that was taken for this guest
	Born(Newborn) error  // takes charge of a process that the guest has made, before it runs
	// Masks tells home what threads block, and gives signals back to it; false: home is out of reach.
	Masks(masks map[id.HomePID]uint64, back []Returned) bool
}

// Guest is a running guest.
type Guest struct {
	Process id.Process
	Epoch   id.Epoch
	PID     int // here
	Den     *Den
	Region  *region.Region // of the guest itself
	Clocks  thaw.Clocks

	entry    int      // in the keeper's table
	listener *os.File // of its filter

	link Link
	log  *slog.Logger
	code *stub.Code

	mu       sync.Mutex
	tids     map[id.HomePID]int // home number to host number
	back     map[int]id.HomePID
	calls    map[id.HomePID]*call // in flight
	seqs     map[id.HomePID]id.Seq
	restarts map[id.HomePID]uint32   // the call that a thread's restart block at home continues
	signals  []signal                // not queued in the guest yet
	sentTo   map[id.HomePID]sentTo   // by threads of its own, to others
	exits    []*call                 // of threads that have ended here, and must end at home
	running  bool                    // it was let go: only then can a thread of it be stopped
	cloning  map[int][5]uint64       // the arguments of the one clone that this agent makes through a host thread
	inject   map[int]bool            // host threads that execute a call of ours
	napping  map[int][2]uint64       // by host thread: the arguments of the last short sleep, where that was its last call of which this agent heard
	cut      map[int]begun           // by host thread: the call in which it waits, although it is to make it again
	retired  bool                    // the leading thread has ended, while others go on
	partial  map[id.HomePID]partial  // transfers that a thread makes again of which a part is done
	stopping map[int]bool            // host threads that were interrupted: an answer given now comes with the stop
	bearing  map[id.HomePID]*bearing // by the thread that made the call
	waits    map[id.HomePID]*wait    // threads whose child uses their memory
	births   int                     // begun, here or at home, and not ended
	closing  bool                    // no birth begins any more
	leaving  bool                    // every thread is being held
	holding  bool                    // … and has not been interrupted yet: answers wait
	homeward bool                    // home was asked for
	halted   bool                    // stopped, because the shadow was
	until    map[id.HomePID]int64    // when the timed call ends that a thread makes again, by home's CLOCK_MONOTONIC
	entering uint64                  // signals that are just being queued
	fds      uint64                  // signals that the process can read from descriptors
	cores    bool                    // a core file may be written
	faulting atomic.Uint64           // the signals that have our handler of faults
	ended    bool
	told     bool // home knows that it has ended, or has decided so
	last     bool // of the den
	files    files
	hands    sync.Mutex // one injection at a time
	done     chan struct{}
	wg       sync.WaitGroup

	used    account // of processors
	traffic Traffic // with home
	devices homeproxy.Devices

	writes sync.RWMutex // see Writers
	mapsMu sync.Mutex
	maps   *os.File // to be asked what of its memory may be written

	OnCall     func(name string, took time.Duration) // one was forwarded and answered; called with the guest locked
	OnComeHome func(name string)
}

// Traffic is what a guest has asked of home since it came to this host.
type Traffic struct {
	Calls  uint64 // that were forwarded
	Bytes  uint64 // that they took there and back
	Births uint64 // processes and threads that it has made
}

// Traffic tells what the guest has asked of home.
func (g *Guest) Traffic() Traffic {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.traffic
}

// carried counts the data of a call, one way.
func (g *Guest) carried(bs []homeproxy.Blob) {
	for _, b := range bs {
		g.traffic.Bytes += uint64(len(b.Data))
	}
}

type call struct {
	tid      id.HomePID
	host     int
	id       uint64 // of the notification
	nr       uint32
	seq      id.Seq
	c        *homeproxy.Call
	req      homeproxy.Request
	restart  bool
	until    int64 // when it ends, by home's CLOCK_MONOTONIC; 0: no time is set, or home's kernel counts
	expired  bool  // it was ended because its time is over
	mask     uint64
	masked   bool
	started  time.Time
	args     [6]uint64 // of mmap
	filling  *filling
	answer   *int64 // held back: the thread is about to be stopped
	own      uint64 // the mask that the call brings
	hasOwn   bool
	awaits   uint64    // the signals for which rt_sigtimedwait waits
	sent     uint64    // signals that other threads have sent to this one, for which it is looked at
	sentAt   time.Time // … the latest
	wish     *homeproxy.Clone
	homeward string // why its thread goes home before it learns the result
	retired  bool   // it is the end of the leading thread, and never ends
	waiting  bool   // for a child that uses the caller's memory
	exec     bool
	tries    int    // how often home could not execute a program just then
	age      uint64 // of what is known of devices, when home was asked
	cancels  bool   // it is to end, whatever has become of it at home
	begun    int64  // how the kernel would end it for a signal, where the thread had begun to wait in it before; 0: it had not
}

// begun is a call in which a thread has begun to wait, and which it makes again because of us: a signal that comes before it is
// made again comes into the wait, and ends it as the kernel would.
type begun struct {
	nr  uint32
	ret int64 // -ERESTARTSYS, -ERESTARTNOHAND or -ERESTART_RESTARTBLOCK
}

func waits(ret int64) bool { return abi.IsRestart(ret) && ret != -abi.ERestartNoInt }

type signal struct {
	tries   int // how often the guest's kernel did not take it
	tid     id.HomePID
	info    abi.Siginfo
	process bool
	home    bool // it waits until the guest is at home, where it comes to pend
}

// Options are what a Guest is made of.
type Options struct {
	Process  id.Process
	Epoch    id.Epoch
	PID      int
	Den      *Den
	Entry    int // in the keeper's table
	Region   *region.Region
	Listener *os.File // of its filter
	Clocks   thaw.Clocks
	Restarts map[id.HomePID]uint32
	Image    *image.Process // that it was made from; nil where an earlier agent has made it
	Until    map[id.HomePID]int64
	Begun    map[id.HomePID]uint64
	Link     Link
	Log      *slog.Logger
	Code     *stub.Code
}

// New makes a Guest of what thaw has built or an earlier agent has left. Serve starts it.
func New(o Options) (*Guest, error) {
	tids, err := thaw.HostTIDs(o.PID)
	if err != nil {
		return nil, err
	}
	g := &Guest{Process: o.Process, Epoch: o.Epoch, PID: o.PID, Den: o.Den, entry: o.Entry, listener: o.Listener, Region: o.Region,
		Clocks: o.Clocks, link: o.Link, log: o.Log, code: o.Code,
		tids: tids, back: map[int]id.HomePID{}, calls: map[id.HomePID]*call{}, seqs: map[id.HomePID]id.Seq{}, restarts: o.Restarts, until: o.Until,
		sentTo: map[id.HomePID]sentTo{}, inject: map[int]bool{}, napping: map[int][2]uint64{}, cut: map[int]begun{}, partial: map[id.HomePID]partial{}, stopping: map[int]bool{}, cloning: map[int][5]uint64{}, bearing: map[id.HomePID]*bearing{}, waits: map[id.HomePID]*wait{}, done: make(chan struct{})}
	for tid, n := range o.Begun {
		if th := g.threadOf(o.Image, tid); th != nil {
			g.partial[tid] = partial{uint32(th.Regs.OrigRAX), th.Regs.Args(), n}
		}
	}
	if g.restarts == nil {
		g.restarts = map[id.HomePID]uint32{}
	}
	if g.until == nil {
		g.until = map[id.HomePID]int64{}
	}
	for h, n := range tids {
		g.back[n] = h
	}
	g.cores = true // for all that is known
	g.faulting.Store(g.Region.Header().Faulting)
	if o.Image != nil {
		g.cores = o.Image.Limits[kern.LimitCore][0] > 0
		g.halted = o.Image.Stopped
		for i := range o.Image.Threads {
			th := &o.Image.Threads[i]
			nr, ret := uint32(th.Regs.OrigRAX), int64(th.Regs.RAX)
			if block := o.Restarts[th.TID]; nr == abi.SysRestartSyscall && block != 0 {
				nr = block
			}
			if th.Regs.OrigRAX != abi.NoCall && waits(ret) {
				g.cut[tids[th.TID]] = begun{nr, ret}
			}
		}
	}
	g.openAccount(o.Image)
	g.Den.enter(g)
	return g, nil
}

func (g *Guest) member() *stub.Member { return g.Den.Keeper.Member(g.entry) }

// Serve takes the guest's calls until it ends or Stop is called.
func (g *Guest) Serve() {
	g.Den.serve(g.listener, g.member().Listener)
	g.wg.Add(1)
	go g.await()
}

// Stop ends this agent's part: the guest's calls wait for the next agent.
func (g *Guest) Stop() {
	g.mu.Lock()
	select {
	case <-g.done:
	default:
		close(g.done)
	}
	g.mu.Unlock()
	g.Den.ring()
	g.wg.Wait()
	if g.Den.leave(g) {
		g.last = true
	}
}

func (g *Guest) stopped() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// await looks for the guest's end, which the keeper reports.
func (g *Guest) await() {
	defer g.wg.Done()
	k, m := g.Den.Keeper.Keeper(), g.member()
	for !g.stopped() {
		bell := atomic.LoadUint32(&k.Doorbell)
		ended, status := atomic.LoadUint32(&m.Ended) != 0, int(m.Status)
		if !ended {
			if err := kern.Kill(g.Den.KeeperID, 0); kern.IsGone(err) {
				ended, status = true, abi.SIGKILL
			}
		}
		switch {
		case ended && status == abi.SIGKILL && g.Expires() <= 0:
			g.link.Expired()
			return
		case ended:
			g.end(status)
			return
		}
		kern.FutexWait(&k.Doorbell, bell, 200*time.Millisecond)
	}
}

// Deadline is the end of the guest's lease, on CLOCK_BOOTTIME in nanoseconds.
func (g *Guest) Deadline() uint64 { return atomic.LoadUint64(&g.member().Deadline) }

// SetDeadline changes it.
func (g *Guest) SetDeadline(end uint64) { g.Den.lease(g, end) }

// Expires is how long the guest's lease still lasts.
func (g *Guest) Expires() time.Duration {
	return time.Duration(int64(g.Deadline()) - kern.Now(kern.ClockBoottime))
}

func (g *Guest) end(status int) {
	g.mu.Lock()
	if g.ended {
		g.mu.Unlock()
		return
	}
	g.ended = true
	g.mu.Unlock()
	g.link.Died(status)
}

func (g *Guest) send(id uint64, ret int64) {
	if err := kern.NotifSend(g.listener, id, ret, false); err != nil && !errors.Is(err, kern.ENOENT) {
		g.log.Warn("cannot answer a guest's call", "process", g.Process, "err", err)
	}
}

// reply is send, for a call that is known.
func (g *Guest) reply(c *call, ret int64) {
	if waits(ret) {
		g.cut[c.host] = begun{c.nr, ret}
	}
	g.send(c.id, ret)
}

// unheard makes the calls of held threads begin anew, whatever handler runs first, that were stopped before this agent heard of
// them: the kernel would have them end with EINTR, as if they had waited for something.
func (g *Guest) unheard(ts ...*tracer.Thread) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range ts {
		r := &t.Regs
		if r.OrigRAX == abi.NoCall || int64(r.RAX) != -abi.ERestartSys || homeproxy.Lookup(uint32(r.OrigRAX)).Class == homeproxy.Guest {
			continue
		}
		ret := int64(-abi.ERestartNoInt)
		if was, ok := g.cut[t.TID]; ok && (uint64(was.nr) == r.OrigRAX || r.OrigRAX == abi.SysRestartSyscall) {
			ret = was.ret
		}
		r.RAX = uint64(ret)
	}
}

func (g *Guest) proceed(id uint64) {
	if err := kern.NotifSend(g.listener, id, 0, true); err != nil && !errors.Is(err, kern.ENOENT) {
		g.log.Warn("cannot let a guest's call go on", "process", g.Process, "err", err)
	}
}

// handle decides about one notification.
func (g *Guest) handle(n kern.Notif) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.decide(n)
}

func (g *Guest) decide(n kern.Notif) {
	native := n.Arch == homeproxy.ArchAMD64
	if want, ok := g.cloning[int(n.PID)]; ok && native && n.Nr == abi.SysClone && [5]uint64(n.Args[:5]) == want {
		delete(g.cloning, int(n.PID))
		g.proceed(n.ID)
		return
	}
	if g.inject[int(n.PID)] && native && (injected(n.Nr) || asksOwnAddress(&n)) { // a call that this agent makes through the guest
		g.proceed(n.ID)
		return
	}
	tid, ok := g.back[int(n.PID)]
	if !ok {
		g.log.Error("a call of a thread that is not known", "process", g.Process, "thread", n.PID)
		g.send(n.ID, -int64(kern.ENOSYS))
		return
	}
	was := g.cut[int(n.PID)]
	delete(g.cut, int(n.PID))
	g.noteTaken(tid, n.ID)
	c := &call{tid: tid, host: int(n.PID), id: n.ID, nr: uint32(n.Nr), started: time.Now()}
	if !native { // its number is of another table
		g.comeHome(c, "int 0x80")
		return
	}
	if g.faults(&n) {
		g.comeHome(c, "a fault that may leave a core file")
		return
	}
	if n.Nr == abi.SysRestartSyscall {
		nr, until := g.restarts[tid], g.until[tid]
		if nr == 0 && until == 0 { // a futex, the one call of the guest's own that a restart block continues
			g.proceed(n.ID)
			return
		}
		c.nr, c.until = nr, until
		c.restart = until == 0
	} else if g.restarts[tid] != 0 { // a handler has ended what was to go on
		delete(g.restarts, tid)
		g.noteBlock(tid, 0)
	}
	if was.nr == c.nr {
		c.begun = was.ret
	}
	delete(g.until, tid) // it is made again now, or a handler has ended it
	delete(g.napping, c.host)
	row := homeproxy.Lookup(c.nr)
	class := row.Classify(n.Args)
	if class != homeproxy.Guest && g.isEnding() {
		class = homeproxy.ComeHome
	}
	switch class {
	case homeproxy.Guest:
		g.proceed(n.ID)
	case homeproxy.Refuse:
		g.send(n.ID, -int64(row.Errno))
	case homeproxy.Home:
		switch {
		case g.naps(c, n.Args):
			g.napping[c.host] = [2]uint64(n.Args[:2])
			g.proceed(n.ID)
		case row.Pending && g.looks(c, n.Args), g.device(c, n.Args):
		default:
			g.forward(c, row, n.Args)
		}
	case homeproxy.Both:
		g.both(c, row, n.Args)
	default:
		g.comeHome(c, row.Name)
	}
}

// injected lists the calls that this agent makes through a guest that runs. Nothing else is ever let through for it.
func injected(nr int32) bool {
	switch nr {
	case abi.SysUserfaultfd, abi.SysClose, abi.SysRtSigaction, abi.SysRtSigqueueinfo, abi.SysRtTgsigqueue, abi.SysRtSigtimedwait:
		return true
	}
	return false
}

// forward gathers a call's inputs and sends it home.
func (g *Guest) forward(c *call, row *homeproxy.Row, args [6]uint64) {
	if g.leaving || g.stopping[c.host] { // interrupted just now: the call is made again afterwards
		g.calls[c.tid] = c
		g.finish(c, -abi.ERestartNoInt)
		return
	}
	c.c = homeproxy.NewCall(c.nr, args)
	c.c.PID = int(g.Process.PID)
	if row.NeedsMask(args) {
		st := g.signalState(c.host)
		c.mask, c.masked = st.blocked, true
		if st.pending&^st.blocked&^st.ignored != 0 {
			// A signal is waiting that a forwarded call would never see: handler first, then the call.
			g.calls[c.tid] = c
			g.finish(c, -abi.ERestartNoInt)
			return
		}
	}
	g.goOn(c)
	g.gather(c)
}

func (g *Guest) gather(c *call) {
	req, errno, class := c.c.Gather(g)
	switch {
	case class == homeproxy.ComeHome:
		g.comeHome(c, homeproxy.Lookup(c.nr).Name)
		return
	case errno != 0:
		g.reply(c, -int64(errno))
		return
	}
	if c.ownMask(&req); c.hasOwn && c.lets(g.signalState(c.host)) {
		g.calls[c.tid] = c
		g.finish(c, -abi.ERestartNoHnd)
		return
	}
	req.Mask = c.mask
	g.limit(c, &req)
	c.age, req.Device = g.devices.Asks(c.nr, c.c.Args)
	g.dispatch(c, req)
}

// dispatch sends a call, numbered, and remembers it until its result is in.
func (g *Guest) dispatch(c *call, req homeproxy.Request) {
	g.seqs[c.tid]++
	c.seq, c.req, c.cancels, c.started = g.seqs[c.tid], req, false, time.Now()
	if homeproxy.Replaces(c.nr) {
		g.devices.Forget()
	}
	if c.nr != abi.SysClockGettime { // a question for CPU time
		g.used.calls++
	}
	g.calls[c.tid] = c
	g.traffic.Calls++
	g.carried(req.In)
	g.note(c)
	g.link.Call(c.tid, c.seq, req, c.restart)
	g.expectLate(c)
}

// Resend repeats every call in flight: a new connection, or home's new agent, answers from the slots.
func (g *Guest) Resend() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return
	}
	for _, c := range g.calls {
		if c.seq != 0 && c.answer == nil {
			g.link.Call(c.tid, c.seq, c.req, c.restart)
			if c.cancels { // home may not have heard of that, either
				g.link.Cancel(c.tid, c.seq)
			}
		}
	}
	for _, c := range g.exits {
		g.link.Call(c.tid, c.seq, c.req, false)
	}
	for _, s := range g.signals { // some wait for home
		g.kick(s, s.process)
	}
}

// cancel has a call at home ended, with a definite outcome. The caller holds mu.
func (g *Guest) cancel(c *call) {
	c.cancels = true
	g.link.Cancel(c.tid, c.seq)
}

// Result takes the result of a call from home.
func (g *Guest) Result(tid id.HomePID, seq id.Seq, res homeproxy.Result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.calls[tid]
	if c == nil || c.seq != seq || c.answer != nil {
		return
	}
	if homeproxy.Replaces(c.nr) {
		g.devices.Forget()
	}
	g.carried(res.Out)
	if g.OnCall != nil && !res.AtHome {
		g.OnCall(homeproxy.Lookup(c.nr).Name, time.Since(c.started))
	}
	switch {
	case res.AtHome:
		g.comeHome(c, homeproxy.Lookup(c.nr).Name)
		return
	case c.wish != nil:
		g.born(c, res)
		return
	case c.exec:
		g.executed(c, res)
		return
	case c.nr == abi.SysMmap:
		g.mapped(c, res)
		return
	}
	if res.Homeward {
		c.homeward = "what it has mapped was written"
	}
	if c.c == nil { // both sides take part: home is done, now the guest's kernel
		if abi.IsRestart(res.Ret) { // home has not begun
			g.finish(c, res.Ret)
			return
		}
		g.forget(c)
		if res.Ret < 0 {
			g.reply(c, res.Ret)
		} else {
			g.proceed(c.id)
		}
		return
	}
	if c.req.Device {
		g.devices.Learn(c.nr, c.c.Args, c.age, res.Ret, res.Device, g.replacing())
	}
	g.amend(c, &res)
	if c.until == 0 && res.Left > 0 {
		c.until = g.homeMono() + int64(res.Left)
	}
	if abi.IsRestart(res.Ret) && c.c.Total() > 0 && res.Regular {
		// A file is read, or written, to the end of what was asked: our own stop between two pieces does not show.
		c.restart = false
		g.dispatch(c, c.req)
		return
	}
	if c.nr == abi.SysRtSigpending && res.Ret == 0 {
		g.addPending(c, &res)
	}
	g.showMemory(c, &res)
	if abi.IsRestart(res.Ret) && c.c.Total() > 0 && g.undisturbed(c) {
		c.restart = false
		g.dispatch(c, c.req)
		return
	}
	ret, again := c.c.Scatter(res, g)
	if again || c.cancels && g.undisturbed(c) && c.c.Short(res) { // short by itself, it is what the kernel gives
		req, errno, class := c.c.Gather(g)
		if errno == 0 && (class == homeproxy.Home || class == homeproxy.Both) {
			req.Mask = c.mask
			c.restart = false
			g.dispatch(c, req)
			return
		}
	}
	g.finish(c, ret)
}

// finish answers a call, in the way that its result and the signals that wait for its thread demand.
func (g *Guest) finish(c *call, ret int64) {
	ret = g.outcome(c, ret)
	delete(g.restarts, c.tid)
	if ret == -abi.ERestartBlock {
		g.restarts[c.tid] = c.nr
		g.noteBlock(c.tid, c.nr)
	}
	if g.holding || (g.isEnding() || c.homeward != "") && !g.leaving && !g.stopping[c.host] { // the freezer answers, when it has asked the thread to stop
		c.answer = &ret
		if c.homeward != "" {
			g.goHome(c.homeward)
		}
		return
	}
	if g.leaving || g.stopping[c.host] {
		g.forget(c)
		g.reply(c, ret)
		return
	}
	if abi.IsRestart(ret) || len(g.signals) > 0 || g.entering != 0 {
		c.answer = &ret
		go g.answerStopped(c, ret)
		return
	}
	g.forget(c)
	g.reply(c, ret)
}

func (g *Guest) forget(c *call) {
	if g.calls[c.tid] == c {
		delete(g.calls, c.tid)
	}
}

// With runs f with the guest's tracer.Process, while calls that f injects into thread host are let through.
func (g *Guest) With(host int, f func(p *tracer.Process, t *tracer.Thread) error) error {
	g.hands.Lock()
	defer g.hands.Unlock()
	return g.held(host, nil, func() error { return g.unblock(host) }, func(p *tracer.Process, t *tracer.Thread) error {
		g.injecting(host, true)
		defer g.watched(host)()
		return f(p, t) // injecting ends with the thread's release
	})
}

// comeHome starts the way home for a call that cannot be served here. The call waits; at home it is made natively.
func (g *Guest) comeHome(c *call, name string) {
	ret := g.outcome(c, -abi.ERestartNoInt)
	c.answer = &ret
	g.calls[c.tid] = c
	if g.OnComeHome != nil {
		g.OnComeHome(name)
	}
	if g.leaving && !g.holding || g.stopping[c.host] { // interrupted just now: the answer comes with the stop
		g.forget(c)
		g.reply(c, ret)
	}
	g.goHome(name)
}

// StopGuest stops (or continues) the whole guest, as the shadow was.
func (g *Guest) StopGuest(yes bool) {
	g.mu.Lock()
	was := g.halted
	g.halted = yes
	leaving := g.leaving
	g.mu.Unlock()
	if was == yes && !yes {
		// An earlier agent may have stopped it.
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.PID)); err != nil || !strings.Contains(string(b), ") T ") {
			return // it is not stopped: a SIGCONT would be one that nobody sent
		}
	}
	if !leaving {
		g.halt(yes)
	}
}

// halt sends the guest what stops or continues it.
func (g *Guest) halt(yes bool) {
	sig := abi.SIGCONT
	if yes {
		sig = abi.SIGSTOP
	} else if g.signalState(g.PID).caught&abi.SigBit(abi.SIGCONT) != 0 {
		return // the one that the shadow got is on its way here, and continues the guest
	}
	if err := kern.Kill(g.PID, sig); err != nil && !kern.IsGone(err) {
		g.log.Warn("cannot stop or continue a guest", "process", g.Process, "err", err)
	}
}

// Kill ends the guest at once, and its keeper if it has no other.
func (g *Guest) Kill() {
	g.mu.Lock()
	g.ended, g.told = true, true
	g.mu.Unlock()
	who := g.PID
	if g.Den.alone(g) {
		who = g.Den.KeeperID
	} else if atomic.LoadUint32(&g.member().Ended) != 0 {
		return
	}
	if err := kern.Kill(who, abi.SIGKILL); err != nil && !kern.IsGone(err) {
		g.log.Warn("cannot end a guest", "process", g.Process, "err", err)
	}
}

// Close frees what this agent has of the guest, after Kill and Stop.
func (g *Guest) Close() {
	g.files.close()
	g.forgetMaps()
	if g.Region != nil {
		g.Region.Close()
	}
	if g.last {
		g.Den.close()
	}
}

var le = binary.LittleEndian

// Computing returns a thread that is in no call, by its number here, or 0.
func (g *Guest) Computing() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	for h, n := range g.tids {
		if g.calls[h] == nil {
			return n
		}
	}
	return 0
}

// Restarted is the call that restart_syscall continues in thread host: at home, or a futex here.
func (g *Guest) Restarted(host int) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if nr := g.restarts[g.back[host]]; nr != 0 || g.until[g.back[host]] != 0 {
		return uint64(nr)
	}
	return abi.SysFutex
}

// Threads maps thread numbers at home to those here.
func (g *Guest) Threads() map[id.HomePID]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[id.HomePID]int, len(g.tids))
	for h, n := range g.tids {
		out[h] = n
	}
	return out
}

// Leaving reports whether the guest is being held for its way home.
func (g *Guest) Leaving() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leaving
}
