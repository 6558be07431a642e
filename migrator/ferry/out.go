package ferry

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"mosix/internal/abi"
	"mosix/internal/fault"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/pack"
	"mosix/internal/procfs"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/internal/wire"
	"mosix/migrator"
	"mosix/migrator/freeze"
	"mosix/migrator/pages"
	"mosix/migrator/thaw"
)

// Fault points of a move, in the order in which a process passes them. Tests arm them on either side.
var (
	AtOffer       = fault.Register("source-after-offer")
	AtPlant       = fault.Register("source-after-plant")
	AtRound       = fault.Register("source-after-round")
	AtFreeze      = fault.Register("source-after-freeze")
	AtFinal       = fault.Register("source-after-final")
	AtReady       = fault.Register("source-after-ready")
	AtPark        = fault.Register("source-after-park")
	AtProbe       = fault.Register("source-after-probe")
	AtCommit      = fault.Register("source-after-commit")
	AtGone        = fault.Register("source-after-running")
	AtBuild       = fault.Register("target-after-prepare")
	AtPages       = fault.Register("target-after-round")
	AtComplete    = fault.Register("target-before-ready")
	AtSaidReady   = fault.Register("target-after-ready")
	AtGotCommit   = fault.Register("target-after-commit")
	AtRun         = fault.Register("target-after-run")
	AtSaidRunning = fault.Register("target-after-running")
)

// Stats are the figures of a move.
type Stats struct {
	Freeze, Total time.Duration
	Bytes         uint64
	Rounds        int
	Written       float64 // bytes per second that it wrote to its memory during the rounds; 0: there was no second one, which would tell
	Strategy      string
}

// Env is what a ferry needs of its node.
type Env struct {
	Node      id.Node
	Code      *stub.Code
	Log       *slog.Logger
	MoveLease time.Duration
	Lease     time.Duration
	Rounds    int           // before the freeze, at most; 0 is stop-and-copy
	Skew      time.Duration // of this agent's realtime clock: for tests of clocks apart
	DriftPPM  float64       // the same: by how much it is too fast
	Began     int64         // from when on that is so: monotonic, ns
}

// Realtime reads the agent's realtime clock, in nanoseconds.
func (e *Env) Realtime() int64 {
	t := kern.Now(kern.ClockRealtime) + int64(e.Skew)
	if e.DriftPPM != 0 {
		t += int64(float64(kern.Now(kern.ClockMonotonic)-e.Began) * e.DriftPPM / 1e6)
	}
	return t
}

// realOffset is the realtime clock minus the monotonic one, in nanoseconds. This thread may have to wait for a processor between two looks:
// of several pairs of them the quickest counts.
func (e *Env) realOffset() (offset int64) {
	const looks = 5
	best := int64(math.MaxInt64)
	for range looks {
		before := kern.Now(kern.ClockMonotonic)
		real := e.Realtime()
		took := kern.Now(kern.ClockMonotonic) - before
		if took < best {
			best, offset = took, real-(before+took/2)
		}
	}
	return offset
}

func strategy(rounds int) string {
	if rounds == 0 {
		return "stop-and-copy"
	}
	return "precopy"
}

const (
	stepTime  = 20 * time.Second // the longest step of another agent that lives, before Commit
	maxRounds = 8
)

// MaxRounds is the usual number of rounds before the freeze, at most.
const MaxRounds = maxRounds

// Outcome is how a move ended for its source.
type Outcome struct {
	State migrator.State // Gone, Stayed, or Committed: nobody knows yet
	Stats Stats
}

// source is one outward move in progress.
type source struct {
	env    *Env
	s      *Stream
	offer  Offer
	end    *migrator.End
	out    Outcome
	t0     time.Time
	round  []migrator.Round
	clk    thaw.Clocks
	hooks  Hooks
	took   phases // of the freeze
	all    []*traveller
	seen   sights // what all of them have parts of
	common commons
}

