package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mosix/homeproxy"
	"mosix/homeproxy/guest"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/pack"
	"mosix/internal/tracer"
	"mosix/internal/transport"
	"mosix/internal/wire"
	"mosix/migrator"
	"mosix/migrator/ferry"
	"mosix/migrator/freeze"
	"mosix/node/api"
	"mosix/node/metrics"
)

// tenant is a guest of this node.
type tenant struct {
	n       *Node
	g       *guest.Guest
	uid     uint32
	command string
	before  time.Duration // CPU time that it had used when it came
	came    time.Time
	trip    sync.Mutex // held on the way home
	parent  *tenant    // of one that was born here
	company *company   // nil: it came alone, or was born here

	mu     sync.Mutex
	conn   *ferry.Stream
	held   chan struct{} // home keeps signals
	doomed bool          // committed to home: no lease is asked for any more
	paused bool          // its last image is on its way home: it must not attach
	lost   func() bool   // on its way home: whether home is out of reach
	done   chan struct{}
	once   sync.Once

	sigs  sync.Mutex    // guards heard
	heard uint64        // the last signal that was taken for the guest
	taken atomic.Uint64 // the same, for whoever holds the guest
}

// receive takes a guest.
func (n *Node) receive(from id.Node, s *ferry.Stream, offer ferry.Offer) {
	t0 := time.Now()
	if offer.Process.Home != from {
		_ = s.Send(wire.Refuse, offer.Epoch, nil)
		return
	}
	var ts []*tenant
	var reap func()
	err := ferry.Receive(&n.env, s, offer, n.conf.Cgroup, n.admit(from), func(as []*ferry.Arrived) {
		if ts = n.newTenants(as); ts != nil {
			reap = as[0].Guest.Reap
		}
	})
	if reap != nil { // only now: while the keeper is traced, a wait for its end would take its stops away from the tracer
		n.goes(reap)
	}
	v := metrics.Move{Direction: metrics.In, Cause: offer.Cause, Total: time.Since(t0), Result: api.ResultMoved, Bytes: s.Sent}
	if err != nil {
		v.Result = api.ResultFailed
		n.log.Warn("a guest did not arrive", "process", offer.Process, "from", from, "err", err)
		for _, t := range ts {
			t.forget()
		}
	} else if ts == nil {
		v.Result = api.ResultRefused
	}
	if err == nil {
		for _, t := range ts {
			t.g.Begin()
		}
	}
	n.met.MoveDone(v)
}

// newTenants takes charge of guests that are about to run.
func (n *Node) newTenants(as []*ferry.Arrived) []*tenant {
	first := as[0].Guest
	den := &guest.Den{Keeper: first.Region(), KeeperID: first.KeeperPID(), Cgroups: first.Cgroups, Log: n.log}
	var together *company
	if len(as) > 1 {
		together = &company{}
	}
	var ts []*tenant
	for entry, a := range as {
		t := &tenant{n: n, uid: a.Image.UID, command: a.Image.Command, before: time.Duration(a.Image.CPUTime + a.Image.Away.Run), came: time.Now(),
			done: make(chan struct{}), held: make(chan struct{}, 1), company: together}
		g, err := guest.New(guest.Options{Process: a.Process, Epoch: a.Offer.Epoch, PID: a.PID, Den: den, Entry: entry, Region: a.Guest.P.Region,
			Listener: a.Guest.Listener, Clocks: a.Guest.Plan.Clocks, Restarts: a.Restarts, Until: a.Until, Begun: a.Begun, Image: a.Image, Link: t, Log: n.log, Code: n.code})
		if err != nil {
			n.log.Error("a guest cannot be served", "process", a.Process, "err", err)
			first.Discard()
			return nil
		}
		t.g = g
		ts = append(ts, t)
	}
	for _, t := range ts { // when all are known: they go home together
		if together != nil {
			together.all = append(together.all, t)
		}
	}
	for _, t := range ts {
		t.take(t.g)
	}
	return ts
}

// take begins the service of a guest.
func (t *tenant) take(g *guest.Guest) {
	t.g = g
	g.OnComeHome, g.OnCall = t.n.met.ComeHome, t.n.met.Call
	t.n.mu.Lock()
	t.n.guests[g.Process] = t
	t.n.mu.Unlock()
	g.Serve()
	t.n.goes(t.serve)
}

