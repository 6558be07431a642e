package migrator

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// The model plays a move with both ends, the connection between them, the keeper that ends a guest with its lease, and an
// adversary: time passes whenever it likes, messages are late, the connection is cut before or after what is on the way has
// arrived, either end fails or its agent dies and is started again, the whole host dies. Every order of all these is tried.

// tick is the unit of the model's time: the least that the machines tell apart is Margin.
const tick = Margin

// leaseTicks is the lease of the model, in ticks.
const leaseTicks = 2

// world is everything that there is, at one moment. Times are ages, in ticks, that stop at a limit beyond which nothing changes: so
// there are finitely many worlds, whatever time passes.
type world struct {
	src, dst State
	toDst    string // messages on their way, a letter each
	toSrc    string
	srcLost  bool // this end will neither send nor hear anything more on the connection
	dstLost  bool
	cut      bool

	awake   bool // the process runs at home, or would if nobody held it
	down    bool // the source's agent is dead, and will be started again
	heard   bool // Ready has come to the source
	unsent  bool // the source is at Commit and has not written it to the connection yet
	sentAge int8 // since the source decided to send Commit
	told    bool // the target has said Prepared
	final   bool // the image is there
	guest   guestState
	granted bool // home has renewed the guest's lease
	readyAt int8 // age: since the target said Ready

	crashes, deaths int8 // what the adversary did so far: agents, the host
	failed          bool
}

type guestState int8

const (
	none    guestState = iota
	waiting            // Run is due
	running
	over
)

// Letters of messages.
const (
	mAccept, mRefuse, mPrepared, mReady, mRunning = 'a', 'r', 'p', 'R', 'N' // to the source
	mFinal, mCommit, mGrant                       = 'F', 'C', 'G'           // to the target
	mAbort                                        = 'X'                     // both ways
)

// variant is how the two ends behave: as they should, or with one thing wrong, which the model must notice.
type variant struct {
	source, target map[key]rule
	lease          time.Duration // that the target's machine keeps
	margin         int8          // that the source waits beyond the lease, in ticks
	keeperSleeps   bool          // the keeper does not end the guest
	hasty          bool          // the source parks without waiting for Ready

	faults bool // the adversary may cut, crash and fail
	time   bool // … and let time pass
}

func rightWay() variant {
	return variant{source: sourceRules, target: targetRules, lease: leaseTicks * tick, margin: 1, faults: true, time: true}
}

// model explores the worlds of a variant.
type model struct {
	variant
	used  map[string]bool // rules that were followed
	next  []step
	wrong []string
}

type step struct {
	name string
	w    world
	must bool // it happens sooner or later, whatever the adversary does
}

func start() world {
	return world{src: Offered, dst: Offered, awake: true, sentAge: -1, readyAt: -1}
}

func ended(s State) bool { return s == Gone || s == Stayed || s == Running || s == Dropped }

// sourceRuns reports whether the process executes its program at home.
func (w *world) sourceRuns() bool {
	return w.awake && (w.src == Offered || w.src == Preparing || w.src == Copying || w.src == Stayed)
}

// guestRuns reports whether it executes it at the target.
func (w *world) guestRuns() bool { return w.guest == running }

func (m *model) bad(format string, a ...any) { m.wrong = append(m.wrong, fmt.Sprintf(format, a...)) }

func (m *model) do(name string, must bool, w world) {
	m.next = append(m.next, step{name, w, must})
}

// onSource steps the source's machine and does what it says. What cannot be ends the move as a failure does.
func (m *model) onSource(w *world, ev Event) {
	e := End{State: w.src, rules: m.source}
	was := w.src
	act, err := e.On(ev, 0)
	if err != nil {
		if ev != Failed {
			m.onSource(w, Failed)
		}
		return
	}
	m.used[fmt.Sprint("source ", key{was, ev})] = true
	w.src = e.State
	if w.src == Stayed {
		parked := was == Parked || was == Committed
		switch {
		case act == Unpark && parked, act == Release && !parked, act == Ignore && was == Offered:
			w.awake = true
		default:
			m.bad("a source that is %s meets %s and does %q, which does not make the process run", was, ev, act)
		}
		if ev == Failed {
			w.say(true, mAbort)
		}
	}
}

func (m *model) onTarget(w *world, ev Event) {
	e := End{State: w.dst, rules: m.target, lease: m.lease}
	was := w.dst
	act, err := e.On(ev, time.Duration(max(w.readyAt, 0))*tick)
	if err != nil {
		if ev != Failed {
			m.onTarget(w, Failed)
		}
		return
	}
	if ev == DoCommit && e.State == Dropped {
		ev = LeaseEnd
	}
	m.used[fmt.Sprint("target ", key{was, ev})] = true
	w.dst = e.State
	switch {
	case w.dst == Dropped && act != Discard && was != Offered:
		m.bad("a target that is %s meets %s and does %q, which leaves a copy", was, ev, act)
	case w.dst == Dropped && (ev == Failed || ev == LeaseEnd):
		w.say(false, mAbort)
	case w.dst == Running:
		w.guest = waiting
	}
}

