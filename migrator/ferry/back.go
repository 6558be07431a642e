package ferry

import (
	"errors"
	"fmt"
	"os"
	"time"

	"mosix/homeproxy/guest"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/pack"
	"mosix/internal/tracer"
	"mosix/internal/wire"
	"mosix/migrator"
	"mosix/migrator/freeze"
	"mosix/migrator/pages"
	"mosix/migrator/thaw"
)

// homeward is a family of guests on its way to its shadows.
type homeward struct {
	source
	all []*returner
}

// returner is one of its members.
type returner struct {
	id      id.Process
	n       int // in the family
	g       *guest.Guest
	service Service
	src     *pages.Source
	view    adviser
	p       *tracer.Process  // held
	pending []guest.Returned // signals that were on their way into it
}

// Service is what a guest's agent does for it besides moving it.
type Service struct {
	Guest *guest.Guest
	Lost  func() bool // whether home is out of reach: asked while threads are being stopped
	Pause func()      // ends the service: the guest makes no more calls before it has attached anew
}

// SendHome brings guests of this node, of one family, back into their shadows, over s. It returns when the processes run at home, or
// the guests run on here. After Committed the guests are held and must be ended or asked about; their lease, which was shortened,
// ends them.
func SendHome(env *Env, s *Stream, offer Offer, family []Service) (Outcome, error) {
	m := &homeward{source: source{env: env, s: s, offer: offer, end: migrator.NewSource(), t0: time.Now()}}
	for n, who := range offer.Family() {
		m.all = append(m.all, &returner{id: who, n: n, g: family[n].Guest, service: family[n]})
	}
	m.out.Stats.Strategy = strategy(env.Rounds)
	err := m.negotiate()
	if err == nil {
		err = m.copyAndGo()
	}
	m.out.State = m.end.State
	m.out.Stats.Total = time.Since(m.t0)
	s.mu.Lock()
	m.out.Stats.Bytes = s.Sent
	s.mu.Unlock()
	m.out.Stats.Rounds = len(m.round)
	return m.out, err
}

func (m *homeward) copyAndGo() error {
	if _, err := m.on(migrator.Prepared); err != nil {
		return err
	}
	defer func() {
		for _, t := range m.all {
			if t.src != nil {
				t.src.Close()
			}
		}
	}()
	watched := true
	for _, t := range m.all {
		p, err := tracer.Open(t.g.PID, m.env.Code)
		if err != nil {
			return m.stay(err)
		}
		p.Close()
		watched = watched && m.watch(t)
	}
	if watched {
		if err := m.rounds(); err != nil {
			return m.stay(err)
		}
	}
	return tracer.Run(m.freezeAndGo)
}

// watch begins to note writes, through a thread that computes. A guest whose threads all wait in calls writes nothing: it, and
// who goes with it, is copied when it is held.
func (m *homeward) watch(t *returner) bool {
	if m.env.Rounds == 0 {
		return false
	}
	host := t.g.Computing()
	if host == 0 {
		m.env.Log.Debug("no thread of the guest computes: it goes home by stop and copy", "process", t.id)
		return false
	}
	err := t.g.With(host, func(p *tracer.Process, l *tracer.Thread) error {
		q, err := tracer.Open(p.PID, m.env.Code) // outlives this short stop
		if err != nil {
			return err
		}
		if t.src, err = pages.Open(q); err != nil {
			q.Close()
			return err
		}
		t.src.Writers = t.g.Writers()
		if err := t.src.Track(l); err != nil {
			return err
		}
		return m.register(t)
	})
	if err != nil && t.src != nil {
		t.src.Close()
		t.src = nil
	}
	if err != nil && !errors.Is(err, tracer.ErrGone) {
		m.env.Log.Info("the pages of a guest cannot be watched; it goes home by stop and copy", "process", t.id, "err", err)
	}
	return err == nil
}

