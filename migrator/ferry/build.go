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
	Offer    Offer
	Guest    *thaw.Guest
	PID      int
	Restarts map[id.HomePID]uint32
	Image    *image.Process
	Until    map[id.HomePID]int64
}

// target is one guest in the making.
type target struct {
	env    *Env
	s      *Stream
	offer  Offer
	end    *migrator.End
	cgroup []string
	g      *thaw.Guest
	family *image.Family
}

// Admit decides about an offer: no refusals reserve a place, which is free again when done is called.
type Admit func(Offer) (refusals image.Refusals, done func(arrived bool))

// Receive takes the offer that was read from s and makes the process run here, as a guest. accept is told at the moment when it
// runs, before home is: the service of its calls must be there.
func Receive(env *Env, s *Stream, offer Offer, cgroup []string, admit Admit, run func(*Arrived)) error {
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
		if err != nil && t.g != nil && t.end.State != migrator.Running {
			t.g.Discard()
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
				err = t.s.Send(wire.Prepared, f.Epoch, nil)
			}
			err = errors.Join(err, AtBuild.Hit())
		case wire.Layout:
			err = t.needs(func() error {
				as, zap, err := decodeLayout(f.Payload)
				if err != nil {
					return err
				}
				return t.g.Layout(as, zap)
			})
		case wire.Pages:
			err = t.needs(func() error { return t.g.Pages(f.Payload) })
			reuse(f.Payload)
		case wire.File:
			err = t.needs(func() error {
				o, size, off, data, err := decodeFile(f.Payload)
				if err != nil {
					return err
				}
				return t.g.File(o, size, off, data)
			})
		case wire.RoundEnd:
			if err = t.needs(t.settle); err == nil {
				err = errors.Join(t.s.Send(wire.RoundAck, f.Epoch, nil), AtPages.Hit())
			}
		case wire.Final:
			return t.needs(func() error { return t.complete(f.Payload) })
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
func (t *target) needs(f func() error) error {
	if t.g == nil {
		return errors.New("memory came before the process was prepared")
	}
	return f()
}

func (t *target) settle() error { return t.g.Settle() }

func (t *target) prepare(payload []byte) error {
	if t.g != nil {
		return errors.New("a second Prepare in one move")
	}
	plan := thaw.Plan{Process: t.offer.Process, Cgroup: t.cgroup, Filter: filterBytes()}
	err := decodePlan(payload, &plan)
	if err != nil {
		return fmt.Errorf("read the plan of the guest: %w", err)
	}
	t.correct(&plan)
	t.g, err = thaw.Prepare(plan, t.env.Code)
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
	if err := t.g.Final(f); err != nil {
		return err
	}
	took.mark("complete")
	if err := AtComplete.Hit(); err != nil {
		return err
	}
	if err := t.g.Ready(t.env.MoveLease, t.offer.Epoch, t.env.Node); err != nil {
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
func (t *target) decide(run func(*Arrived)) error {
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
		t.g.Discard()
		return err
	}
	a := &Arrived{Offer: t.offer, Guest: t.g, PID: t.g.P.PID, Restarts: map[id.HomePID]uint32{}, Until: map[id.HomePID]int64{}, Image: &t.family.Members[0]}
	for i := range t.family.Members[0].Threads {
		if th := &t.family.Members[0].Threads[i]; int64(th.Regs.RAX) == -516 {
			a.Restarts[th.TID] = uint32(th.Regs.OrigRAX)
			if th.Until != 0 {
				a.Until[th.TID] = th.Until
			}
		}
	}
	if ClockUncorrected.Hit() == nil {
		t.env.awaitClocks(t.family, t.env.readings(t.g.Plan.Clocks))
	}
	run(a)
	if a.Image.Stopped {
		if err := kern.Kill(a.PID, abi.SIGSTOP); err != nil {
			return err
		}
	}
	if err := t.g.Run(); err != nil {
		return err
	}
	// From here on nothing takes it back: home hears of it now, or when the guest attaches.
	if err := errors.Join(AtRun.Hit(), t.s.Send(wire.Running, t.offer.Epoch, nil), AtSaidRunning.Hit()); err != nil {
		t.env.Log.Info("a guest runs, and its home was not told on the way that it came", "process", t.offer.Process, "err", err)
	}
	return nil
}
