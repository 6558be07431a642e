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

// homeward is a guest on its way to its shadow.
type homeward struct {
	source
	g       *guest.Guest
	service Service
	pending []abi.Siginfo
}

// Service is what a guest's agent does for it besides moving it.
type Service struct {
	Lost  func() bool // whether home is out of reach: asked while threads are being stopped
	Pause func()      // ends the service: the guest makes no more calls before it has attached anew
}

// SendHome brings a guest of this node back into its shadow, over s. It returns when the process runs at home, or the guest
// runs on here. After Committed the guest is held and must be ended or asked about; its lease, which was shortened, ends it.
func SendHome(env *Env, s *Stream, g *guest.Guest, offer Offer, service Service) (Outcome, error) {
	m := &homeward{source: source{env: env, s: s, offer: offer, end: migrator.NewSource(), t0: time.Now()}, g: g, service: service}
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
	p, err := tracer.Open(m.g.PID, m.env.Code)
	if err != nil {
		return m.stay(nil, err)
	}
	p.Close()
	src, err := m.watch()
	if err != nil {
		return m.stay(nil, err)
	}
	if src != nil {
		defer src.Close()
		if err := m.rounds(src); err != nil {
			return m.stay(nil, err)
		}
	}
	return tracer.Run(func() error { return m.freezeAndGo(src) })
}

// watch begins to note writes, through a thread that computes. A guest whose threads all wait in calls writes nothing: it
// is copied when it is held.
func (m *homeward) watch() (*pages.Source, error) {
	if m.env.Rounds == 0 {
		return nil, nil
	}
	host := m.g.Computing()
	if host == 0 {
		m.env.Log.Debug("no thread of the guest computes: it goes home by stop and copy", "process", m.offer.Process)
		return nil, nil
	}
	var src *pages.Source
	err := m.g.With(host, func(p *tracer.Process, t *tracer.Thread) error {
		q, err := tracer.Open(p.PID, m.env.Code) // outlives this short stop
		if err != nil {
			return err
		}
		if src, err = pages.Open(q); err != nil {
			q.Close()
			return err
		}
		return src.Track(t)
	})
	if err != nil && src != nil {
		src.Close()
		src = nil
	}
	if err != nil && !errors.Is(err, tracer.ErrGone) {
		m.env.Log.Info("the pages of a guest cannot be watched; it goes home by stop and copy", "process", m.offer.Process, "err", err)
		return nil, nil
	}
	return src, err
}

func (m *homeward) areas() ([]image.Area, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", m.g.PID))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	as, _ := image.ParseMaps(b, m.g.Region.Range())
	image.AtHome(as)
	m.view.advise(as, m.g.PID, m.g.Region.Range(), false, false)
	return as, nil
}

func (m *homeward) rounds(src *pages.Source) error {
	for {
		again, _ := migrator.NextRound(m.round, m.env.Rounds)
		if !again {
			return nil
		}
		r0 := time.Now()
		as, err := m.areas()
		if err != nil {
			return err
		}
		n, err := sendAreas(m.s, m.offer.Epoch, as, src, len(m.round) == 0, nil, &phases{})
		if err != nil {
			return err
		}
		if err := m.s.Send(wire.RoundEnd, m.offer.Epoch, nil); err != nil {
			return err
		}
		if _, err := m.s.Expect(wire.RoundAck, stepTime); err != nil {
			return err
		}
		m.round = append(m.round, migrator.Round{Bytes: n, Took: time.Since(r0)})
		m.env.Log.Debug("round", "process", m.offer.Process, "bytes", n, "took", time.Since(r0))
		if err := AtRound.Hit(); err != nil {
			return err
		}
	}
}

// stay gives the journey up: the guest runs on here.
func (m *homeward) stay(p *tracer.Process, cause error) error {
	ev := migrator.Failed
	var ab *AbortError
	if errors.As(cause, &ab) {
		ev = migrator.DoAbort
	} else {
		_ = m.s.Send(wire.Abort, m.offer.Epoch, []byte(cause.Error()))
	}
	_, err := m.on(ev)
	m.g.Stay()
	if p != nil {
		for _, t := range p.Held() {
			_ = kern.SetOptions(t.TID, 0)
		}
		err = errors.Join(err, p.ReleaseAll())
	}
	m.g.Resume(m.pending)
	m.end.State = migrator.Stayed
	return errors.Join(cause, err)
}