// say puts a message on its way, if there is one.
func (w *world) say(fromSource bool, c rune) {
	switch {
	case fromSource && !w.srcLost:
		w.toDst += string(c)
	case !fromSource && !w.dstLost:
		w.toSrc += string(c)
	}
}

// steps lists all that can happen in w.
func (m *model) steps(w world) []step {
	m.next = m.next[:0]
	m.sourceSteps(w)
	m.targetSteps(w)
	m.network(w)
	if m.time {
		m.clock(w)
	}
	if m.faults {
		m.misfortune(w)
	}
	return m.next
}

func (m *model) sourceSteps(w world) {
	own := func(ev Event, then func(*world)) {
		n := w
		m.onSource(&n, ev)
		if then != nil {
			then(&n)
		}
		m.do("source "+string(ev), true, n)
	}
	if w.down {
		n := w
		n.down = false
		if n.src == Parked { // the shared page says that Commit was not sent
			n.src, n.awake = Stayed, true
		}
		m.do("the source's agent is started again", true, n)
		return
	}
	switch w.src {
	case Copying:
		own(Froze, nil)
	case Frozen:
		own(SentAll, func(n *world) { n.say(true, mFinal) })
	case Finishing:
		if w.heard || m.hasty { // hasty: it takes for said what was not
			own(BeReady, nil)
		}
	case Parking:
		own(DidPark, func(n *world) { n.awake = false })
	case Parked:
		own(DoCommit, func(n *world) { n.unsent, n.sentAge = true, 0 })
	case Committed:
		if w.unsent {
			n := w
			n.unsent = false
			n.say(true, mCommit)
			m.do("Commit is written", true, n)
		}
		if w.sentAge >= leaseTicks+m.margin {
			own(LeaseEnd, nil)
		}
	}
}

func (m *model) targetSteps(w world) {
	own := func(ev Event, then func(*world)) {
		n := w
		m.onTarget(&n, ev)
		if then != nil {
			then(&n)
		}
		m.do("target "+string(ev), true, n)
	}
	switch w.dst {
	case Offered:
		own(Accepted, func(n *world) { n.say(false, mAccept) })
		own(Refused, func(n *world) { n.say(false, mRefuse) })
	case Building:
		if !w.told {
			n := w
			n.told = true
			n.say(false, mPrepared)
			m.do("target says Prepared", true, n)
		}
		if w.final {
			own(BeReady, func(n *world) { n.readyAt = 0; n.say(false, mReady) })
		}
	case Complete:
		if w.readyAt >= leaseTicks {
			own(LeaseEnd, nil)
		}
	}
	if w.guest == waiting {
		n := w
		n.guest = running
		n.say(false, mRunning)
		m.do("the guest runs", true, n)
	}
}

// network delivers messages in their order, and tells each end when there will be no more.
func (m *model) network(w world) {
	if w.toSrc != "" && !w.srcLost && !w.down {
		n := w
		c := w.toSrc[0]
		n.toSrc = w.toSrc[1:]
		if !ended(n.src) {
			if c == mReady {
				n.heard = true
			}
			m.onSource(&n, map[byte]Event{mAccept: Accepted, mRefuse: Refused, mPrepared: Prepared, mReady: BeReady, mRunning: IsRun, mAbort: DoAbort}[c])
			if n.src == Gone {
				n.say(true, mGrant)
			}
		}
		m.do(fmt.Sprintf("%c comes to the source", c), true, n)
	}
	if w.toDst != "" && !w.dstLost {
		n := w
		c := w.toDst[0]
		n.toDst = w.toDst[1:]
		switch {
		case c == mGrant:
			n.granted = n.guest == running
		case !ended(n.dst) && (c != mCommit || n.dst == Complete || !n.final): // Commit waits in the connection while the guest is completed
			n.final = n.final || c == mFinal
			m.onTarget(&n, map[byte]Event{mFinal: GotFinal, mCommit: DoCommit, mAbort: DoAbort}[c])
		case c == mCommit && n.dst == Building:
			return
		}
		m.do(fmt.Sprintf("%c comes to the target", c), true, n)
	}
	// A cut takes what is on its way; an end that closes in peace does not.
	if !w.srcLost && !w.down && (w.cut || ended(w.dst) && w.guest != waiting && w.toSrc == "") {
		n := w
		n.srcLost, n.toSrc = true, ""
		if !ended(n.src) {
			m.onSource(&n, Lost)
		}
		m.do("the source sees the connection end", true, n)
	}
	if !w.dstLost && (w.cut || ended(w.src) && w.toDst == "") {
		n := w
		n.dstLost, n.toDst = true, ""
		if !ended(n.dst) {
			m.onTarget(&n, Lost)
		}
		m.do("the target sees the connection end", true, n)
	}
}

