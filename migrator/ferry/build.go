package ferry

import (
	"errors"
	"fmt"
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/pack"
	"mosix/internal/tracer"
	"mosix/internal/wire"
	"mosix/migrator"
	"mosix/migrator/thaw"
)

// Arrived is a guest that runs here now.
type Arrived struct {
	Process  id.Process
	Offer    Offer // of its whole family
	Guest    *thaw.Guest
	PID      int
	Restarts map[id.HomePID]uint32
	Image    *image.Process
	Until    map[id.HomePID]int64
	Begun    map[id.HomePID]uint64
}

// target is one family in the making.
type target struct {
	env    *Env
	s      *Stream
	offer  Offer
	end    *migrator.End
	cgroup []string
	nest   *thaw.Nest
	member int // of whom the next frames are
	family *image.Family
}

// Admit decides about an offer: no refusals reserve a place, which is free again when done is called.
type Admit func(Offer) (refusals image.Refusals, done func(arrived bool))

// Receive takes the offer that was read from s and makes the process, and those that come with it, run here as guests. run is told
// at the moment when they do, before home is: the service of their calls must be there.
func Receive(env *Env, s *Stream, offer Offer, cgroup []string, admit Admit, run func([]*Arrived)) error {
	t := &target{env: env, s: s, offer: offer, end: migrator.NewTarget(env.MoveLease), cgroup: cgroup}
	refusals, done := admit(offer)
	if len(refusals) > 0 {
		_, _ = t.on(migrator.Refused)
		return s.Send(wire.Refuse, offer.Epoch, encodeRefusals(refusals))
	}
	arrived := false
	defer func() { done(arrived) }()
	if _, err := t.on(migrator.Accepted); err != nil {
		return err
	}
	if err := s.Send(wire.Accept, offer.Epoch, nil); err != nil {
		return err
	}
	err := tracer.Run(func() error {
		err := t.build()
		if err == nil {
			err = t.decide(run)
		}
		if err != nil && t.nest != nil && t.end.State != migrator.Running {
			t.nest.Discard()
		}
		return err
	})
	arrived = t.end.State == migrator.Running
	if err != nil && !arrived {
		var ab *AbortError
		if !errors.As(err, &ab) {
			_ = s.Send(wire.Abort, offer.Epoch, []byte(err.Error()))
		}
	}
	return err
}

func (t *target) now() time.Duration { return time.Duration(kern.Now(kern.ClockBoottime)) }

func (t *target) on(ev migrator.Event) (migrator.Action, error) { return t.end.On(ev, t.now()) }

// build goes from Prepare to the complete guest.
func (t *target) build() error {
	for {
		f, err := t.s.Recv(2 * stepTime)
		if err != nil {
			return err
		}
		if f.Epoch != t.offer.Epoch {
			return fmt.Errorf("a frame of epoch %d in a move to epoch %d", f.Epoch, t.offer.Epoch)
		}
		switch f.Type {
		case wire.Ping:
			err = t.s.pong(f.Epoch)
		case wire.Prepare:
			if err = t.prepare(f.Payload); err == nil {
				w := &pack.Writer{}
				w.Bool(t.nest.Guests[t.member].Foreign())
				err = t.s.Send(wire.Prepared, f.Epoch, w.B)
			}
			err = errors.Join(err, AtBuild.Hit())
		case wire.Member:
			t.member, err = t.offer.member(f.Payload)
		case wire.Layout:
			err = t.needs(func(g *thaw.Guest) error {
				as, zap, err := decodeLayout(f.Payload)
				if err != nil {
					return err
				}
				return g.Layout(as, zap)
			})
		case wire.Pages:
			err = t.needs(func(g *thaw.Guest) error { return g.Pages(f.Payload) })
			reuse(f.Payload)
		case wire.File:
			err = t.needs(func(g *thaw.Guest) error {
				o, size, off, data, err := decodeFile(f.Payload)
				if err != nil {
					return err
				}
				return g.File(o, size, off, data)
			})
		case wire.RoundEnd:
			if err = t.needs(t.settle); err == nil {
				err = errors.Join(t.s.Send(wire.RoundAck, f.Epoch, nil), AtPages.Hit())
			}
		case wire.Final:
			return t.needs(func(*thaw.Guest) error { return t.complete(f.Payload) })
		case wire.Abort:
			_, _ = t.on(migrator.DoAbort)
			return &AbortError{Why: string(f.Payload)}
		default:
			err = fmt.Errorf("a frame of type %d while a guest is built", f.Type)
		}
		if err != nil {
			return err
		}
	}
}

// needs runs f once the empty process stands.
func (t *target) needs(f func(*thaw.Guest) error) error {
	if t.nest == nil || t.member >= len(t.nest.Guests) {
		return errors.New("memory came before the process was prepared")
	}
	return f(t.nest.Guests[t.member])
}

