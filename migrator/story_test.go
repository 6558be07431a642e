package migrator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestStories plays the transcripts in testdata. The verb is
//
//	move lease=10s     both ends begin; each line of the input is then one thing that happens:
//
//	source EVENT       the source's machine meets it
//	target EVENT       likewise
//	both EVENT
//	to Complete        what a good move does until one end is so, and the other knows it (or: to Copying, …)
//	wait 5s            time passes; a guest whose lease is over is ended by its keeper
//	crash source       its agent dies: whatever was held runs on, whoever is parked sleeps
//	restart source     a new agent reads the shared page
//	crash target       its agent dies: what was being built dies with it, a guest that runs goes on
//	grant              home's renewal reaches the guest
//
// Each line is answered by what the ends do, and by where the process runs then.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "move" {
				d.Fatalf(t, "no such verb")
			}
			lease := 10 * time.Second
			if d.HasArg("lease") {
				var s string
				d.ScanArgs(t, "lease", &s)
				var err error
				if lease, err = time.ParseDuration(s); err != nil {
					d.Fatalf(t, "%v", err)
				}
			}
			p := &play{src: NewSource(), dst: NewTarget(lease), lease: lease, awake: true}
			for line := range strings.Lines(d.Input) {
				if err := p.line(strings.Fields(line)); err != nil {
					d.Fatalf(t, "%q: %v", strings.TrimSpace(line), err)
				}
			}
			if strings.Contains(p.out.String(), both) {
				t.Errorf("%s: it runs %s:\n%s", d.Pos, both, &p.out)
			}
			return p.out.String()
		})
	})
}

// both is what no transcript may ever say.
const both = "ON BOTH SIDES"

// play is one move and what surrounds it.
type play struct {
	src, dst *End
	lease    time.Duration
	now      time.Duration
	awake    bool          // home's copy would run if nobody held it
	guest    bool          // the guest runs
	until    time.Duration // until its keeper ends it
	granted  bool
	out      strings.Builder
}

// course is a move that goes well.
var course = []struct {
	source bool
	ev     Event
}{
	{false, Accepted}, {true, Accepted}, {true, Prepared}, {true, Froze}, {true, SentAll}, {false, GotFinal}, {false, BeReady},
	{true, BeReady}, {true, DidPark}, {true, DoCommit}, {false, DoCommit}, {true, IsRun},
}

func (p *play) line(w []string) error {
	switch {
	case len(w) != 2 && (len(w) != 1 || w[0] != "grant"):
		return fmt.Errorf("want a verb and what it is about")
	case w[0] == "source":
		p.source(Event(w[1]))
	case w[0] == "target":
		p.target(Event(w[1]))
	case w[0] == "both":
		p.source(Event(w[1]))
		p.target(Event(w[1]))
	case w[0] == "to":
		return p.to(State(w[1]))
	case w[0] == "wait":
		d, err := time.ParseDuration(w[1])
		if err != nil {
			return err
		}
		p.now += d
		if p.guest && !p.granted && p.now >= p.until {
			p.guest = false
			p.say("keeper", "the lease is over, the guest is ended")
		} else {
			p.say("clock", "nothing happens")
		}
	case w[0] == "crash" && w[1] == "source":
		if p.src.State == Parked || p.src.State == Committed {
			p.say("source", "its agent dies; the shadow sleeps on")
			break
		}
		p.src.State, p.awake = Stayed, true
		p.say("source", "its agent dies; nothing holds the process any more")
	case w[0] == "restart" && w[1] == "source":
		if p.src.State == Parked {
			p.source(Lost)
			break
		}
		p.say("source", "a new agent finds it "+string(p.src.State))
	case w[0] == "crash" && w[1] == "target":
		if !p.guest {
			p.dst.State = Dropped
			p.say("target", "its agent dies, and with it what it built")
			break
		}
		p.say("target", "its agent dies; the guest goes on under its lease")
	case w[0] == "grant":
		if p.granted = p.guest; !p.granted {
			p.say("target", "no guest is there to be granted anything")
			break
		}
		p.say("target", "the guest's lease is home's now")
	default:
		return fmt.Errorf("no such thing happens")
	}
	return nil
}

// ways says how far each good move has come when it is in a state.
var ways = map[State]int{Preparing: 2, Copying: 3, Frozen: 4, Finishing: 5, Complete: 8, Parking: 8, Parked: 9, Committed: 10, Running: 11, Gone: 12}

// to goes along the course, without a word, until s.
func (p *play) to(s State) error {
	n, ok := ways[s]
	if !ok {
		return fmt.Errorf("no good move comes by %s", s)
	}
	text := p.out.String()
	for _, c := range course[:n] {
		if c.source {
			p.source(c.ev)
		} else {
			p.target(c.ev)
		}
	}
	if p.src.State != s && p.dst.State != s {
		return fmt.Errorf("after %d steps of a good move the source is %s and the target %s", n, p.src.State, p.dst.State)
	}
	p.out.Reset()
	p.out.WriteString(text)
	p.say("both", fmt.Sprintf("all goes well: source %s, target %s", p.src.State, p.dst.State))
	return nil
}

func (p *play) source(ev Event) {
	was := p.src.State
	act, err := p.src.On(ev, p.now)
	if err != nil {
		p.say("source", err.Error())
		return
	}
	switch {
	case p.src.State == Parked:
		p.awake = false
	case act == Unpark, act == Release:
		p.awake = true
	}
	p.say("source", describe(was, ev, p.src.State, act))
}

func (p *play) target(ev Event) {
	was := p.dst.State
	act, err := p.dst.On(ev, p.now)
	if err != nil {
		p.say("target", err.Error())
		return
	}
	switch p.dst.State {
	case Complete:
		p.until = p.now + p.lease
	case Running:
		p.guest = true
	}
	p.say("target", describe(was, ev, p.dst.State, act))
}

func describe(was State, ev Event, is State, act Action) string {
	if was == is {
		return fmt.Sprintf("%s: stays %s, %s", ev, is, act)
	}
	return fmt.Sprintf("%s: %s → %s, %s", ev, was, is, act)
}

func (p *play) say(who, what string) {
	home := p.awake && (p.src.State == Offered || p.src.State == Preparing || p.src.State == Copying || p.src.State == Stayed)
	where := "nowhere"
	switch {
	case home && p.guest:
		where = both
	case home:
		where = "at home"
	case p.guest:
		where = "away"
	}
	fmt.Fprintf(&p.out, "%6s  runs %-8s %-7s %s\n", p.now, where, who, what)
}