// clock lets a tick pass. The keeper looks often enough to end the guest within the tick after its lease.
func (m *model) clock(w world) {
	n := w
	if n.readyAt >= 0 && n.readyAt <= leaseTicks {
		n.readyAt++
	}
	if n.sentAge >= 0 && n.sentAge < leaseTicks+2 {
		n.sentAge++
	}
	if (n.guest == running || n.guest == waiting) && n.readyAt > leaseTicks && !n.granted && !m.keeperSleeps {
		n.guest = over
	}
	if n != w {
		m.do("tick", true, n)
	}
}

// misfortune is what need not happen.
func (m *model) misfortune(w world) {
	if !w.cut {
		n := w
		n.cut = true
		m.do("the connection is cut", false, n)
	}
	if !w.failed {
		n := w
		n.failed = true
		if !ended(w.src) && !w.down {
			f := n
			m.onSource(&f, Failed)
			m.do("the source fails", false, f)
		}
		if !ended(w.dst) {
			f := n
			m.onTarget(&f, Failed)
			m.do("the target fails", false, f)
		}
		if w.guest == waiting {
			f := n
			f.guest, f.cut = over, true
			m.do("the target cannot let it run", false, f)
		}
	}
	if w.crashes < 2 && !w.down && !ended(w.src) {
		n := w
		n.crashes++
		n.cut, n.srcLost, n.toSrc, n.unsent = true, true, "", false
		if n.src == Parked || n.src == Committed {
			n.down = true
		} else {
			n.src = Stayed // whatever was held runs on when its tracer dies
		}
		m.do("the source's agent dies", false, n)
	}
	if w.crashes < 2 && w.guest != over && !(ended(w.dst) && w.dst != Running) && !w.dstLost {
		n := w
		n.crashes++
		n.cut, n.dstLost, n.toDst = true, true, ""
		if n.guest != running { // what is being built dies with its tracer
			if n.guest == waiting {
				n.guest = over
			} else {
				n.dst = Dropped
			}
		}
		m.do("the target's agent dies", false, n)
	}
	if w.deaths < 1 && w.guest == running {
		n := w
		n.deaths++
		n.cut, n.guest = true, over
		m.do("the host dies", false, n)
	}
	if w.guest == running && !w.granted && !w.down && (w.src == Committed || w.src == Gone) { // its host dials home
		n := w
		if n.src == Committed {
			m.onSource(&n, IsRun)
		}
		n.granted = n.src == Gone
		m.do("the host attaches at home", false, n)
	}
}

// judge says what is wrong with w, of which stuck tells that nothing more must happen in it.
func (m *model) judge(w world, stuck bool) string {
	switch {
	case len(m.wrong) > 0:
		return m.wrong[0]
	case w.sourceRuns() && w.guestRuns():
		return "it runs on both sides"
	case !stuck:
		return ""
	case !ended(w.src) || !ended(w.dst):
		return fmt.Sprintf("the source remains %s, the target %s", w.src, w.dst)
	case w.sourceRuns() || w.guestRuns():
		return ""
	case w.src == Gone && w.guest == over && (w.deaths > 0 || !w.granted):
		return "" // it ran there, and ended with its host, or with a lease that home could not renew in time: home knows it
	}
	return "it runs nowhere, for ever"
}

// verdict is what came out of an exploration.
type verdict struct {
	worlds int
	ends   map[string]int
	story  string // how the first wrong world comes about
}

// explore visits every world that can be.
func (m *model) explore() verdict {
	m.used = map[string]bool{}
	type node struct {
		from world
		by   string
	}
	v := verdict{ends: map[string]int{}}
	came := map[world]node{start(): {}}
	queue := []world{start()}
	before := map[world]int{} // steps that lead to a world
	after := map[world][]world{}
	for len(queue) > 0 {
		w := queue[0]
		queue = queue[1:]
		stuck := true
		for _, s := range m.steps(w) {
			if s.w == w {
				continue
			}
			stuck = stuck && !s.must
			before[s.w]++
			after[w] = append(after[w], s.w)
			if _, ok := came[s.w]; !ok {
				came[s.w] = node{w, s.name}
				queue = append(queue, s.w)
			}
		}
		if why := m.judge(w, stuck); why != "" {
			var lines []string
			for at := w; at != start(); at = came[at].from {
				lines = append([]string{fmt.Sprintf("%-38s source %-10s target %s", came[at].by, at.src, at.dst)}, lines...)
			}
			v.story = why + ":\n" + strings.Join(lines, "\n")
			break
		}
		if stuck {
			where := "ended away"
			if w.sourceRuns() {
				where = "home"
			} else if w.guestRuns() {
				where = "away"
			}
			v.ends[where]++
		}
	}
	v.worlds = len(came)
	if v.story == "" && !sorted(start(), before, after) {
		v.story = "events go round in a circle: a way without an end"
	}
	return v
}