// traveller is a process on its way out: usually it goes alone.
type traveller struct {
	id       id.Process
	n        int // in the family
	p        *tracer.Process
	src      *pages.Source
	objs     objects
	view     adviser
	read     uint64         // how much had been read for it from disks when its pages began to be watched
	foreign  bool           // the target's kernel has another vDSO
	sleeping map[int]uint64 // the calls in which its threads sleep that are in restart_syscall
	stopped  bool
	record   *image.Family // of this member alone, as its shadow will have it
}

// Hooks are told what becomes of the processes while they move.
type Hooks struct {
	Used     func(id.Process, *image.Process)              // enters into the image what was used away up to now
	Parked   func([]*image.Family, []*region.Region) error // before Commit is sent: the guests' calls may come at any time from then on
	Unparked func()                                        // the move was given up after Parked: the processes are about to run on here
	Since    uint64                                        // who was made later, in ticks since the machine was started, was not looked at when it was judged who shares memory
}

// Send moves a process that runs here, at home, and those that the offer names besides, to the node at the other end of s. It
// returns when they run there, or run on here, or when that cannot be known before their lease ends.
func Send(env *Env, s *Stream, offer Offer, hooks Hooks) (Outcome, error) {
	m := &source{env: env, s: s, offer: offer, hooks: hooks, end: migrator.NewSource(), t0: time.Now()}
	m.out.Stats.Strategy = strategy(env.Rounds)
	err := m.negotiate()
	if err == nil {
		err = tracer.Run(m.run)
	}
	m.out.State = m.end.State
	m.out.Stats.Total = time.Since(m.t0)
	s.mu.Lock()
	m.out.Stats.Bytes = s.Sent
	s.mu.Unlock()
	m.out.Stats.Rounds, m.out.Stats.Written = len(m.round), migrator.Written(m.round)
	if m.out.State != migrator.Gone && m.out.State != migrator.Committed {
		m.out.State = migrator.Stayed
	}
	return m.out, err
}

func (m *source) on(ev migrator.Event) (migrator.Action, error) {
	return m.end.On(ev, time.Duration(kern.Now(kern.ClockBoottime)))
}

// negotiate offers the process and learns how far apart the clocks are.
func (m *source) negotiate() error {
	if err := m.s.Hello(); err != nil {
		return err
	}
	m.s.Guard()
	if err := m.s.Send(wire.Offer, m.offer.Epoch, m.offer.Encode()); err != nil {
		return err
	}
	if _, err := m.s.Expect(wire.Accept, stepTime); err != nil {
		var r *RefusedError
		if errors.As(err, &r) {
			_, _ = m.on(migrator.Refused)
		}
		return err
	}
	if _, err := m.on(migrator.Accepted); err != nil {
		return err
	}
	if err := AtOffer.Hit(); err != nil {
		return err
	}
	return m.clocks()
}

// clocks measures home's clocks minus the target's: by the shortest of three round trips, or of more while they are long, since
// half of it is by how much the clocks may be wrong (Mills, RFC 5905, section 8).
func (m *source) clocks() error {
	const short, trips, most = int64(time.Millisecond), 3, 20
	best := int64(1 << 62)
	for i := 0; i < trips || best > short && i < most; i++ {
		m0, b0 := kern.Now(kern.ClockMonotonic), kern.Now(kern.ClockBoottime)
		if err := m.s.Send(wire.Ping, m.offer.Epoch, nil); err != nil {
			return err
		}
		f, err := m.s.Expect(wire.Pong, stepTime)
		if err != nil {
			return err
		}
		m1 := kern.Now(kern.ClockMonotonic)
		r := pack.NewReader(f.Payload)
		mono, boot := int64(r.U64()), int64(r.U64())
		if r.Err() != nil {
			return fmt.Errorf("read the target's clocks: %w", r.Err())
		}
		if rtt := m1 - m0; rtt < best {
			best = rtt
			m.clk.Mono, m.clk.Boot = m0+rtt/2-mono, b0+rtt/2-boot
		}
	}
	m.clk.Real = m.env.realOffset()
	return nil
}