// register lets the areas that the guest has now be watched, while a thread of it is held, where that is all of it.
func (m *homeward) register(t *returner) error {
	if t.src.Held = len(t.g.Threads()) == 1; !t.src.Held {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", t.g.PID))
	if err != nil {
		return fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	as, _ := image.ParseMaps(b, t.g.Region.Range())
	t.src.Register(as, m.common.has)
	return nil
}

func (t *returner) areas() ([]image.Area, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", t.g.PID))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	as, _ := image.ParseMaps(b, t.g.Region.Range())
	image.AtHome(as)
	return t.view.advise(as, t.g.PID, t.g.Region.Range(), false, false), nil
}

func (m *homeward) rounds() error {
	for {
		again, _ := migrator.NextRound(m.round, m.env.Rounds)
		if !again {
			return nil
		}
		r0 := time.Now()
		var sent uint64
		for _, t := range m.all {
			if host := t.g.Computing(); t.src.Held && t.src.Missed() > missedMuch && host != 0 {
				if err := t.g.With(host, func(*tracer.Process, *tracer.Thread) error { return m.register(t) }); err != nil {
					return err
				}
			}
			as, err := t.areas()
			if err != nil {
				return err
			}
			if err := m.turn(t.n); err != nil {
				return err
			}
			n, err := sendAreas(m.s, m.offer.Epoch, as, t.src, len(m.round) == 0, nil, &m.common, &phases{})
			if err != nil {
				return err
			}
			sent += n
		}
		if err := m.s.Send(wire.RoundEnd, m.offer.Epoch, nil); err != nil {
			return err
		}
		if _, err := m.s.Expect(wire.RoundAck, stepTime); err != nil {
			return err
		}
		m.round = append(m.round, migrator.Round{Bytes: sent, Took: time.Since(r0)})
		m.env.Log.Debug("round", "process", m.offer.Process, "bytes", sent, "took", time.Since(r0))
		if err := AtRound.Hit(); err != nil {
			return err
		}
	}
}

// stay gives the journey up: the guests run on here.
func (m *homeward) stay(cause error) error {
	ev := migrator.Failed
	var ab *AbortError
	if errors.As(cause, &ab) {
		ev = migrator.DoAbort
	} else {
		_ = m.s.Send(wire.Abort, m.offer.Epoch, []byte(cause.Error()))
	}
	_, err := m.on(ev)
	for _, t := range m.all {
		t.g.Stay()
		if t.p != nil {
			for _, x := range t.p.Held() {
				_ = kern.SetOptions(x.TID, 0)
			}
			err = errors.Join(err, t.p.ReleaseAll())
		}
		t.g.Resume(t.pending)
	}
	m.end.State = migrator.Stayed
	return errors.Join(cause, err)
}

func (m *homeward) freezeAndGo() error {
	defer func() {
		for _, t := range m.all {
			if t.p != nil {
				t.p.Close()
			}
		}
	}()
	f0 := time.Now()
	m.took.mark("")
	for _, t := range m.all {
		if err := m.freeze(t); err != nil {
			return m.stay(err)
		}
	}
	m.took.mark("stop")
	if _, err := m.on(migrator.Froze); err != nil {
		return err
	}
	if err := AtFreeze.Hit(); err != nil {
		return m.stay(err)
	}
	for _, t := range m.all {
		t.service.Pause()
	}
	if err := m.sendRest(); err != nil {
		return m.stay(err)
	}
	m.took.mark("image")
	if _, err := m.s.Expect(wire.Ready, m.env.MoveLease); err != nil {
		return m.stay(err)
	}
	m.took.mark("ready")
	if _, err := m.on(migrator.BeReady); err != nil {
		return err
	}
	if err := AtReady.Hit(); err != nil {
		return m.stay(err)
	}
	return m.commit(f0)
}

// freeze stops every thread of a guest.
func (m *homeward) freeze(t *returner) (err error) {
	if t.p, err = tracer.Open(t.g.PID, m.env.Code); err != nil {
		return err
	}
	t.p.Region = t.g.Region
	if t.pending, err = t.g.Freeze(t.p, t.service.Lost); err != nil {
		return err
	}
	freeze.Mend(t.p, nil)
	t.g.Settle(t.p)
	for _, x := range t.p.Held() {
		if int64(x.Regs.RAX) == -abi.ERestartBlock {
			x.Until = t.g.Until(x.TID)
		}
	}
	return nil
}

// sendRest sends what is left of the memory, and the image.
func (m *homeward) sendRest() error {
	m.common.held()
	whole := image.Family{Process: m.offer.Process, Epoch: m.offer.Epoch}
	for _, t := range m.all {
		img, err := m.capture(t)
		if err != nil {
			return err
		}
		whole.Members = append(whole.Members, img)
		m.took.mark("capture")
		if t.src == nil {
			if t.src, err = pages.Open(t.p); err != nil {
				return err
			}
		}
		if err := m.turn(t.n); err != nil {
			return err
		}
		if _, err := sendAreas(m.s, m.offer.Epoch, img.Areas, t.src, len(m.round) == 0, nil, &m.common, &m.took); err != nil {
			return err
		}
	}
	if err := m.s.Send(wire.Final, m.offer.Epoch, whole.Encode()); err != nil {
		return err
	}
	if _, err := m.on(migrator.SentAll); err != nil {
		return err
	}
	return AtFinal.Hit()
}

// capture takes the image of a guest that is held.
func (m *homeward) capture(t *returner) (img image.Process, err error) {
	p := t.p
	if err := t.trust(); err != nil {
		return img, err
	}
	_, vvar, err := freeze.Areas(p)
	if err != nil {
		return img, err
	}
	if err := errors.Join(thaw.Rewind(p, vvar), thaw.Refault(p)); err != nil {
		return img, err
	}
	tids := map[int]id.HomePID{}
	for h, n := range t.g.Threads() {
		tids[n] = h
	}
	if img, err = freeze.Capture(p, func(t int) id.HomePID { return tids[t] }, t.g.Restarted); err != nil {
		return img, err
	}
	thaw.OwnActions(p.Region, &img)
	t.g.Charge(&img)
	img.Clocks = t.g.Readings()
	// What pends in the guest's kernel travels; it comes to rest where the process is.
	for i, x := range p.Held() {
		own, err := kern.PeekSiginfo(x.TID, false)
		if err != nil {
			return img, err
		}
		img.Threads[i].Pending = withoutStops(append(img.Threads[i].Pending, own...))
	}
	shared, err := kern.PeekSiginfo(p.PID, true)
	if err != nil {
		return img, err
	}
	for _, s := range t.pending {
		if s.Process {
			shared = append(shared, s.Info)
			continue
		}
		for i := range img.Threads { // if its thread has ended, so has the signal
			if th := &img.Threads[i]; th.TID == s.TID {
				th.Pending = withoutStops(append(th.Pending, s.Info))
			}
		}
	}
	img.Pending = withoutStops(shared)
	for _, x := range p.Held() {
		if err := kern.SetOptions(x.TID, 0); err != nil {
			return img, err
		}
	}
	image.AtHome(img.Areas)
	img.Areas = t.view.advise(img.Areas, t.g.PID, t.g.Region.Range(), true, false)
	return img, nil
}

// probe makes sure that home lives and the way is open, then shortens the guests' leases and tells home: from then on home may
// decide alone when it hears nothing, for the guests are certain to end before that.
func (m *homeward) probe() error {
	if err := m.s.Probe(m.offer.Epoch, false); err != nil {
		return err
	}
	for _, t := range m.all {
		if soon := uint64(kern.Now(kern.ClockBoottime) + int64(m.env.MoveLease)); t.g.Deadline() > soon {
			t.g.SetDeadline(soon)
		}
	}
	return m.s.Probe(m.offer.Epoch, true)
}

// withoutStops leaves out the SIGSTOPs, all of which this agent has sent.
func withoutStops(in []abi.Siginfo) (out []abi.Siginfo) {
	for _, si := range in {
		if si.Signo() != abi.SIGSTOP {
			out = append(out, si)
		}
	}
	return out
}

// commit makes the guests unable to run without us, and passes the point of no return.
func (m *homeward) commit(f0 time.Time) error {
	for _, t := range m.all {
		for _, x := range t.p.Held() { // each thread finds its own SIGSTOP before it would execute an instruction
			if err := kern.Tgkill(t.p.PID, x.TID, abi.SIGSTOP); err != nil {
				return m.stay(err)
			}
		}
	}
	if _, err := m.on(migrator.DidPark); err != nil {
		return err
	}
	if err := AtPark.Hit(); err != nil {
		return m.unstop(err)
	}
	if err := m.probe(); err != nil {
		return m.unstop(err)
	}
	if err := errors.Join(AtProbe.Hit(), m.s.Err()); err != nil {
		return m.unstop(err)
	}
	if _, err := m.on(migrator.DoCommit); err != nil {
		return err
	}
	w := &pack.Writer{}
	w.U64(uint64(time.Since(f0)))
	err := m.s.Send(wire.Commit, m.offer.Epoch, w.B)
	if err == nil {
		err = AtCommit.Hit()
	}
	if err == nil {
		_, err = m.s.Expect(wire.Running, m.env.MoveLease)
	}
	if err == nil {
		m.out.Stats.Freeze = time.Since(f0)
		m.took.mark("commit")
		m.env.Log.Debug("frozen", append([]any{"process", m.offer.Process, "for", m.out.Stats.Freeze}, m.took.took...)...)
		_, err = m.on(migrator.IsRun)
		for _, t := range m.all {
			t.g.Kill()
		}
		return err
	}
	var ab *AbortError
	if errors.As(err, &ab) {
		return m.unstop(err)
	}
	_, _ = m.on(migrator.Lost)
	return fmt.Errorf("the move home was committed and its answer lost: %w", err)
}

// unstop takes the SIGSTOPs back and lets the guests run on.
func (m *homeward) unstop(cause error) error {
	for _, t := range m.all {
		for _, x := range t.p.Held() {
			if err := x.Swallow(abi.SIGSTOP); err != nil {
				cause = errors.Join(cause, err)
			}
		}
	}
	m.end.State = migrator.Finishing
	return m.stay(cause)
}
