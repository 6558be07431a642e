package node

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"mosix/homeproxy"
	"mosix/homeproxy/shadow"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/pack"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/internal/transport"
	"mosix/internal/wire"
	"mosix/migrator"
	"mosix/migrator/ferry"
	"mosix/migrator/freeze"
	"mosix/migrator/thaw"
	"mosix/node/api"
)

// Causes of moves, as api.Move names them.
const (
	causeCommand  = api.CauseCommand
	causeBalancer = api.CauseBalancer
	causeComeHome = api.CauseComeHome
	causeShutdown = api.CauseShutdown
)

// record is what this node remembers of a process of its own that has moved.
type record struct {
	id   id.Process
	trip sync.Mutex // held while it moves

	// The following are guarded by Node.mu.
	away        *away // nil: at home
	moving      bool
	passing     bool      // coming home only to go on to another node
	leg         *api.Move // how its last way home went
	moves       int
	epoch       id.Epoch
	lockedUntil time.Time
	lockFor     time.Duration // the next lock, doubled with each come-home in a row
	lastMoved   time.Time
	lastHome    time.Time
	left        map[id.Node]time.Time
	pinned      bool // the balancer leaves it where it is
	uid         uint32
	comm        string
	used        image.Usage // away, up to its last homecoming, and
	usedBy      map[id.HomePID]image.Usage
	talked      float64 // away, up to its last homecoming: seconds that it waited for home for each of computing
	written     float64 // bytes per second that it wrote to its memory while it was copied last
}

// away is a process of this home that runs elsewhere.
type away struct {
	n      *Node
	r      *record
	epoch  id.Epoch
	where  id.Node
	family *image.Family
	region *region.Region
	sh     *shadow.Shadow // replaced when a homecoming is given up
	uid    uint32
	first  id.Process // of the family with which it moved; none: it moved alone
	// privileged: it had rights of root when it left, by root's explicit word.
	privileged bool
	looking    atomic.Bool
	called     atomic.Bool // home, for what observe has seen
	changes    atomic.Uint32

	mu   sync.Mutex
	conn *ferry.Stream // of the service; nil: out of reach
	seen int           // how often the guest has attached
	// within is when the short lease of the move is over, and of the last attachment: a guest that lives still has a longer one.
	within time.Time
	// While the guest's last image is here and nothing is decided, homing is there; it is closed when the homecoming has ended.
	homing  chan struct{}
	claimed bool           // the process runs here from now on, and its guest nowhere
	fallen  bool           // so it was decided for the whole family when its leases were over
	cpu     time.Duration  // used away, as the host says
	profile profile        // of it there, the same
	ended   chan struct{}  // closed when it is away no longer
	users   sync.WaitGroup // of the region
	memory  atomic.Int32   // of the shadow: held, going, gone

	signals   unheard
	executing id.Seq // the call that executes a program, while it does; guarded by mu
}

// record finds or makes the record of a process.
func (n *Node) record(p id.Process) *record {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.records[p]
	if r == nil {
		r = &record{id: p, left: map[id.Node]time.Time{}}
		n.records[p] = r
	}
	return r
}

// depart registers a process that was committed to another node: known to run there, or not yet.
func (n *Node) depart(r *record, f *image.Family, g *region.Region, where id.Node) (*away, error) {
	sh, err := shadow.Open(int(f.Process.PID), g, f, n.log)
	if err != nil {
		return nil, fmt.Errorf("take charge of the shadow of %v: %w", f.Process, err)
	}
	h := g.Header()
	freeze.PutName(&h.Peer, string(where))
	a := &away{n: n, r: r, privileged: privileged(int(f.Process.PID)), epoch: f.Epoch, where: where, family: f, region: g, sh: sh, uid: f.Members[0].UID, ended: make(chan struct{}),
		within: time.Now().Add(n.env.MoveLease + migrator.Margin)}
	if h.FamilyPID != 0 {
		a.first = id.Process{Home: n.name, PID: id.HomePID(h.FamilyPID), Start: h.FamilyStart}
	}
	a.attend(sh)
	n.mu.Lock()
	r.away, r.epoch, r.uid, r.comm = a, f.Epoch, a.uid, f.Members[0].Command
	n.records[r.id] = r // of one that was born away it may have been tidied meanwhile
	n.mu.Unlock()
	a.users.Add(1)
	n.goes(func() { defer a.users.Done(); a.keepLease() })
	return a, nil
}