// run does what touches the processes, on the tracer's thread.
func (m *source) run() error {
	defer func() {
		for _, t := range m.all {
			t.close()
		}
		m.seen.close()
	}()
	m.seen = sights{}
	for n, who := range m.offer.Family() {
		if err := m.open(n, who); err != nil {
			return m.giveUp(err)
		}
	}
	for _, t := range m.all {
		if err := m.plant(t); err != nil {
			return m.giveUp(err)
		}
	}
	if err := AtPlant.Hit(); err != nil {
		return m.giveUp(err)
	}
	if err := m.prepare(); err != nil {
		return m.giveUp(err)
	}
	if err := m.precopy(); err != nil {
		return m.giveUp(err)
	}
	f0 := time.Now()
	if err := m.finish(); err != nil {
		return m.giveUp(err)
	}
	return m.commit(f0)
}

// ErrNewborn says that a process has made another while it was copied: whether they must move together is to be judged again.
var ErrNewborn = errors.New("it was made while its parent was copied, and they may share memory: try again")

// open takes hold of a process without touching it.
func (m *source) open(n int, who id.Process) error {
	p, err := tracer.Open(int(who.PID), m.env.Code)
	if err != nil {
		return err
	}
	p.Unattended = true
	t := &traveller{id: who, n: n, p: p}
	m.all = append(m.all, t)
	if st, err := freeze.StartTime(p.PID); err != nil || st != who.Start {
		return fmt.Errorf("process %d has ended: %w", p.PID, tracer.ErrGone)
	}
	if t.src, err = pages.Open(p); err != nil {
		return err
	}
	t.objs = objects{pid: p.PID, mem: p.Mem, seen: m.seen}
	return nil
}

func (t *traveller) close() {
	if t.src != nil {
		t.src.Close()
	}
	t.p.Close()
}

// turn says whose the next frames are.
func (m *source) turn(n int) error { return turn(m.s, &m.offer, n) }

func turn(s *Stream, o *Offer, n int) error {
	if len(o.Others) == 0 {
		return nil
	}
	w := &pack.Writer{}
	w.U32(uint32(n))
	return s.Send(wire.Member, o.Epoch, w.B)
}

// giveUp does what the machine says about a failure, and tells the other side.
func (m *source) giveUp(cause error) error {
	ev := migrator.Failed
	var ab *AbortError
	if errors.As(cause, &ab) {
		ev = migrator.DoAbort
	} else {
		_ = m.s.Send(wire.Abort, m.offer.Epoch, []byte(cause.Error()))
	}
	act, err := m.on(ev)
	if err != nil {
		return errors.Join(cause, err)
	}
	if act == migrator.Unpark {
		m.hooks.Unparked()
	}
	if act != migrator.Release && act != migrator.Unpark {
		return cause
	}
	for _, t := range m.all {
		cause = errors.Join(cause, m.undo(t))
	}
	return cause
}

// undo lets a process run on here, however far it has come.
func (m *source) undo(t *traveller) error {
	state := uint32(stub.StatePlanted)
	if t.p.Region != nil {
		state = t.p.Region.Header().State
	}
	switch state {
	case stub.StatePlanted:
		return m.release(t)
	case stub.StateParking:
		err := errors.Join(thaw.Unlay(t.p, t.record), freeze.Undrain(t.p, &t.record.Members[0]))
		return errors.Join(err, m.release(t))
	}
	return Unpark(t.p.PID, t.p.Region, m.env.Code)
}

// release lets a process run on as it was, without anything of ours in it.
func (m *source) release(t *traveller) error {
	p := t.p
	if p.Region == nil {
		m.again(t)
		return p.ReleaseAll()
	}
	l := p.Leader()
	if l == nil {
		var err error
		waits := freeze.Waiting(p, []int{p.PID})
		if l, err = p.Seize(p.PID); err != nil {
			if errors.Is(err, tracer.ErrGone) {
				return nil
			}
			return err
		}
		freeze.Mend(p, waits)
	}
	m.again(t)
	g := p.Region
	err := p.Uproot(l)
	g.Close()
	if err2 := p.ReleaseAll(); err == nil {
		err = err2
	}
	if errors.Is(err, tracer.ErrGone) {
		return nil
	}
	return err
}

