package node

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
	"mosix/internal/procfs"
	"mosix/migrator/eligible"
	"mosix/node/sampler"
)

// Where processes begin. The kernel begins each at its home; one that is likely to compute for long is sent where there is room as soon as
// it is noticed, and not only when it has shown that it does. What past processes of its program have used is the best guess, and where
// that is not known, what it has used itself.

// births is what is known of programs, and who was looked at.
type births struct {
	path    string // where it is kept
	placing atomic.Bool

	mu       sync.Mutex
	programs map[string]*program
	running  map[id.Process]*life
	tried    map[id.Process]int // looks at those that are young
	changed  bool
	saved    time.Time
}

// program is what the processes of a program have used that this agent has noticed: of the last few, for programs change.
type program struct {
	Ends int     `json:"ends"`
	CPU  float64 `json:"cpu_seconds"` // of one, averaged over the last ones
	Used int64   `json:"used_unix"`   // when it was noticed last
}

// life is that of a process which runs.
type life struct {
	program string
	before  time.Duration // what it had used when it executed its program
	cpu     time.Duration // in all
	seen    bool          // in this period
	word    string        // where it began, and why
}

const (
	mostPrograms = 1000
	enoughEnds   = 3  // of a program, to believe what they say
	recentEnds   = 20 // count
	birthLooks   = 2  // at a young process
	saveEvery    = time.Minute
)

func (s *births) open(dir string) {
	s.path, s.saved = filepath.Join(dir, "programs.json"), time.Now()
	s.programs, s.running, s.tried = map[string]*program{}, map[id.Process]*life{}, map[id.Process]int{}
	if b, err := os.ReadFile(s.path); err == nil && json.Unmarshal(b, &s.programs) != nil || s.programs == nil {
		s.programs = map[string]*program{} // it begins to learn anew
	}
	for name, p := range s.programs {
		if p == nil {
			delete(s.programs, name)
		}
	}
}

// programOf names what a process executes: its file, and for scripts what the kernel calls the process.
func programOf(pid int, command string) string {
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(exe, " (deleted)") + " " + command
}

// note takes down what a process of this home has used so far.
func (s *births) note(p id.Process, pid int, command string, cpu time.Duration) {
	l := s.running[p]
	if l == nil {
		l = &life{}
		s.running[p] = l
	}
	if name := programOf(pid, command); name != "" && name != l.program {
		if l.program != "" { // it has executed another one, and begins anew
			s.learn(l.program, l.cpu-l.before)
			l.before = l.cpu
			delete(s.tried, p)
		}
		l.program = name
	}
	l.cpu, l.seen = max(l.cpu, cpu), true
}

// end learns from those that were not noted since the last call, and are gone. Away are those that still run, elsewhere.
func (s *births) end(away map[id.Process]bool) {
	for p, l := range s.running {
		if gone := !l.seen && !away[p]; gone && !isThere(p) {
			s.learn(l.program, l.cpu-l.before)
			delete(s.running, p)
		}
		l.seen = false
	}
	for p := range s.tried {
		if s.running[p] == nil {
			delete(s.tried, p)
		}
	}
	if s.changed && time.Since(s.saved) > saveEvery {
		s.saved, s.changed = time.Now(), false
		if b, err := json.Marshal(s.programs); err == nil {
			_ = replaceFile(s.path, b) // what is lost is learnt again
		}
	}
}

func (s *births) learn(name string, cpu time.Duration) {
	if name == "" {
		return
	}
	p := s.programs[name]
	if p == nil {
		if len(s.programs) >= mostPrograms {
			oldest := ""
			for n, x := range s.programs {
				if oldest == "" || x.Used < s.programs[oldest].Used {
					oldest = n
				}
			}
			delete(s.programs, oldest)
		}
		p = &program{}
		s.programs[name] = p
	}
	p.Ends++
	p.CPU += (cpu.Seconds() - p.CPU) / float64(min(p.Ends, recentEnds))
	p.Used, s.changed = time.Now().Unix(), true
}

// remains is how much more CPU time a process of a program is expected to use that has used so much. Of those of an unknown program that
// have used a, as many as a/x use x (Harchol-Balter and Downey 1997, section 3), up to an hour: on average a ln(hour/a) remain.
func (s *births) remains(name string, used time.Duration) time.Duration {
	if p := s.programs[name]; p != nil && p.Ends >= enoughEnds {
		return max(used, time.Duration(p.CPU*1e9)-used)
	}
	used = max(used, time.Millisecond)
	return time.Duration(float64(used) * max(1, math.Log(longLife.Seconds()/used.Seconds())))
}

const longLife = time.Hour

// unknownLife is expected of a process that has not begun, where its program is not known.
const unknownLife = time.Second

// whole is how much a process of a program is expected to use in all, which has not begun.
func (s *births) whole(name string) time.Duration {
	if p := s.programs[name]; p != nil && p.Ends >= enoughEnds {
		return time.Duration(p.CPU * 1e9)
	}
	return unknownLife
}

// young is a process that has just begun, and what is expected of it.
type young struct {
	process id.Process
	sampler.Process
	birth balancer.Birth
}

