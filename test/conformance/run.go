package conformance

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// Mode is where a case runs.
type Mode string

// The modes, in the order in which a case goes through them.
const (
	Native    Mode = "native"    // on this machine, as an ordinary user
	AtHome    Mode = "home"      // in a node, where it stays
	Forwarded Mode = "forwarded" // moved to another node before it begins
	Moving    Mode = "moving"    // moved again between after each move has ended, as long as it lasts
)

const (
	between  = 100 * time.Millisecond
	patience = 25 * time.Second // that a run may take beyond its time
)

// Outcome is what a run of a case came to.
type Outcome struct {
	Wrong  string // empty: it holds
	Rounds int
	Moved  int
	PID    int
}

// Runner runs cases and counts.
type Runner struct {
	Suite   *Suite
	Cluster *cluster.Cluster // nil: only natively
	Home    id.Node
	Others  []id.Node
	Seconds float64 // that a case goes on while it is moved

	mu    sync.Mutex
	count Count
}

// Count is what was done, over all cases.
type Count struct {
	Runs, Rounds, Moved int
	Failed              []string       // what moves failed with
	Refused             map[string]int // by reason
	FreezeMS            []float64
}

// Counted is a copy of what was counted up to now.
func (r *Runner) Counted() Count {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.count
	c.Refused = map[string]int{}
	for what, n := range r.count.Refused {
		c.Refused[what] = n
	}
	c.Failed = append([]string(nil), r.count.Failed...)
	c.FreezeMS = append([]float64(nil), r.count.FreezeMS...)
	return c
}

// process is a started program, in a node or on this machine.
type process struct {
	wait     func() error
	complain said
	out      said
	begin    io.WriteCloser // a byte lets it begin
	ended    chan struct{}
	err      error // of its end
}

// Run runs a case in one mode. The error is about the machinery; what is wrong with the case stands in the outcome.
func (r *Runner) Run(ctx context.Context, c Case, mode Mode) (Outcome, error) {
	seconds := 0.0
	args := []string{"run", c.Name}
	switch mode {
	case Native:
		seconds = 0.05
	case Moving:
		seconds = r.Seconds
	}
	args = append(args, fmt.Sprint(seconds))
	if mode == Forwarded || mode == Moving {
		args = append(args, "wait")
	}
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(seconds*float64(time.Second)))
	defer cancel()
	p, err := r.start(ctx, c.Program, mode, args)
	if err != nil {
		return Outcome{}, fmt.Errorf("start %s: %w", c, err)
	}
	defer p.close()
	var o Outcome
	if mode == Forwarded || mode == Moving {
		o.PID, o.Moved, err = r.moveAbout(ctx, p, mode)
	}
	<-p.ended
	if err == nil {
		o.judge(ctx, c, p)
	} else {
		o.Wrong = err.Error()
	}
	if said := own.ReplaceAllString(p.complain.String(), ""); o.Wrong != "" && strings.TrimSpace(said) != "" {
		o.Wrong += "\non its standard error it says: " + strings.TrimSpace(said)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.Runs++
	r.count.Rounds += o.Rounds
	return o, nil
}

var (
	pidLine    = regexp.MustCompile(`(?m)^pid (\d+)$`)
	roundsLine = regexp.MustCompile(`(?m)^(\d+) rounds$`)
	own        = regexp.MustCompile(`(?m)^(pid \d+|\d+ rounds)\n`) // lines that every program writes
)

// judge holds what was printed to what a case that holds prints: that, and nothing else.
func (o *Outcome) judge(ctx context.Context, c Case, p *process) {
	if m := roundsLine.FindStringSubmatch(p.complain.String()); m != nil {
		o.Rounds, _ = strconv.Atoi(m[1])
	}
	text := strings.TrimSpace(p.out.String())
	switch {
	case ctx.Err() != nil:
		o.Wrong = fmt.Sprintf("it did not end in time (at last: %v); it says: %s", p.err, text)
	case strings.Contains(text, "not ok "):
		o.Wrong = text[strings.Index(text, "not ok "):]
	case p.err != nil:
		o.Wrong = fmt.Sprintf("it ended with %v; it says: %s", p.err, text)
	case text != "ok "+c.Name:
		o.Wrong = fmt.Sprintf("it ended with 0 and printed %q", text)
	}
}