// forget ends everything about a guest that is no more.
func (t *tenant) forget() {
	t.once.Do(func() {
		close(t.done)
		t.n.mu.Lock()
		if t.n.guests[t.g.Process] == t {
			delete(t.n.guests, t.g.Process)
		}
		t.n.leaving[t.g.Process]++
		t.n.mu.Unlock()
		t.mu.Lock()
		if t.conn != nil {
			t.conn.Close()
		}
		t.mu.Unlock()
		t.g.Kill()
		t.g.AwaitEnd(time.Second)
		if t.parent != nil {
			t.parent.g.Parted(t.g.Process.PID)
		}
		t.g.Stop()
		t.g.Close()
		t.n.mu.Lock()
		if t.n.leaving[t.g.Process]--; t.n.leaving[t.g.Process] == 0 {
			delete(t.n.leaving, t.g.Process)
		}
		t.n.mu.Unlock()
	})
}

// serve keeps the connection with home, for as long as the guest lives.
func (t *tenant) serve() {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 300*time.Millisecond) {
		select {
		case <-t.done:
			return
		case <-t.n.ctx.Done():
			t.g.Stop()
			return
		default:
		}
		began := time.Now()
		if err := t.attach(); err != nil {
			t.n.log.Debug("home is out of reach", "process", t.g.Process, "err", err)
		}
		if time.Since(began) > time.Second {
			wait = 20 * time.Millisecond
		}
		select {
		case <-t.done:
			return
		case <-t.n.ctx.Done():
			t.g.Stop()
			return
		case <-time.After(wait):
		}
	}
}

// attach connects, and serves until the connection ends.
func (t *tenant) attach() error {
	if !t.mayAttach() {
		return errors.New("the guest is on its way home")
	}
	s, err := t.n.dial(t.n.ctx, t.g.Process.Home, transport.ProtoService)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Hello(); err != nil {
		return err
	}
	at, err := t.sayAttach(s)
	if err != nil {
		return err
	}
	f, err := s.Recv(10 * time.Second)
	if err != nil {
		return err
	}
	if f.Type == wire.Kill {
		t.n.log.Warn("home does not know this guest (any more): it is ended", "process", t.g.Process, "epoch", t.g.Epoch)
		go t.forget()
		return nil
	}
	if f.Type != wire.Attached {
		return fmt.Errorf("home answered with a frame of type %d", f.Type)
	}
	r := pack.NewReader(f.Payload)
	lease, fds, short := r.U64(), r.U64(), r.Bool()
	if r.Err() != nil {
		return r.Err()
	}
	t.g.SetSignalFDs(fds)
	if short {
		if at, lease, err = t.firstLease(s, at+lease); err != nil {
			return err
		}
	}
	t.mu.Lock()
	if err = t.extend(at + lease); err != nil {
		t.mu.Unlock()
		return err
	}
	err = t.askLease(s) // so home knows that the guest has its lease, before the first call comes
	t.conn = s
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		if t.conn == s {
			t.conn = nil
		}
		t.mu.Unlock()
	}()
	if err != nil {
		return err
	}
	t.g.Resend()
	stop := make(chan struct{})
	defer close(stop)
	go t.renew(s, stop)
	for {
		f, err := s.Recv(serviceSilence)
		if err != nil {
			return err
		}
		if f.Epoch == t.g.Epoch {
			if err := t.handle(f); err != nil {
				return err
			}
		}
	}
}

// firstLease has the short lease until end and asks for the long one. It returns from when that counts, and how long it is in ns.
func (t *tenant) firstLease(s *ferry.Stream, end uint64) (at, lease uint64, err error) {
	t.mu.Lock()
	err = t.extend(max(end, t.g.Deadline()))
	t.mu.Unlock()
	if err != nil {
		return 0, 0, err
	}
	if err := t.askLease(s); err != nil {
		return 0, 0, err
	}
	f, err := s.Expect(wire.Grant, serviceSilence)
	if err != nil {
		return 0, 0, err
	}
	r := pack.NewReader(f.Payload)
	at, lease = r.U64(), r.U64()
	t.follow(at, r)
	return at, lease, r.Err()
}

// extend gives the guest until end, unless it goes home or is about to end. t.mu is held.
func (t *tenant) extend(end uint64) error {
	if t.doomed || t.paused || t.g.Expires() < lastMoment/4 {
		return errors.New("the guest has set out for home meanwhile, or its lease is over")
	}
	t.g.SetDeadline(end)
	return nil
}

// mayAttach reports whether the guest still, or again, belongs here.
func (t *tenant) mayAttach() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.doomed && !t.paused && t.g.Expires() > lastMoment
}

// lastMoment is how long before the end of its lease a guest does not attach any more: home, which must not decide while it
// talks with a guest that lives, would take the word of one that is dead a moment later.
const lastMoment = time.Second