// bear looks after the processes that have begun since the last time, and learns from those that have ended.
func (b *balance) bear(v balancer.View) {
	n := b.n
	away := map[id.Process]bool{}
	used := map[id.Process]time.Duration{} // of those that are away, in all, and of others, away
	guests := map[int]bool{}
	n.mu.Lock()
	for p, r := range n.records {
		used[p] = time.Duration(r.used.Run)
		if a := r.away; a != nil {
			a.mu.Lock()
			away[p], used[p] = true, a.cpu
			a.mu.Unlock()
		}
	}
	for _, t := range n.guests {
		guests[t.g.PID] = true
	}
	stay := n.own.Stay
	n.mu.Unlock()
	b.mu.Lock()
	old, fresh, costs := b.snap.Processes, b.snap.Young, b.costs
	b.mu.Unlock()
	s := &b.births
	s.mu.Lock()
	defer s.mu.Unlock()
	placer, places := b.policy.(balancer.Placer)
	places = places && !stay && !s.placing.Load() // otherwise the next look is theirs
	var due []young
	for _, x := range slices.Concat(old, fresh) {
		if guests[x.PID] {
			continue
		}
		p := id.Process{Home: n.name, PID: id.HomePID(x.PID), Start: x.Start}
		if away[p] {
			continue
		}
		if s.note(p, x.PID, x.Command, x.CPU+used[p]); !x.Young || s.tried[p] >= birthLooks || !places {
			continue
		}
		s.tried[p]++
		l := s.running[p]
		life := s.remains(l.program, l.cpu-l.before)
		due = append(due, young{p, x, balancer.Birth{Life: life, Bytes: x.RSS, Cost: birthFactor * costs.Of(x.RSS)}})
	}
	for p := range away {
		if l := s.running[p]; l != nil {
			l.cpu = max(l.cpu, used[p])
		}
	}
	s.end(away)
	if len(due) == 0 {
		return
	}
	s.placing.Store(true)
	n.goes(func() {
		defer s.placing.Store(false)
		b.placeAll(placer, v, due)
	})
}

// birthFactor is how many times what a move costs it must save: what is expected of a process is a guess.
const birthFactor = 3

// placeAll lets the young go where the policy wants them, one after the other.
func (b *balance) placeAll(policy balancer.Placer, v balancer.View, due []young) {
	n := b.n
	one := v.Self.Capacity().Of(1)
	for _, y := range due {
		v.Self.Now = max(0, v.Self.Now-v.Self.Capacity().Of(y.ReadyTasks))
	}
	for _, y := range due {
		if why := b.stays(&y, &v); why != "" {
			n.log.Debug("a process begins at home", "process", y.process, "why", why)
			b.births.tell(y.process, "at home: "+why)
			v.Self.Now += one
			continue
		}
		ctx, cancel := context.WithTimeout(n.ctx, birthTime)
		to, o, why := b.place(ctx, policy, v, y.process, y.birth)
		cancel()
		if n.log.Debug("a process has begun", "process", y.process, "to", to, "why", why); to == "" {
			b.births.tell(y.process, "at home: "+why)
			v.Self.Now += one
			continue
		}
		b.births.tell(y.process, fmt.Sprintf("sent to %s: %s", to, why))
		m := balancer.Move{Process: y.process, To: to, Offer: o, Reason: "it has just begun: " + why}
		n.sends(m, n.inputs(v))
		at := b.note(m)
		n.goes(func() { b.act(n.ctx, m, at) })
	}
}

// tell takes down where a process begins, and why.
func (s *births) tell(p id.Process, word string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.running[p]; l != nil {
		l.word = word
	}
}

// told is what was taken down of a process last, or "".
func (s *births) told(p id.Process) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.running[p]; l != nil {
		return l.word
	}
	return ""
}

// birthTime is how long nodes are asked about one process.
const birthTime = 5 * time.Second

// stays says what keeps a young process at home, or "".
func (b *balance) stays(y *young, v *balancer.View) string {
	n := b.n
	n.mu.Lock()
	r := n.records[y.process]
	busy := r != nil && (r.away != nil || r.moving || r.pinned || time.Now().Before(r.lockedUntil))
	n.mu.Unlock()
	if busy || b.isLeaving(y.process) {
		return "somebody else has decided about it"
	}
	var why string
	if y.birth.Barred, why = n.barred(v, y.process, y.Command); why != "" {
		return why
	}
	if calls, bytes, err := readIO(y.PID); err == nil && y.CPU > 0 {
		if y.birth.Talk = waitFor(calls, bytes, b.anyPrice()) / float64(y.CPU); y.birth.Talk > talkMost {
			return fmt.Sprintf("away it would wait for home %.1f s for each second of computing", y.birth.Talk)
		}
	}
	f, err := eligible.Gather(procfs.Default, y.PID, eligible.Options{})
	if err != nil {
		return err.Error()
	}
	if rs := append(eligible.Judge(f, eligible.OwnerOf(f), nil), b.unfit(f, true)...); len(rs) > 0 {
		return rs[0].Why
	}
	return ""
}

// place lets the policy choose where a process goes on that begins. Where it is not home, a place is booked there.
func (b *balance) place(ctx context.Context, policy balancer.Placer, v balancer.View, p id.Process, birth balancer.Birth) (to id.Node, o balancer.Offer, why string) {
	one := v.Self.Capacity().Of(1)
	o = balancer.Offer{Process: p, From: v.Self.Name, Load: v.Self.Now + one, CPUs: v.Self.CPUs, Speed: v.Self.Speed, Ready: 1, Bytes: birth.Bytes, Birth: true}
	// Several may begin at once: that one is on its way to a node does not keep another from asking there.
	v.Attempts = slices.DeleteFunc(slices.Clone(v.Attempts), func(a balancer.Attempt) bool { return a.Outcome == balancer.Pending })
	var told []balancer.Told
	for {
		d := policy.Place(v, birth, told, now(), b.random())
		if d.Done || ctx.Err() != nil {
			if !d.Done {
				d.To = ""
			}
			b.giveUp(p, told, d.To)
			return d.To, o, d.Why
		}
		more, _ := b.survey(ctx, p, d.Ask, o)
		told = append(told, more...)
	}
}