// moveAbout moves p away, lets it begin, and in mode moving goes on until it has ended. It cancels nothing: a case that hangs
// is ended by the context of its run.
func (r *Runner) moveAbout(ctx context.Context, p *process, mode Mode) (pid, moved int, err error) {
	for pid == 0 {
		if m := pidLine.FindStringSubmatch(p.complain.String()); m != nil {
			pid, _ = strconv.Atoi(m[1])
		} else if p.hasEnded(time.Millisecond) {
			return 0, 0, fmt.Errorf("it ended before it began: %v", p.err)
		}
	}
	stop := func(err error) (int, int, error) {
		p.begin.Close() // it ends when it reads nothing
		return pid, moved, err
	}
	for try := 0; ; try++ { // it waits, so that nothing but its being on the way speaks against a move
		done, why, err := r.move(pid, r.Others[0])
		if err != nil {
			return stop(err)
		}
		if done {
			break
		}
		if try == 20 {
			return stop(fmt.Errorf("it was not moved before it began: %s", why))
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := p.begin.Write([]byte("g")); err != nil {
		return stop(fmt.Errorf("let it begin: %w", err))
	}
	if mode != Moving {
		return pid, 1, nil
	}
	stations := append(append([]id.Node{}, r.Others[1:]...), r.Home, r.Others[0])
	for i := 0; !p.hasEnded(between); i++ {
		done, _, err := r.move(pid, stations[i%len(stations)])
		if done {
			moved++
		}
		if err != nil {
			return pid, moved, err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return pid, moved, nil
}

// move asks once. It returns false with the reasons where it was not moved. A move that failed has left the process alone, so
// that is counted, and no error.
func (r *Runner) move(pid int, to id.Node) (done bool, why string, err error) {
	target := string(to)
	if to == r.Home {
		target = api.ToHome
	}
	m, err := r.Cluster.Migrate(r.Home, cluster.User1, pid, target)
	if err != nil {
		return false, "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m.Result {
	case api.ResultMoved:
		r.count.Moved++
		r.count.FreezeMS = append(r.count.FreezeMS, m.FreezeMS)
		return true, "", nil
	case api.ResultRefused:
		var reasons []string
		if r.count.Refused == nil {
			r.count.Refused = map[string]int{}
		}
		for _, x := range m.Refusals {
			r.count.Refused[x.What]++
			reasons = append(reasons, fmt.Sprint(x))
		}
		return false, strings.Join(reasons, "; "), nil
	}
	if !strings.Contains(m.Error, "has ended") && !strings.Contains(m.Error, "no such process") {
		r.count.Failed = append(r.count.Failed, m.Error)
	}
	return false, m.Error, nil
}

// hasEnded waits for the end, at most for d.
func (p *process) hasEnded(d time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(d):
		return false
	}
}

func (r *Runner) start(ctx context.Context, prog Program, mode Mode, args []string) (*process, error) {
	in, begin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	p := &process{begin: begin, ended: make(chan struct{})}
	for _, s := range []*said{&p.complain, &p.out} {
		if s.File, err = os.CreateTemp(r.Suite.Dir, "said-"); err != nil {
			p.close()
			return nil, err
		}
	}
	if mode == Native {
		c := exec.CommandContext(ctx, filepath.Join(r.Suite.Dir, prog.file()), args...)
		c.Stdin, c.Stdout, c.Stderr = in, p.out.File, p.complain.File
		c.Dir = "/tmp"
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if os.Getuid() == 0 {
			c.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		}
		c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
		p.wait = c.Wait
		err = c.Start()
	} else {
		c := r.Cluster.CommandContext(ctx, r.Home, lab.As{User: lab.DefaultUser, Dir: "/tmp"}, prog.file(), args...)
		c.Stdin, c.Stdout, c.Stderr = in, p.out.File, p.complain.File
		p.wait = c.Wait
		err = c.Start()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	go func() {
		p.err = p.wait()
		close(p.ended)
	}()
	return p, nil
}

// nobody is the number of the user that owns nothing, where root runs a case natively.
const nobody = 65534

// said is what a program prints, to be read while it does. It is a file: a child that a failed case has left behind would keep a
// pipe open.
type said struct{ *os.File }

func (s said) String() string {
	b, err := os.ReadFile(s.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (p *process) close() {
	p.begin.Close()
	for _, s := range []said{p.complain, p.out} {
		if s.File != nil {
			s.Close()
			os.Remove(s.Name())
		}
	}
}