// keepLease decides what becomes of a process whose guest is not heard of: before it was known to run it goes on here, later it
// has ended with its lease.
func (a *away) keepLease() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var ask inquiry
	var seen observed
	for {
		select {
		case <-a.ended:
			return
		case <-a.n.ctx.Done():
			return
		case <-tick.C:
		}
		h := a.region.Header()
		if kern.Now(kern.ClockBoottime) < int64(atomic.LoadUint64(&h.LeaseEnd)) {
			ask.begin(a)
			a.observe(&seen)
			continue
		}
		if !a.r.trip.TryLock() {
			continue // it is on its way home
		}
		if !a.expire() {
			a.r.trip.Unlock()
			continue
		}
		if st := atomic.LoadUint32(&h.State); st == stub.StateCommitted || st == stub.StateReturning {
			a.n.log.Warn("a move was not confirmed, and the lease of its guest is over: the process goes on here", "process", a.r.id)
			a.sh.Close()
			if err := ferry.Unpark(int(a.r.id.PID), a.region, a.n.code); err != nil {
				a.n.log.Error("a parked process could not be made to run on", "process", a.r.id, "err", err)
			}
			a.n.mu.Lock()
			a.r.epoch = a.epoch + 1 // the guest may have been told that it is the next
			a.n.mu.Unlock()
			a.n.isHome(a, "")
		} else {
			a.n.log.Error("the guest of a process was out of reach longer than its lease and has ended: so does the process", "process", a.r.id, "node", a.where)
			_ = kern.Kill(int(a.r.id.PID), abi.SIGKILL)
		}
		a.r.trip.Unlock()
		return
	}
}

// isHome notes that a process runs at home again.
func (n *Node) isHome(a *away, cause string) {
	n.mu.Lock()
	if a.r.away == a {
		a.r.away = nil
		a.r.lastHome = time.Now()
		a.r.talked = a.profiles().Talk
		a.r.left[a.where] = time.Now()
		if cause == causeComeHome {
			if a.r.lockFor == 0 || time.Since(a.r.lockedUntil) > a.r.lockFor*4 {
				a.r.lockFor = lockFirst
			} else {
				a.r.lockFor = min(2*a.r.lockFor, lockLongest)
			}
			a.r.lockedUntil = time.Now().Add(a.r.lockFor)
		}
	}
	n.mu.Unlock()
	a.end()
}

// A process that came home for a call it made is not sent away by the balancer for a while: twice as long each time in a row.
const (
	lockFirst   = 2 * time.Second
	lockLongest = 5 * time.Minute
)

// end closes what belongs to the absence.
func (a *away) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.ended:
		return
	default:
		close(a.ended)
	}
	if a.conn != nil {
		a.conn.Close()
	}
	a.sh.Close()
	go func() {
		a.users.Wait()
		a.region.Close()
	}()
}

// use keeps the region mapped until done is called; ok is false when the process is away no longer.
func (a *away) use() (done func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.ended:
		return nil, false
	default:
		a.users.Add(1)
		return a.users.Done, true
	}
}

// ---- what happens to the shadow goes to the host

type toHost struct {
	a *away
	s *ferry.Stream
}

func (o toHost) send(t wire.Type, w *pack.Writer) {
	if err := o.s.Send(t, o.a.epoch, w.B); err != nil {
		o.s.Close()
	}
}

// Result implements shadow.Output.
func (o toHost) Result(tid id.HomePID, seq id.Seq, res homeproxy.Result) {
	w := &pack.Writer{}
	w.U32(uint32(tid))
	w.U64(uint64(seq))
	w.B = homeproxy.AppendResult(w.B, res)
	o.send(wire.Result, w)
}