func (m *homeward) freezeAndGo(src *pages.Source) error {
	p, err := tracer.Open(m.g.PID, m.env.Code)
	if err != nil {
		return m.stay(nil, err)
	}
	defer p.Close()
	p.Region = m.g.Region
	f0 := time.Now()
	m.took.mark("")
	if m.pending, err = m.g.Freeze(p, m.service.Lost); err != nil {
		return m.stay(p, err)
	}
	freeze.Mend(p, nil)
	for _, t := range p.Held() {
		if int64(t.Regs.RAX) == -abi.ERestartBlock {
			t.Until = m.g.Until(t.TID)
		}
	}
	m.took.mark("stop")
	if _, err := m.on(migrator.Froze); err != nil {
		return err
	}
	if err := AtFreeze.Hit(); err != nil {
		return m.stay(p, err)
	}
	m.service.Pause()
	if err := m.sendRest(p, src); err != nil {
		return m.stay(p, err)
	}
	m.took.mark("image")
	if _, err := m.s.Expect(wire.Ready, m.env.MoveLease); err != nil {
		return m.stay(p, err)
	}
	m.took.mark("ready")
	if _, err := m.on(migrator.BeReady); err != nil {
		return err
	}
	if err := AtReady.Hit(); err != nil {
		return m.stay(p, err)
	}
	return m.commit(p, f0)
}

func (m *homeward) sendRest(p *tracer.Process, src *pages.Source) error {
	if err := m.trust(p); err != nil {
		return err
	}
	// What stopped the guest is the shadow's business, where the stop itself is: it does not travel.
	for _, t := range p.Held() {
		t.Stash = withoutStops(t.Stash)
	}
	_, vvar, err := freeze.Areas(p)
	if err != nil {
		return err
	}
	if err := thaw.Rewind(p, vvar); err != nil {
		return err
	}
	tids := map[int]id.HomePID{}
	for h, n := range m.g.Threads() {
		tids[n] = h
	}
	img, err := freeze.Capture(p, func(t int) id.HomePID { return tids[t] }, m.g.Restarted)
	if err != nil {
		return err
	}
	m.g.Charge(&img)
	img.Clocks = m.g.Readings()
	// What pends in the guest's kernel travels; it comes to rest where the process is.
	for i, t := range p.Held() {
		own, err := kern.PeekSiginfo(t.TID, false)
		if err != nil {
			return err
		}
		img.Threads[i].Pending = withoutStops(append(img.Threads[i].Pending, own...))
	}
	shared, err := kern.PeekSiginfo(p.PID, true)
	if err != nil {
		return err
	}
	img.Pending = withoutStops(append(shared, m.pending...))
	for _, t := range p.Held() {
		if err := kern.SetOptions(t.TID, 0); err != nil {
			return err
		}
	}
	m.took.mark("capture")
	image.AtHome(img.Areas)
	m.view.advise(img.Areas, m.g.PID, m.g.Region.Range(), true, false)
	if src == nil {
		if src, err = pages.Open(p); err != nil {
			return err
		}
		defer src.Close()
	}
	if _, err := sendAreas(m.s, m.offer.Epoch, img.Areas, src, len(m.round) == 0, nil, &m.took); err != nil {
		return err
	}
	m.out.Family = &image.Family{Process: m.offer.Process, Epoch: m.offer.Epoch, Members: []image.Process{img}}
	if err := m.s.Send(wire.Final, m.offer.Epoch, m.out.Family.Encode()); err != nil {
		return err
	}
	if _, err := m.on(migrator.SentAll); err != nil {
		return err
	}
	return AtFinal.Hit()
}

// probe makes sure that home lives and the way is open, then shortens the guest's lease and tells home: from then on home may
// decide alone when it hears nothing, for the guest is certain to end before that.
func (m *homeward) probe() error {
	if err := m.s.Probe(m.offer.Epoch, false); err != nil {
		return err
	}
	if soon := uint64(kern.Now(kern.ClockBoottime) + int64(m.env.MoveLease)); m.g.Deadline() > soon {
		m.g.SetDeadline(soon)
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

// commit makes the guest unable to run without us, and passes the point of no return.
func (m *homeward) commit(p *tracer.Process, f0 time.Time) error {
	for _, t := range p.Held() { // each thread finds its own SIGSTOP before it would execute an instruction
		if err := kern.Tgkill(p.PID, t.TID, abi.SIGSTOP); err != nil {
			return m.stay(p, err)
		}
	}
	if _, err := m.on(migrator.DidPark); err != nil {
		return err
	}
	if err := AtPark.Hit(); err != nil {
		return m.unstop(p, err)
	}
	if err := m.probe(); err != nil {
		return m.unstop(p, err)
	}
	if err := errors.Join(AtProbe.Hit(), m.s.Err()); err != nil {
		return m.unstop(p, err)
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
		m.g.Kill()
		return err
	}
	var ab *AbortError
	if errors.As(err, &ab) {
		return m.unstop(p, err)
	}
	_, _ = m.on(migrator.Lost)
	return fmt.Errorf("the move home was committed and its answer lost: %w", err)
}

// unstop takes the SIGSTOPs back and lets the guest run on.
func (m *homeward) unstop(p *tracer.Process, cause error) error {
	for _, t := range p.Held() {
		if err := t.Swallow(abi.SIGSTOP); err != nil {
			cause = errors.Join(cause, err)
		}
	}
	m.end.State = migrator.Finishing
	return m.stay(p, cause)
}