func (t *target) settle(*thaw.Guest) error {
	for _, g := range t.nest.Guests {
		if err := g.Settle(); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the empty process that is next in the family.
func (t *target) prepare(payload []byte) error {
	n := 0
	if t.nest != nil {
		n = len(t.nest.Guests)
	}
	if t.member != n {
		return fmt.Errorf("a Prepare for member %d of a family of which %d are there", t.member, n)
	}
	plan := thaw.Plan{Process: t.offer.Family()[n], Cgroup: t.cgroup, Filter: filterBytes()}
	err := decodePlan(payload, &plan)
	if err != nil {
		return fmt.Errorf("read the plan of the guest: %w", err)
	}
	t.correct(&plan)
	if n > 0 {
		return t.nest.Join(plan, t.env.Code)
	}
	t.nest, err = thaw.Prepare(plan, t.env.Code)
	return err
}

// filterBytes is the seccomp program as the kernel reads it.
func filterBytes() []byte {
	w := &pack.Writer{}
	for _, i := range homeproxy.Filter(homeproxy.FilterOptions{}) {
		w.U8(uint8(i.Code))
		w.U8(uint8(i.Code >> 8))
		w.U8(i.Jt)
		w.U8(i.Jf)
		w.U32(i.K)
	}
	return w.B
}

// pong answers a Ping with this node's clocks.
func (s *Stream) pong(e id.Epoch) error {
	w := &pack.Writer{}
	w.U64(uint64(kern.Now(kern.ClockMonotonic)))
	w.U64(uint64(kern.Now(kern.ClockBoottime)))
	return s.Send(wire.Pong, e, w.B)
}

// awaitCommit reads the frame after Ready, for at most d; meanwhile it answers the source's Pings. short is called when the
// source tells that its copy lives no longer than the lease of a move from now on.
func (s *Stream) awaitCommit(d time.Duration, short func()) (wire.Frame, error) {
	end := time.Now().Add(d)
	for {
		f, err := s.Recv(max(time.Until(end), time.Millisecond))
		if err != nil || f.Type != wire.Ping {
			return f, err
		}
		if len(f.Payload) > 0 && short != nil {
			short()
		}
		if err := s.pong(f.Epoch); err != nil {
			return f, err
		}
	}
}

func (t *target) complete(payload []byte) error {
	f, err := image.Decode(payload)
	if err != nil {
		return err
	}
	if f.Process != t.offer.Process || f.Epoch != t.offer.Epoch {
		return fmt.Errorf("the image is of %v, epoch %d; offered was %v, epoch %d", f.Process, f.Epoch, t.offer.Process, t.offer.Epoch)
	}
	t.family = f
	var took phases
	took.mark("")
	if _, err := t.on(migrator.GotFinal); err != nil {
		return err
	}
	if err := t.nest.Final(f); err != nil {
		return err
	}
	took.mark("complete")
	if err := AtComplete.Hit(); err != nil {
		return err
	}
	if err := t.nest.Ready(t.env.MoveLease, t.offer.Epoch, t.env.Node); err != nil {
		return err
	}
	if _, err := t.on(migrator.BeReady); err != nil {
		return err
	}
	if err := t.s.Send(wire.Ready, t.offer.Epoch, nil); err != nil {
		return err
	}
	took.mark("keeper")
	t.env.Log.Debug("thawed", append([]any{"process", t.offer.Process, "areas", len(f.Members[0].Areas)}, took.took...)...)
	return AtSaidReady.Hit()
}

// decide waits for Commit, and lets the guest run if it comes in time.
func (t *target) decide(run func([]*Arrived)) error {
	f, err := t.s.awaitCommit(t.env.MoveLease, nil)
	ev := migrator.DoCommit
	switch {
	case err != nil:
		ev = migrator.Lost
	case f.Type == wire.Abort:
		ev, err = migrator.DoAbort, &AbortError{Why: string(f.Payload)}
	case f.Type != wire.Commit || f.Epoch != t.offer.Epoch:
		ev, err = migrator.Failed, fmt.Errorf("a frame of type %d, epoch %d, where Commit was due", f.Type, f.Epoch)
	}
	act, merr := t.on(ev)
	if err == nil {
		err = merr
	}
	if err != nil {
		return err
	}
	if act != migrator.Go {
		return errors.New("the word to commit came after the lease of the guest: the copy was discarded, the process runs on at its home")
	}
	if err := AtGotCommit.Hit(); err != nil {
		t.nest.Discard()
		return err
	}
	if ClockUncorrected.Hit() == nil {
		t.env.awaitClocks(t.family, t.nest.Guests[0].Plan.Clocks, false)
	}
	all := t.arrived()
	run(all)
	for _, a := range all {
		if !a.Image.Stopped {
			continue
		}
		if err := kern.Kill(a.PID, abi.SIGSTOP); err != nil {
			return err
		}
	}
	if err := t.nest.Run(); err != nil {
		return err
	}
	// From here on nothing takes it back: home hears of it now, or when the guest attaches.
	if err := errors.Join(AtRun.Hit(), t.s.Send(wire.Running, t.offer.Epoch, nil), AtSaidRunning.Hit()); err != nil {
		t.env.Log.Info("a guest runs, and its home was not told on the way that it came", "process", t.offer.Process, "err", err)
	}
	return nil
}

// arrived tells of the guests what this agent must know to serve them.
func (t *target) arrived() []*Arrived {
	var all []*Arrived
	for n, g := range t.nest.Guests {
		m := &t.family.Members[n]
		a := &Arrived{Process: g.Plan.Process, Offer: t.offer, Guest: g, PID: g.P.PID, Restarts: map[id.HomePID]uint32{}, Until: map[id.HomePID]int64{}, Begun: map[id.HomePID]uint64{}, Image: m}
		for i := range m.Threads {
			if th := &m.Threads[i]; th.Begun > 0 {
				a.Begun[th.TID] = th.Begun
			}
			if th := &m.Threads[i]; int64(th.Regs.RAX) == -abi.ERestartBlock {
				a.Restarts[th.TID] = uint32(th.Regs.OrigRAX)
				if th.Until != 0 {
					a.Until[th.TID] = th.Until
				}
			}
		}
		all = append(all, a)
	}
	return all
}

// member reads whose the next frames are.
func (o *Offer) member(payload []byte) (int, error) {
	r := pack.NewReader(payload)
	n := int(r.U32())
	if r.Err() != nil || n < 0 || n > len(o.Others) {
		return 0, fmt.Errorf("frames of member %d of a family of %d", n, len(o.Others)+1)
	}
	return n, nil
}