// Signal implements shadow.Output.
func (o toHost) Signal(tid id.HomePID, si abi.Siginfo) {
	o.signal(o.a.signals.add(region.Signal{TID: int(tid), Info: si}))
}

func (o toHost) signal(u numbered) {
	w := &pack.Writer{}
	w.U32(uint32(u.TID))
	w.B = append(w.B, u.Info[:]...)
	w.U64(u.number)
	w.Bool(o.a.directed(u.TID, &u.Info))
	o.send(wire.Signal, w)
}

// Stopped implements shadow.Output.
func (o toHost) Stopped(yes bool) {
	w := &pack.Writer{}
	w.Bool(yes)
	o.send(wire.Stop, w)
	if !yes && atomic.LoadUint32(&o.a.region.Header().State) == stub.StateAway {
		go o.a.continued() // the shadow's lock is held here
	}
}

// Ahead implements shadow.Output.
func (o toHost) Ahead(heard, set uint64) bool { return o.a.signals.ahead(heard, set) }

// Pends implements shadow.Output.
func (o toHost) Pends() { o.send(wire.Pends, &pack.Writer{}) }

// Ended implements shadow.Output.
func (o toHost) Ended() {
	o.send(wire.Kill, &pack.Writer{})
	go o.a.n.isGone(o.a)
}

// isGone forgets a process that has ended.
func (n *Node) isGone(a *away) {
	n.mu.Lock()
	if a.r.away == a {
		a.r.away = nil
		delete(n.records, a.r.id)
	}
	n.mu.Unlock()
	a.end()
}

// onService serves a host that has a guest of ours.
func (n *Node) onService(c transport.Conn) {
	defer c.Close()
	s := ferry.NewStream(c)
	if err := s.Hello(); err != nil {
		return
	}
	f, err := s.Expect(wire.Attach, 10*time.Second)
	if err != nil {
		return
	}
	r := pack.NewReader(f.Payload)
	p := id.Process{Home: n.name, PID: id.HomePID(r.U32()), Start: r.U64()}
	_, heard := r.U64(), r.U64()
	n.mu.Lock()
	var a *away
	if rec := n.records[p]; rec != nil {
		a = rec.away
	}
	n.mu.Unlock()
	if r.Err() != nil || a == nil || a.epoch != f.Epoch || a.where != c.Peer() {
		n.log.Warn("a guest that does not belong to a process of this home", "process", p, "epoch", f.Epoch, "host", c.Peer())
		_ = s.Send(wire.Kill, f.Epoch, nil)
		return
	}
	a.serve(s, heard)
}

// serve answers one connection of the host until it ends. heard is the last signal that the guest has got.
func (a *away) serve(s *ferry.Stream, heard uint64) {
	done, ok := a.use()
	if !ok {
		_ = s.Send(wire.Kill, a.epoch, nil)
		return
	}
	defer done()
	// Until the host has said that the guest has its long lease, it may end with a short one, and nothing must happen here that cannot
	// be undone. Who grants the long one and does not hear whether it came must wait for its end: it is granted last, on a way that
	// has answered just now.
	short, lease := atomic.LoadUint32(&a.region.Header().State) != stub.StateAway, a.n.env.Lease
	if short {
		lease = a.n.env.MoveLease
	}
	if !a.attach(lease) {
		_ = s.Send(wire.Kill, a.epoch, nil)
		return
	}
	w := &pack.Writer{}
	w.U64(uint64(lease))
	w.U64(a.shadow().SignalFDs())
	w.Bool(short)
	if err := s.Send(wire.Attached, a.epoch, w.B); err != nil {
		return
	}
	f, err := s.Recv(serviceSilence)
	if short && err == nil {
		r := pack.NewReader(f.Payload)
		at := r.U64()
		if f.Type != wire.Lease || f.Epoch != a.epoch || r.Err() != nil || !a.attach(a.n.env.Lease) {
			return
		}
		if BeforeGrant.Hit() != nil || a.grant(s, at) != nil {
			return
		}
		f, err = s.Recv(serviceSilence)
	}
	if err != nil || !a.connect(s, heard) {
		return
	}
	defer func() {
		a.mu.Lock()
		if a.conn == s {
			a.conn = nil
			a.sh.Connect(nil)
		}
		a.mu.Unlock()
	}()
	for ; err == nil; f, err = s.Recv(serviceSilence) {
		if f.Epoch != a.epoch {
			continue
		}
		a.mu.Lock()
		current := a.conn == s
		a.mu.Unlock()
		if !current {
			return
		}
		if err := a.handle(s, f); err != nil {
			a.n.log.Warn("a frame from a guest's host was not understood", "process", a.r.id, "host", a.where, "err", err)
			return
		}
	}
}