// sayAttach tells home which guest this is and which signals it has. It returns the time from which the lease counts.
func (t *tenant) sayAttach(s *ferry.Stream) (at uint64, err error) {
	t.sigs.Lock()
	heard := t.heard
	t.sigs.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock() // so that no guest attaches after its last image was sent
	if t.doomed || t.paused {
		return 0, errors.New("the guest has set out for home meanwhile")
	}
	at = uint64(kern.Now(kern.ClockBoottime))
	w := &pack.Writer{}
	w.U32(uint32(t.g.Process.PID))
	w.U64(t.g.Process.Start)
	w.U64(at)
	w.U64(heard)
	return at, s.Send(wire.Attach, t.g.Epoch, w.B)
}

// signal takes a signal for the guest, once.
func (t *tenant) signal(tid id.HomePID, si abi.Siginfo, directed bool, number uint64) {
	t.sigs.Lock()
	defer t.sigs.Unlock()
	if number <= t.heard {
		return
	}
	t.g.Signal(tid, si, directed)
	t.heard = number
	t.taken.Store(number)
}

// pause ends the service before the guest's last image is sent.
func (t *tenant) pause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.paused = true
	if t.conn != nil {
		t.conn.Close()
		t.conn = nil
	}
}

// resume begins the service anew, for a guest that goes on here.
func (t *tenant) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.paused, t.lost = false, nil
}

// renew asks for the lease, at once and again and again.
func (t *tenant) renew(s *ferry.Stream, stop chan struct{}) {
	tick := time.NewTicker(max(min(t.n.env.Lease/4, 2*time.Second), 50*time.Millisecond))
	defer tick.Stop()
	for {
		if err := t.askLease(s); err != nil {
			s.Close()
			return
		}
		_ = s.Send(wire.Usage, t.g.Epoch, t.usage().B)
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// usage tells home what the guest has used, what it has heard, and how it talks.
func (t *tenant) usage() *pack.Writer {
	u := &pack.Writer{}
	u.U64(uint64(t.cpu()))
	t.sigs.Lock()
	u.U64(t.heard)
	t.sigs.Unlock()
	u.B = append(u.B, t.g.Used().Encode()...)
	t.profile().encode(u)
	return u
}

// askLease asks for the lease, and says until when the guest has it now.
func (t *tenant) askLease(s *ferry.Stream) error {
	w := &pack.Writer{}
	w.U64(uint64(kern.Now(kern.ClockBoottime)))
	w.U64(t.g.Deadline())
	return s.Send(wire.Lease, t.g.Epoch, w.B)
}

func (t *tenant) handle(f wire.Frame) error {
	r := pack.NewReader(f.Payload)
	switch f.Type {
	case wire.Result:
		tid, seq := id.HomePID(r.U32()), id.Seq(r.U64())
		if r.Err() != nil {
			return r.Err()
		}
		res, err := homeproxy.ParseResult(r.Rest())
		if err != nil {
			return err
		}
		t.g.Result(tid, seq, res)
	case wire.Signal:
		tid := id.HomePID(r.U32())
		var si abi.Siginfo
		if rest := r.Rest(); len(rest) >= len(si)+8 {
			copy(si[:], rest)
			rest = rest[len(si):]
			t.signal(tid, si, len(rest) > 8 && rest[8] == 1, binary.LittleEndian.Uint64(rest))
		}
	case wire.Held:
		select {
		case t.held <- struct{}{}:
		default:
		}
	case wire.Stop:
		t.g.StopGuest(r.Bool())
	case wire.Grant:
		at, d := r.U64(), r.U64()
		t.follow(at, r)
		t.mu.Lock()
		if !t.doomed && !t.paused { // asking the guest here would wait for one that waits to send
			short := t.g.Deadline() <= at+uint64(t.n.env.MoveLease)
			t.g.SetDeadline(at + d)
			if s := t.conn; short && s != nil {
				go func() { _ = t.askLease(s) }() // home gives its copy up when it knows
			}
		}
		t.mu.Unlock()
	case wire.Recall:
		cause := r.String()
		go func() {
			if err := t.n.sendHome(t, cause); err != nil && !errors.Is(err, errOnItsWay) {
				t.n.log.Warn("a guest that was called home stays", "process", t.g.Process, "err", err)
			}
		}()
	case wire.Pends:
		t.g.Pends()
	case wire.Kill:
		go t.forget()
	}
	return r.Err()
}

// follow takes home's clock out of the rest of a Grant, which answers what was asked at the time at; an older agent does not
// tell it.
func (t *tenant) follow(at uint64, r *pack.Reader) {
	rest := r.Rest()
	took := time.Duration(kern.Now(kern.ClockBoottime) - int64(at))
	t.n.balance.answered(t.g.Process.Home, took+callHere)
	if len(rest) >= 8 && ferry.ClockUncorrected.Hit() == nil {
		t.g.Follow(int64(binary.LittleEndian.Uint64(rest)), took)
	}
}

// cpu is the CPU time that the guest has used in all.
func (t *tenant) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.g.PID))
	if err != nil {
		return t.before
	}
	return t.before + freeze.CPUTime(b)
}

