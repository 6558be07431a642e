// Package fault names the places where tests break mosix: a crash, a delay, an error or a standstill at one exact step. Its
// one invariant: a program that was not armed at its start does nothing at a point but read one atomic flag, whatever files
// appear later.
//
// A point is a package variable, so that All lists every point of a program without running it:
//
//	var afterFreeze = fault.Register("after-freeze")
//	…
//	if err := afterFreeze.Hit(); err != nil { return err }
//
// A program is armed with a file (configuration key faults_file, or the environment variable MOSIX_FAULTS). The file has a
// line for each point, is read again at every hit, and may be written, replaced or removed at any time:
//
//	# comment
//	after-freeze crash           the program kills itself, as kill -9 does
//	after-freeze delay 5s        it sleeps, and goes on
//	after-freeze error           Hit returns an error that is ErrInjected
//	after-freeze block           it stands still until the line is gone
//	after-freeze crash once      any action: only if it was not yet done, by this program or an earlier one
//
// What was done is appended to the file's name with ".hits", one line "after-freeze crash PID", before it is done: a test
// waits for that line instead of guessing how long a step takes.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Env names the environment variable that arms a program whose configuration does not.
const Env = "MOSIX_FAULTS"

// ErrInjected is what an injected error is, by errors.Is.
var ErrInjected = errors.New("injected by a fault point")

// blockPoll is how often a blocked point looks whether its line is gone.
const blockPoll = 20 * time.Millisecond

var (
	armed atomic.Bool // the only thing that an unarmed program looks at

	mu     sync.Mutex // guards all below
	points = map[string]*Point{}
	file   string
)

// Point is one named place in the code.
type Point struct{ name string }

// Register makes the point name: lower-case words with dashes. It is called for package variables only, and panics where a
// name is used twice, since a test could then not tell which of the two it has hit.
func Register(name string) *Point {
	mu.Lock()
	defer mu.Unlock()
	if name == "" || strings.ToLower(name) != name || strings.ContainsAny(name, " \t\n#") {
		panic(fmt.Sprintf("fault point %q: want lower-case words with dashes", name))
	}
	if points[name] != nil {
		panic(fmt.Sprintf("fault point %q is registered twice", name))
	}
	p := &Point{name}
	points[name] = p
	return p
}

// All lists the points of this program by name.
func All() []*Point {
	mu.Lock()
	defer mu.Unlock()
	all := make([]*Point, 0, len(points))
	for _, p := range points {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Point) int { return strings.Compare(a.name, b.name) })
	return all
}

// Arm makes the points of this program obey the file at path; an empty path means what MOSIX_FAULTS names, if anything. The
// file need not exist yet. Arm refuses a file that cannot be understood, or names a point that this program does not have.
func Arm(path string) error {
	if path == "" {
		path = os.Getenv(Env)
	}
	if path == "" {
		return nil
	}
	lines, err := read(path)
	if err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	for _, l := range lines {
		if points[l.point] == nil {
			return fmt.Errorf("%s:%d: this program has no fault point %q", path, l.number, l.point)
		}
	}
	file = path
	armed.Store(true)
	return nil
}

// Disarm makes all points do nothing again. A point that blocks goes on.
func Disarm() {
	armed.Store(false)
	mu.Lock()
	defer mu.Unlock()
	file = ""
}

// Name is the name that p was registered with.
func (p *Point) Name() string { return p.name }

func (p *Point) String() string { return p.name }

// Hit is called when the program reaches p. Unless p is armed it returns nil at once.
func (p *Point) Hit() error {
	if !armed.Load() {
		return nil
	}
	l, path, err := p.line()
	if err != nil || l == nil {
		return err
	}
	if err := note(path, l); err != nil {
		return err
	}
	switch l.action {
	case "crash":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way to this thread too; nothing may run after the point
	case "delay":
		time.Sleep(l.delay)
	case "block":
		for {
			time.Sleep(blockPoll)
			if now, _, err := p.line(); err != nil || now == nil || now.action != "block" {
				return err
			}
		}
	case "error":
		return fmt.Errorf("%w: %s", ErrInjected, p.name)
	}
	return nil
}

// line finds what is to be done at p now; nil: nothing.
func (p *Point) line() (*line, string, error) {
	mu.Lock()
	path := file
	mu.Unlock()
	if path == "" {
		return nil, "", nil
	}
	lines, err := read(path)
	if err != nil {
		return nil, path, err
	}
	for i := range lines {
		l := &lines[i]
		if l.point != p.name {
			continue
		}
		if l.once {
			done, err := wasDone(path, l)
			if err != nil || done {
				return nil, path, err
			}
		}
		return l, path, nil
	}
	return nil, path, nil
}

// line is one line of a faults file.
type line struct {
	number int
	point  string
	action string // crash delay error block
	delay  time.Duration
	once   bool
}

func read(path string) ([]line, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read faults file: %w", err)
	}
	lines, err := parse(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return lines, nil
}

func parse(text string) ([]line, error) {
	var lines []line
	for i, s := range strings.Split(text, "\n") {
		s, _, _ = strings.Cut(s, "#")
		f := strings.Fields(s)
		if len(f) == 0 {
			continue
		}
		l := line{number: i + 1, point: f[0]}
		if n := len(f) - 1; n > 1 && f[n] == "once" {
			l.once, f = true, f[:n]
		}
		switch {
		case len(f) == 2 && (f[1] == "crash" || f[1] == "error" || f[1] == "block"):
			l.action = f[1]
		case len(f) == 3 && f[1] == "delay":
			d, err := time.ParseDuration(f[2])
			if err != nil || d < 0 {
				return nil, fmt.Errorf("%d: %q is not a time to wait: want one such as 5s", l.number, f[2])
			}
			l.action, l.delay = f[1], d
		default:
			return nil, fmt.Errorf("%d: %q: want POINT crash | error | block | delay TIME, and perhaps once", l.number, strings.TrimSpace(s))
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// HitsFile is where the hits of the faults file at path are written.
func HitsFile(path string) string { return path + ".hits" }

// note writes down, in one append, that l is about to be done.
func note(path string, l *line) error {
	f, err := os.OpenFile(HitsFile(path), os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("note a hit of fault point %s: %w", l.point, err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s %s %d\n", l.point, l.action, os.Getpid()); err != nil {
		return fmt.Errorf("note a hit of fault point %s: %w", l.point, err)
	}
	return nil
}

func wasDone(path string, l *line) (bool, error) {
	b, err := os.ReadFile(HitsFile(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read hits of fault points: %w", err)
	}
	for s := range strings.Lines(string(b)) {
		if strings.HasPrefix(s, l.point+" "+l.action+" ") {
			return true, nil
		}
	}
	return false, nil
}