// serviceSilence is how long a guest's service may be silent: the host asks for its lease at least every two seconds.
const serviceSilence = 7 * time.Second

// attach extends the lease of the guest, unless it was decided that the process runs here.
func (a *away) attach(lease time.Duration) bool {
	a.mu.Lock()
	if a.claimed {
		a.mu.Unlock()
		return false
	}
	a.seen++
	a.within = time.Now().Add(a.n.env.MoveLease + migrator.Margin)
	h := a.region.Header()
	atomic.StoreUint64(&h.LeaseEnd, max(atomic.LoadUint64(&h.LeaseEnd), a.leaseEnd(lease)))
	homing := a.homing
	a.mu.Unlock()
	if homing != nil {
		select {
		case <-homing: // it is given up, since the guest goes on
		case <-time.After(serviceSilence):
			return true // connect will find out
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.claimed
}

// leaseEnd is when a lease that is granted now is over here.
func (a *away) leaseEnd(lease time.Duration) uint64 {
	return uint64(kern.Now(kern.ClockBoottime) + int64(lease+migrator.Margin))
}

// grant gives the host the lease for which it asked at the time at.
func (a *away) grant(s *ferry.Stream, at uint64) error {
	w := &pack.Writer{}
	w.U64(at)
	w.U64(uint64(a.n.env.Lease))
	w.U64(uint64(a.n.env.Realtime()))
	return s.Send(wire.Grant, a.epoch, w.B)
}

// connect makes s the service of the guest, which has its lease.
func (a *away) connect(s *ferry.Stream, heard uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.claimed || a.homing != nil {
		return false
	}
	if a.conn != nil {
		a.conn.Close()
	}
	a.conn = s
	a.arrived()
	out := toHost{a, s}
	for _, u := range a.signals.after(heard) {
		out.signal(u)
	}
	a.sh.Connect(out)
	return true
}

func (a *away) shadow() *shadow.Shadow {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sh
}

func (a *away) handle(s *ferry.Stream, f wire.Frame) error {
	r := pack.NewReader(f.Payload)
	switch f.Type {
	case wire.Call:
		tid, seq, restart := id.HomePID(r.U32()), id.Seq(r.U64()), r.Bool()
		if r.Err() != nil {
			return r.Err()
		}
		req, err := homeproxy.ParseRequest(r.Rest())
		if err != nil {
			return err
		}
		sh := a.shadow()
		serve := func() error { return sh.Call(tid, seq, req, restart) }
		switch req.Nr {
		case abi.SysClone:
			serve = func() error { return sh.Bear(tid, seq, req) }
		case abi.SysExecveat:
			serve = func() error { return a.exec(tid, seq, req) }
		}
		if err := serve(); err != nil {
			a.n.log.Warn("a call that the shadow cannot make", "process", a.r.id, "err", err)
			toHost{a, s}.Result(tid, seq, homeproxy.Result{Ret: -int64(kern.ENOSYS)})
		}
	case wire.Cancel:
		tid, seq := id.HomePID(r.U32()), id.Seq(r.U64())
		sh := a.shadow()
		done, ok := a.use()
		if !ok {
			return nil
		}
		go func() {
			defer done()
			if err := sh.Cancel(tid, seq); err != nil {
				a.n.log.Warn("a call could not be cancelled", "process", a.r.id, "thread", tid, "err", err)
			}
		}()
	case wire.Lease:
		at, until := r.U64(), r.U64()
		if until > at+uint64(a.n.env.MoveLease) {
			a.arrived() // a grant has reached it: it does not end with the move's short lease
		}
		atomic.StoreUint64(&a.region.Header().LeaseEnd, a.leaseEnd(a.n.env.Lease))
		return a.grant(s, at)
	case wire.Hold:
		a.shadow().HoldSignals(r.Bool())
		return s.Send(wire.Held, a.epoch, nil)
	case wire.Masks:
		masks, back, err := parseMasks(r)
		if err != nil {
			return err
		}
		a.shadow().Masks(masks, back)
	case wire.Usage:
		cpu, heard := r.U64(), r.U64()
		if r.Err() != nil {
			return r.Err()
		}
		a.mu.Lock()
		a.cpu = time.Duration(cpu)
		a.mu.Unlock()
		a.signals.after(heard)
		rest := r.Rest()
		a.n.kin.note(a.r.id, image.DecodeUsage(rest))
		if p, ok := decodeProfile(rest); ok { // an older agent tells none
			a.profiled(p)
		}
	case wire.Died:
		status := int(r.U32())
		a.n.kin.note(a.r.id, image.DecodeUsage(r.Rest()))
		go a.die(status)
	}
	return r.Err()
}

// die lets the process end at home as its guest has ended: of the same signal, or with the same status.
func (a *away) die(status int) {
	done, ok := a.use()
	if !ok {
		return
	}
	defer done()
	a.n.log.Info("a guest has ended", "process", a.r.id, "status", fmt.Sprintf("%#x", status))
	err := a.endAs(status)
	for try := 0; errors.Is(err, kern.EPERM) && try < 400; try++ { // a call that was cancelled just now: its thread is held for that
		time.Sleep(5 * time.Millisecond)
		err = a.endAs(status)
	}
	if err != nil && !errors.Is(err, tracer.ErrGone) {
		a.n.log.Error("a process could not be ended as its guest was; it is killed", "process", a.r.id, "err", err)
		_ = kern.Kill(int(a.r.id.PID), abi.SIGKILL)
	}
}

// endAs makes the shadow end with a wait status.
func (a *away) endAs(status int) error {
	pid, sig := int(a.r.id.PID), status&0x7f
	return tracer.Run(func() error {
		p, err := tracer.Open(pid, a.n.code)
		if err != nil {
			return err
		}
		defer p.Close()
		if err := thaw.Hold(p, a.region); err != nil {
			return err
		}
		l := p.Leader()
		if sig == 0 || l == nil {
			if l != nil {
				_, err = l.Call(abi.SysExitGroup, uint64(status>>8&0xff))
			}
			return err
		}
		// The memory is not here: a core file would show nothing of the program.
		clear(a.region.Scratch()[:16])
		if _, err := l.MustCall("prlimit", abi.SysPrlimit, 0, kern.LimitCore, uint64(a.region.Addr(stub.ScratchOff)), 0); err != nil {
			return err
		}
		if sig != abi.SIGKILL {
			off := stub.ScratchOff
			abi.SigAction{}.Put(a.region.B[off:])
			if _, err := l.MustBatch("rt_sigaction", []stub.Call{tracer.NewCall(abi.SysRtSigaction, uint64(sig), uint64(a.region.Addr(off)), 0, 8)}); err != nil {
				return err
			}
		}
		for _, t := range p.Held() {
			t.Mask = 0
		}
		if err := p.ReleaseAll(); err != nil {
			return err
		}
		return kern.Kill(pid, sig)
	})
}

func (n *Node) setMoving(r *record, yes bool) {
	n.mu.Lock()
	r.moving = yes
	n.mu.Unlock()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