// ---- guest.Link

func (t *tenant) send(typ wire.Type, w *pack.Writer) {
	t.mu.Lock()
	s := t.conn
	t.mu.Unlock()
	if s == nil {
		return // Resend repeats it
	}
	if err := s.Send(typ, t.g.Epoch, w.B); err != nil {
		s.Close()
	}
}

// Call implements guest.Link.
func (t *tenant) Call(tid id.HomePID, seq id.Seq, req homeproxy.Request, restart bool) {
	w := &pack.Writer{B: make([]byte, 0, 256)}
	w.U32(uint32(tid))
	w.U64(uint64(seq))
	w.Bool(restart)
	if req.Nr == abi.SysRtSigtimedwait {
		req.Heard = t.taken.Load()
	}
	w.B = homeproxy.AppendRequest(w.B, req)
	t.send(wire.Call, w)
}

// Cancel implements guest.Link.
func (t *tenant) Cancel(tid id.HomePID, seq id.Seq) {
	w := &pack.Writer{}
	w.U32(uint32(tid))
	w.U64(uint64(seq))
	t.send(wire.Cancel, w)
}

// Heard implements guest.Link.
func (t *tenant) Heard() uint64 {
	t.sigs.Lock()
	defer t.sigs.Unlock()
	return t.heard
}

