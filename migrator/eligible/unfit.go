package eligible

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"mosix/internal/image"
	"mosix/internal/procfs"
)

// Activity is what the sampler has seen of a process: how long its threads were ready to run, on a processor or waiting for
// one, summed.
type Activity struct {
	Ready  time.Duration // in all
	Last   time.Duration // in the last period
	Period time.Duration // how long that was
	Newly  bool          // it has just begun, and somebody else knows whether it is worth a move
}

// MinReady is how long a process must have been ready to run before it is worth a move.
const MinReady = 2 * time.Second

//go:embed default.rules
var defaultRules string

// DefaultRules are the rules for processes that belong to the person at the machine.
var DefaultRules = must(ParseRules(defaultRules))

func must(r Rules, err error) Rules {
	if err != nil {
		panic(err)
	}
	return r
}

// Rules name processes that the balancer leaves alone. They are data: an administrator may give a file of his own.
type Rules struct {
	names   map[string]string // comm to what it is
	shells  map[string]bool   // comm, when it leads a session
	cgroups []string          // components of the path
}

// commMax is how many bytes of a name the kernel keeps.
const commMax = 15

// ParseRules reads rules, one a line; # begins a comment:
//
//	desktop NAME…    processes that serve the person at the machine
//	session NAME…    processes that hold a session together
//	shell   NAME…    the same, but only as leaders of their session
//	cgroup  NAME…    everything under a control group of that name
//
// A name may be in quotation marks when it has blanks in it, and is compared with the first 15 bytes of the process's.
func ParseRules(text string) (Rules, error) {
	r := Rules{names: map[string]string{}, shells: map[string]bool{}}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words, err := splitWords(line)
		if err != nil {
			return r, fmt.Errorf("rules, line %d: %w", i+1, err)
		}
		if len(words) == 0 {
			continue
		}
		for _, w := range words[1:] {
			comm := w[:min(len(w), commMax)]
			switch words[0] {
			case "desktop":
				r.names[comm] = Desktop
			case "session":
				r.names[comm] = Session
			case "shell":
				r.shells[comm] = true
			case "cgroup":
				r.cgroups = append(r.cgroups, w)
			default:
				return r, fmt.Errorf("rules, line %d: %q is none of desktop, session, shell, cgroup", i+1, words[0])
			}
		}
	}
	return r, nil
}

func splitWords(line string) ([]string, error) {
	var out []string
	for {
		line = strings.TrimLeft(line, " \t\r")
		if line == "" {
			return out, nil
		}
		if line[0] == '"' {
			w, rest, ok := strings.Cut(line[1:], `"`)
			if !ok || w == "" {
				return nil, fmt.Errorf("%s: a quotation that does not end", line)
			}
			out, line = append(out, w), rest
			continue
		}
		n := strings.IndexAny(line, " \t\r")
		if n < 0 {
			n = len(line)
		}
		out, line = append(out, line[:n]), line[n:]
	}
}

// Unfit gives every reason why the balancer should not move the process of f by itself although it could be moved.
func Unfit(f Facts, a Activity) image.Refusals { return DefaultRules.Unfit(f, a) }

// Unfit is the function of that name, with other rules.
func (rules Rules) Unfit(f Facts, a Activity) image.Refusals {
	r := &refusals{}
	if a.Ready <= MinReady && !a.Newly {
		r.add(Young, "It has worked too little so far to be worth a move; most processes end soon.",
			"ready to run for %s in all, %s are wanted", a.Ready.Round(time.Millisecond), MinReady)
	}
	if a.Last*2 <= a.Period && !a.Newly {
		r.add(Idle, "It does not compute at the moment, and waiting costs nothing here.",
			"ready to run for %s of the last %s", a.Last.Round(time.Millisecond), a.Period.Round(time.Millisecond))
	}
	rules.person(r, &f)
	// Never by itself, whoever would allow it.
	judgeRights(r, &f, Asker{})
	return r.done()
}

// person refuses what belongs to the person at the machine, or holds a session together.
func (rules Rules) person(r *refusals, f *Facts) {
	const consoleMajor = 4
	const desktopWhy = "It serves the person at this machine and would feel slow from afar; mosixctl migrate moves it nevertheless."
	const sessionWhy = "It holds a session together and does little itself; mosixctl migrate moves it nevertheless."
	comm := f.Stat.Comm
	switch rules.names[comm] {
	case Desktop:
		r.add(Desktop, desktopWhy, "it is called %q", comm)
	case Session:
		r.add(Session, sessionWhy, "it is called %q", comm)
	}
	if f.Stat.Session == f.PID {
		switch {
		case f.Stat.TTYMajor() == consoleMajor:
			r.add(Session, sessionWhy, "it leads the session on console tty%d", f.Stat.TTYMinor())
		case rules.shells[comm]:
			r.add(Session, sessionWhy, "it is a shell (%s) and leads its session", comm)
		}
	}
	for _, c := range f.Cgroups {
		for _, part := range strings.Split(c.Path, "/") {
			if slices.Contains(rules.cgroups, part) {
				r.add(Desktop, desktopWhy, "control group %s in /proc/%d/cgroup", c.Path, f.PID)
				return
			}
		}
	}
}

// IsKernelThread reports whether f is of a thread of the kernel: those are shown nowhere.
func IsKernelThread(f *Facts) bool {
	return f.Stat.Flags&procfs.FlagKthread != 0 || f.Status.Kthread
}