// prepare lets the target make the empty processes.
func (m *source) prepare() error {
	for _, t := range m.all {
		plan, err := m.plan(t.p)
		if err != nil {
			return err
		}
		if err := m.turn(t.n); err != nil {
			return err
		}
		if err := m.s.Send(wire.Prepare, m.offer.Epoch, encodePlan(plan)); err != nil {
			return err
		}
		f, err := m.s.Expect(wire.Prepared, stepTime)
		if err != nil {
			return err
		}
		t.foreign = pack.NewReader(f.Payload).Bool()
	}
	_, err := m.on(migrator.Prepared)
	return err
}

func (m *source) plan(p *tracer.Process) (plan thaw.Plan, err error) {
	_, vvar, err := freeze.Areas(p)
	if err != nil {
		return plan, err
	}
	tids, err := p.TIDs()
	if err != nil {
		return plan, err
	}
	plan = thaw.Plan{Base: p.Region.Base, Clocks: m.clk}
	if plan.VDSO, err = thaw.VDSOOf(p.PID, vvar); err != nil {
		return plan, err
	}
	set := map[id.HomePID]int{}
	for _, t := range tids {
		set[id.HomePID(t)] = t
	}
	plan.TIDs = thaw.SortedTIDs(set, id.HomePID(p.PID))
	limits, err := procfs.Default.Limits(p.PID)
	if err != nil {
		return plan, fmt.Errorf("read the resource limits of %d: %w", p.PID, err)
	}
	for i, l := range limits {
		plan.Limits[i] = [2]uint64{l.Soft, l.Hard}
	}
	return plan, nil
}