// Hold implements guest.Link.
func (t *tenant) Hold() error {
	select {
	case <-t.held:
	default:
	}
	w := &pack.Writer{}
	w.Bool(true)
	t.send(wire.Hold, w)
	t.mu.Lock()
	lost := t.lost
	t.mu.Unlock()
	for late := time.Now().Add(3 * time.Second); ; {
		select {
		case <-t.held:
			return nil
		case <-t.done:
			return tracer.ErrGone
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(late) || lost != nil && lost() {
			return errors.New("home does not answer on the connection of the guest's calls")
		}
	}
}

// Unhold implements guest.Link.
func (t *tenant) Unhold() {
	w := &pack.Writer{}
	w.Bool(false)
	t.send(wire.Hold, w)
}

// Died implements guest.Link: home is told until it knows.
func (t *tenant) Died(status int) {
	go func() {
		for {
			w := &pack.Writer{}
			w.U32(uint32(status))
			w.B = append(w.B, t.g.Used().Encode()...)
			t.send(wire.Died, w)
			select {
			case <-t.done:
				return
			case <-t.n.ctx.Done():
				return
			case <-time.After(300 * time.Millisecond):
			}
		}
	}()
}

// Expired implements guest.Link.
func (t *tenant) Expired() {
	t.n.log.Warn("the lease of a guest is over: it has ended, and its home decides", "process", t.g.Process, "epoch", t.g.Epoch)
	go t.forget()
}

// WantHome implements guest.Link.
func (t *tenant) WantHome(call string) {
	t.n.log.Info("a guest goes home for a call", "process", t.g.Process, "call", call)
	go func() {
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
			err := t.n.sendHome(t, causeComeHome)
			if err == nil {
				return
			}
			if !errors.Is(err, errOnItsWay) { // that journey may be given up, and nobody would ask again
				t.n.log.Warn("a guest cannot go home yet; its call waits", "process", t.g.Process, "call", call, "err", err)
			}
			select {
			case <-t.done:
				return
			case <-t.n.ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}()
}

// awaitOwnMemory waits until a guest has memory of its own: one that vfork or posix_spawn has made uses its parent's until it executes
// a program, and what it writes at home its parent would not see.
func (t *tenant) awaitOwnMemory() error {
	for late := time.Now().Add(2 * time.Second); t.g.Borrows(); time.Sleep(time.Millisecond) {
		select {
		case <-t.done:
			return nil
		default:
		}
		if time.Now().After(late) {
			return errors.New("it uses the memory of its parent (vfork) until it executes a program: try again later")
		}
	}
	return nil
}

var errOnItsWay = errors.New("it is on its way home already")

// sendHome brings a guest home, and those that came with it. It is no error when it has ended or gone meanwhile.
func (n *Node) sendHome(t *tenant, cause string) error {
	if cause != causeComeHome {
		if err := t.awaitOwnMemory(); err != nil {
			return err
		}
	}
	ts, unlock := t.together()
	if ts == nil {
		select {
		case <-t.done:
			return nil
		default:
			return errOnItsWay
		}
	}
	defer unlock()
	s, err := n.dial(context.Background(), t.g.Process.Home, transport.ProtoMove)
	if err != nil {
		return err
	}
	defer s.Close()
	first := ts[0]
	offer := ferry.Offer{Process: first.g.Process, Homeward: true, UID: first.uid, Command: first.command, Cause: cause}
	var family []ferry.Service
	for _, x := range ts {
		offer.Epoch = max(offer.Epoch, x.g.Epoch+1)
		if x != first {
			offer.Others = append(offer.Others, x.g.Process)
		}
		lost := func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			return x.conn == nil || s.Err() != nil
		}
		x.mu.Lock()
		x.lost = lost
		x.mu.Unlock()
		x.send(wire.Usage, x.usage()) // home remembers how it has talked
		family = append(family, ferry.Service{Guest: x.g, Lost: lost, Pause: x.pause})
	}
	out, err := ferry.SendHome(&n.env, s, offer, family)
	v := metrics.Move{Direction: metrics.Back, Cause: cause, Result: api.ResultMoved, Freeze: out.Stats.Freeze, Total: out.Stats.Total, Bytes: out.Stats.Bytes, Rounds: out.Stats.Rounds}
	switch out.State {
	case migrator.Gone:
		err = nil
		for _, x := range ts {
			x.forget()
		}
	case migrator.Committed:
		n.log.Warn("a guest was given back and the answer lost; its lease ends it", "process", first.g.Process, "err", err)
		v.Result, err = api.ResultFailed, nil
		for _, x := range ts {
			x.doom()
		}
	default:
		for _, x := range ts {
			x.resume()
		}
		v.Result = api.ResultFailed
	}
	n.met.MoveDone(v)
	return err
}

// doom lets a guest end with its lease, which was shortened: its home has the process.
func (t *tenant) doom() {
	t.mu.Lock()
	t.doomed = true
	if t.conn != nil {
		t.conn.Close()
	}
	t.mu.Unlock()
	t.n.goes(func() {
		select {
		case <-t.n.ctx.Done():
		case <-time.After(t.n.env.MoveLease + migrator.Margin):
			t.forget()
		}
	})
}

// stillHere reports whether one of ps is a guest here, and is so for a while: home, which knows best, may have heard of its return before
// this node has.
func (n *Node) stillHere(ps []id.Process) bool {
	for late := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		n.mu.Lock()
		here := slices.ContainsFunc(ps, func(p id.Process) bool { return n.guests[p] != nil })
		n.mu.Unlock()
		if !here || time.Now().After(late) {
			return here
		}
	}
}

// admit decides about guests.
func (n *Node) admit(from id.Node) ferry.Admit {
	return func(o ferry.Offer) (image.Refusals, func(bool)) {
		here := n.stillHere(o.Family())
		highest := 0
		for _, p := range o.Family() {
			highest = max(highest, int(p.PID))
		}
		var rs image.Refusals
		what, why := n.closed()
		switch {
		case what != "":
			rs = append(rs, image.Refusal{What: what, Why: fmt.Sprintf("%s takes no guests: %s.", n.name, why)})
		case here:
			rs = append(rs, image.Refusal{What: "still-here", Why: "An earlier copy of this process has not ended yet on " + string(n.name) + "; try again in a moment."})
		}
		if why := n.crowded(newcomers{home: from, uid: o.UID, known: true, count: len(o.Family()), bytes: o.Bytes, ready: o.Ready}); why != "" && !here {
			rs = append(rs, image.Refusal{What: "guest-limit", Why: fmt.Sprintf("%s takes no more guests like it: %s.", n.name, why)})
		}
		if highest >= n.target.PIDMax {
			rs = append(rs, image.Refusal{What: "pid-max", Why: fmt.Sprintf("The process number is above what %s can give.", n.name), Evidence: fmt.Sprintf("kernel.pid_max = %d", n.target.PIDMax)})
		}
		if len(rs) > 0 {
			return rs, nil
		}
		ok, why := n.balance.accept(from, o)
		if !ok {
			return image.Refusals{{What: "target-refuses", Why: string(n.name) + " does not take it: " + why}}, nil
		}
		return nil, func(arrived bool) { n.balance.landed(o, arrived) }
	}
}