// sorted reports whether the worlds can be put in an order in which every step leads forward: then each way has an end.
func sorted(first world, before map[world]int, after map[world][]world) bool {
	free := []world{first}
	n := 0
	for ; n < len(free); n++ {
		for _, w := range after[free[n]] {
			if before[w]--; before[w] == 0 {
				free = append(free, w)
			}
		}
	}
	return n == len(before)+1
}

// TestNeverBothNeverNeither tries every order of events of both ends, with every misfortune: the process never runs on both
// sides, and on each way that things can take it runs on one side in the end.
func TestNeverBothNeverNeither(t *testing.T) {
	m := &model{variant: rightWay()}
	v := m.explore()
	if v.story != "" {
		t.Fatal(v.story)
	}
	if v.worlds < 5000 || v.ends["home"] == 0 || v.ends["away"] == 0 {
		t.Errorf("%d worlds with the ends %v: the model does not go far", v.worlds, v.ends)
	}
	for _, side := range []struct {
		name  string
		rules map[key]rule
	}{{"source", sourceRules}, {"target", targetRules}} {
		for k := range side.rules {
			if !m.used[fmt.Sprint(side.name, " ", k)] {
				t.Errorf("no way leads to a %s that is %s and meets %s: the rule is dead, or the model too tame", side.name, k.at, k.ev)
			}
		}
	}
	t.Logf("%d worlds, ends: %v", v.worlds, v.ends)
}

// TestWithoutMisfortune: a move that is accepted, and that nothing disturbs, ends at the target.
func TestWithoutMisfortune(t *testing.T) {
	m := &model{variant: rightWay()}
	m.faults, m.time = false, false
	v := m.explore()
	if v.story != "" {
		t.Fatal(v.story)
	}
	if v.ends["ended away"] != 0 || v.ends["home"] == 0 || v.ends["away"] == 0 {
		t.Errorf("ends: %v", v.ends)
	}
}

// TestTheModelNotices takes one thing away from the machines or from what drives them, each time another: the model must show
// what comes of it, or it would prove nothing.
func TestTheModelNotices(t *testing.T) {
	const both, nowhere, remains = "it runs on both sides", "it runs nowhere, for ever", "remains"
	for name, c := range map[string]struct {
		spoil func(*variant)
		want  string
	}{
		"a source that believes silence after Commit":  {func(v *variant) { v.source[key{Committed, Lost}] = rule{Stayed, Unpark} }, both},
		"a source that believes its own failure":       {func(v *variant) { v.source[key{Committed, Failed}] = rule{Stayed, Unpark} }, both},
		"a source that does not wait beyond the lease": {func(v *variant) { v.margin = 0 }, both},
		"a source that parks before it hears Ready":    {func(v *variant) { v.hasty = true }, both},
		"a source that never thaws after Commit":       {func(v *variant) { delete(v.source, key{Committed, LeaseEnd}) }, remains},
		"a source that forgets to unpark":              {func(v *variant) { v.source[key{Parked, Lost}] = rule{Stayed, Release} }, "does not make the process run"},
		"a target without a lease":                     {func(v *variant) { v.lease, v.keeperSleeps = time.Hour, true }, both},
		"a keeper that does not end the guest":         {func(v *variant) { v.keeperSleeps = true }, both},
		"a target that keeps its copy":                 {func(v *variant) { v.target[key{Complete, Lost}] = rule{Dropped, Ignore} }, "leaves a copy"},
		"a target that waits for ever": {func(v *variant) {
			for _, e := range []Event{Lost, Failed, LeaseEnd} {
				v.target[key{Complete, e}] = rule{Complete, Ignore}
			}
		}, remains},
		"a source that is gone when it sends Commit": {func(v *variant) { v.source[key{Parked, DoCommit}] = rule{Gone, Go} }, nowhere},
	} {
		v := rightWay()
		v.source, v.target = maps.Clone(v.source), maps.Clone(v.target)
		c.spoil(&v)
		if got := (&model{variant: v}).explore(); !strings.Contains(strings.SplitN(got.story, "\n", 2)[0], c.want) {
			t.Errorf("%s: the model finds %q, want %q", name, got.story, c.want)
		}
	}
}