// precopy sends memory while the processes run, as long as another round pays.
func (m *source) precopy() error {
	for {
		again, why := migrator.NextRound(m.round, m.env.Rounds)
		if !again {
			m.env.Log.Debug("no further round", "process", m.offer.Process, "rounds", len(m.round), "why", why)
			return nil
		}
		r0 := time.Now()
		var sent uint64
		for _, t := range m.all {
			n, err := m.sendRound(t, len(m.round) == 0)
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

// sendRound finds and sends what must travel now of one process.
func (m *source) sendRound(t *traveller, first bool) (uint64, error) {
	if t.src.Held && t.src.Missed() > missedMuch {
		if err := m.registerMore(t); err != nil {
			return 0, err
		}
	}
	as, _, err := freeze.Areas(t.p)
	if err != nil {
		return 0, err
	}
	as = t.view.advise(as, t.p.PID, t.p.Region.Range(), false, true)
	if err := m.turn(t.n); err != nil {
		return 0, err
	}
	return sendAreas(m.s, m.offer.Epoch, as, t.src, first, &t.objs, &m.common, &phases{})
}

// sendAreas sends the areas as and what must travel of their memory. Without objs it goes to a shadow, which has the objects
// itself, and may have old memory. What may be shared goes as common says.
func sendAreas(s *Stream, e id.Epoch, as []image.Area, src *pages.Source, first bool, objs *objects, common *commons, took *phases) (uint64, error) {
	d, err := src.Round(as, first, common.has)
	if err != nil {
		return 0, err
	}
	var data func(image.Area, mem.Range) []mem.Range
	if objs != nil { // what is new there is empty
		data = dataOf(objs.pid)
	}
	d.Send = append(d.Send, common.last(as, data)...)
	if first && objs == nil {
		d.Zap = append(d.Zap, image.Ranges(as)...)
	}
	took.mark("scan")
	var files uint64
	if objs != nil {
		if err := objs.announce(s, e, as); err != nil {
			return 0, err
		}
		if common.sent != nil {
			if err := objs.refresh(s, e, as); err != nil {
				return 0, err
			}
		}
	}
	if err := s.Send(wire.Layout, e, encodeLayout(as, d.Zap)); err != nil {
		return 0, err
	}
	if objs != nil {
		if files, err = objs.send(s, e, as); err != nil {
			return files, err
		}
	}
	n, err := src.Send(d.Send, func(frame []byte) error { return s.Send(wire.Pages, e, frame) })
	took.mark("send")
	return n + files, err
}

// finish freezes the processes and sends the rest. After it the target needs only Run.
func (m *source) finish() error {
	m.took.mark("")
	for _, t := range m.all {
		if err := m.hold(t); err != nil {
			return err
		}
	}
	if err := m.complete(); err != nil {
		return err
	}
	m.took.mark("stop")
	if _, err := m.on(migrator.Froze); err != nil {
		return err
	}
	if err := AtFreeze.Hit(); err != nil {
		return err
	}
	m.common.held()
	whole := image.Family{Process: m.offer.Process, Epoch: m.offer.Epoch}
	for _, t := range m.all {
		if err := m.capture(t); err != nil {
			return err
		}
		whole.Members = append(whole.Members, t.record.Members[0])
	}
	if err := m.s.Send(wire.Final, m.offer.Epoch, whole.Encode()); err != nil {
		return err
	}
	if _, err := m.on(migrator.SentAll); err != nil {
		return err
	}
	if err := AtFinal.Hit(); err != nil {
		return err
	}
	m.took.mark("image")
	if _, err := m.s.Expect(wire.Ready, m.env.MoveLease); err != nil {
		return err
	}
	m.took.mark("ready")
	if _, err := m.on(migrator.BeReady); err != nil {
		return err
	}
	return AtReady.Hit()
}

// complete makes sure that no member of the family has made another one while it was copied. All of them are held.
func (m *source) complete() error {
	shared := false
	for _, t := range m.all {
		as, _, err := freeze.Areas(t.p)
		if err != nil {
			return err
		}
		shared = shared || slices.ContainsFunc(as, func(a image.Area) bool { return a.File && a.Shared && a.Writable() })
	}
	if !shared {
		return nil
	}
	for _, t := range m.all {
		for _, x := range t.p.Held() {
			kids, err := procfs.Default.Children(t.p.PID, x.TID)
			if err != nil {
				continue // a kernel that does not tell
			}
			for _, kid := range kids {
				st, err := procfs.Default.Stat(kid)
				known := slices.ContainsFunc(m.all, func(o *traveller) bool { return o.p.PID == kid })
				if err == nil && !known && st.Start >= m.hooks.Since && st.State != 'Z' {
					return fmt.Errorf("process %d has made process %d: %w", t.p.PID, kid, ErrNewborn)
				}
			}
		}
	}
	return nil
}

// capture takes the image of a held process, and sends what is left of its memory.
func (m *source) capture(t *traveller) error {
	p := t.p
	img, err := freeze.Capture(p, func(t int) id.HomePID { return id.HomePID(t) }, func(tid int) uint64 { return t.sleeping[tid] })
	if err != nil {
		return err
	}
	if err := freeze.Pending(p, &img); err != nil {
		return err
	}
	if len(img.Threads) > p.Region.Slots {
		return fmt.Errorf("process %d has made %d threads while it was copied, its shared page has room for %d: try again", p.PID, len(img.Threads), p.Region.Slots)
	}
	img.RealOffset = m.clk.Real
	img.Clocks = m.env.readings(thaw.Clocks{Real: m.env.realOffset()})
	// Should it have changed meanwhile, the shadow tells its guest so when they meet; a stop would discard what continues it.
	img.Stopped = t.stopped && !img.Pends(abi.SIGCONT)
	m.hooks.Used(t.id, &img)
	img.Areas = t.view.advise(img.Areas, p.PID, p.Region.Range(), true, true)
	m.took.mark("capture")
	if err := m.turn(t.n); err != nil {
		return err
	}
	if _, err := sendAreas(m.s, m.offer.Epoch, img.Areas, t.src, len(m.round) == 0, &t.objs, &m.common, &m.took); err != nil {
		return err
	}
	t.record = &image.Family{Process: t.id, Epoch: m.offer.Epoch, Members: []image.Process{img}}
	return nil
}

// commit parks the processes and passes the point of no return.
func (m *source) commit(f0 time.Time) error {
	var records []*image.Family
	var regions []*region.Region
	for i, t := range m.all {
		if len(m.all) > 1 {
			h := t.p.Region.Header()
			h.FamilyPID, h.FamilyStart = uint32(m.offer.Process.PID), m.offer.Process.Start
		}
		if err := freeze.Park(t.p, t.record, m.env.Node, m.peer()); err != nil {
			if i > 0 || t.p.Region.Header().State == stub.StateParked {
				m.end.State = migrator.Parked // some threads may be parked already
			}
			return m.giveUp(err)
		}
		records, regions = append(records, t.record), append(regions, t.p.Region)
	}
	if _, err := m.on(migrator.DidPark); err != nil {
		return err
	}
	if err := AtPark.Hit(); err != nil {
		return m.giveUp(err)
	}
	// What the target has said may be old: it must live, and the way be open, just before the point of no return.
	if err := m.s.Probe(m.offer.Epoch, false); err != nil {
		return m.giveUp(err)
	}
	m.took.mark("park")
	for _, g := range regions {
		g.Header().LeaseEnd = uint64(kern.Now(kern.ClockBoottime) + int64(m.env.MoveLease+migrator.Margin))
	}
	if err := m.hooks.Parked(records, regions); err != nil {
		return m.giveUp(err)
	}
	if m.seen.touched() {
		return m.giveUp(ErrWritten)
	}
	if err := errors.Join(AtProbe.Hit(), m.s.Err()); err != nil { // nothing is sent over a way that is known to be broken
		return m.giveUp(err)
	}
	for _, g := range regions { // a new agent must not make it run on from here on; one of a family decides for all
		atomic.StoreUint32(&g.Header().State, stub.StateCommitted)
	}
	if _, err := m.on(migrator.DoCommit); err != nil {
		return err
	}
	m.took.mark("depart")
	err := m.s.Send(wire.Commit, m.offer.Epoch, nil)
	if err == nil {
		err = AtCommit.Hit()
	}
	if err == nil {
		_, err = m.s.Expect(wire.Running, m.env.MoveLease)
	}
	var ab *AbortError
	switch {
	case err == nil:
		m.out.Stats.Freeze = time.Since(f0)
		m.took.mark("commit")
		m.env.Log.Debug("frozen", append([]any{"process", m.offer.Process, "for", m.out.Stats.Freeze}, m.took.took...)...)
		_, err = m.on(migrator.IsRun)
		return errors.Join(err, AtGone.Hit())
	case errors.As(err, &ab): // it came too late: the target has discarded its copy
		return m.giveUp(err)
	}
	_, _ = m.on(migrator.Lost)
	return fmt.Errorf("the move was committed and its answer lost; where it runs is decided within %v: %w", m.env.MoveLease+2*time.Second, err)
}

func (m *source) peer() id.Node {
	if c, ok := m.s.conn.(interface{ Peer() id.Node }); ok {
		return c.Peer()
	}
	return ""
}

// Unpark makes the parked process pid run on here, from the record in its region: the end of a move that was not committed.
func Unpark(pid int, g *region.Region, code *stub.Code) error {
	f, err := image.Decode(g.Record())
	if err != nil {
		return fmt.Errorf("the record of process %d cannot be read: %w", pid, err)
	}
	return tracer.Run(func() error {
		p, err := tracer.Open(pid, code)
		if err != nil {
			return err
		}
		defer p.Close()
		if err := thaw.Hold(p, g); err != nil {
			return err
		}
		if err := thaw.Back(p, f); !errors.Is(err, thaw.ErrTooManySignals) {
			return err
		}
		return nil // it runs, and no agent is concerned with it any more
	})
}
