package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/migrator/ferry"
	"mosix/node/api"
	"mosix/test/cluster"
	"mosix/test/workloads"
)

// worlds is line 6: the world and the clock that a guest sees, and what a hostile one gets.
func worlds(b *bench) (figures string, err error) {
	files, err := b.build("world", "hostile", "tamper")
	if err != nil {
		return "", err
	}
	// The guest's node lies about the time, by what no round trip explains.
	c, err := cluster.Up(lab.Options{
		Name: fmt.Sprintf("world-%d", os.Getpid()), Nodes: 2, Policy: "none", Bind: files,
		Clock: map[id.Node]time.Duration{"n2": 3 * time.Second},
	})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	if _, err := c.Shell("n2", cluster.User1, "touch /tmp/of-the-host"); err != nil {
		return "", err
	}
	n1 := workloads.Node{Cluster: c, Name: "n1"}
	m := &workloads.Mover{Cluster: c, Home: "n1", Others: []id.Node{"n2"}}
	moves := 3
	if b.full {
		moves = 10
	}
	for _, w := range workloads.Table() {
		if w.Name != "world" {
			continue
		}
		native, err := workloads.Do(n1, w, "world.native", nil)
		if err == nil {
			err = w.Check(native)
		}
		if err != nil {
			return "", fmt.Errorf("what is seen natively: %w", err)
		}
		r, err := workloads.Do(n1, w, "world.moved", m.Again(w, moves))
		if err == nil {
			err = w.Check(r)
		}
		if err != nil {
			return "", fmt.Errorf("what a guest sees: %w", err)
		}
	}
	b.progress("a guest sees home's world and clock, over %d moves", m.Counted().Moved)
	if err := lookers(b, c, n1); err != nil {
		return "", err
	}

	tried, err := hostile(b, c)
	if err != nil {
		return "", err
	}
	turned, err := tamper(b, c)
	if err != nil {
		return "", err
	}
	if b.full {
		if err := weakened(b, files); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("world and clock as at home over %d moves; hostile guest: %s; %s", m.Counted().Moved, tried, turned), nil
}

// lookers makes sure that what has just found home's world would have found the host's: where the correction of the clock is
// off, a guest sees another time.
func lookers(b *bench, c *cluster.Cluster, n1 workloads.Node) error {
	if err := c.Arm("n2", ferry.ClockUncorrected.Name()+" error"); err != nil {
		return err
	}
	defer func() { _ = c.Disarm("n2") }() // the lab ends with it
	m := &workloads.Mover{Cluster: c, Home: "n1", Others: []id.Node{"n2"}}
	for _, w := range workloads.Table() {
		if w.Name != "world" {
			continue
		}
		r, err := workloads.Do(n1, w, "world.uncorrected", m.Again(w, 1)) // with many complaints it ends early
		off := hostClock.FindAllStringSubmatch(r.Complaints, -1)
		seen := map[string]bool{}
		for _, o := range off {
			seen[o[1]] = true
		}
		if len(seen) < 6 || err == nil && w.Check(r) == nil {
			return fmt.Errorf("a guest whose clock is not corrected must see the host's in six ways at least, and fail; it saw it in %d (%v) and says:\n%s",
				len(seen), err, tail(r.Complaints, 20))
		}
		b.progress("a guest whose clock is not corrected sees the host's, in %d ways", len(seen))
	}
	return nil
}

// hostClock is what a guest says that sees the clock of n2, three seconds ahead.
var hostClock = regexp.MustCompile(`: ([a-z_ ]+) is \+[23]\.\d+ s off home's clock`)

// lineReader calls each for every line that is written to it.
type lineReader struct {
	mu   sync.Mutex
	all  strings.Builder
	rest string
	each func(line string)
}

func (r *lineReader) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all.Write(p)
	r.rest += string(p)
	for {
		line, rest, ok := strings.Cut(r.rest, "\n")
		if !ok {
			return len(p), nil
		}
		r.rest = rest
		r.each(line)
	}
}

func (r *lineReader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.String()
}

var (
	attempted = regexp.MustCompile(`attempts (\d+), ended at home (\d+)`)
	portLine  = regexp.MustCompile(`port (\d+)`)
)

// hostile runs the program of that name as a guest of n2, moves it again whenever it has been brought home, and wants it to
// have found nothing, in a good number of attempts.
func hostile(b *bench, c *cluster.Cluster) (string, error) {
	// First the program itself: where everything is as a host's would be, it finds that out.
	out, err := c.Command("n1", cluster.User1, "work-hostile", "pretend").Output()
	if err == nil || strings.Count(string(out), "leak: ") < 500 {
		return "", fmt.Errorf("a hostile program that is shown a host finds only %d leaks (%v)", strings.Count(string(out), "leak: "), err)
	}
	listen := c.Command("n2", cluster.User1, "work-hostile", "listen")
	ports := make(chan string, 1)
	listen.Stderr = &lineReader{each: func(line string) {
		if m := portLine.FindStringSubmatch(line); m != nil {
			ports <- m[1]
		}
	}}
	listen.Stdout = io.Discard
	if err := listen.Start(); err != nil {
		return "", err
	}
	defer func() { _ = listen.Signal(9); _ = listen.Wait() }() // killed: its status says nothing
	var port string
	select {
	case port = <-ports:
	case <-time.After(5 * time.Second):
		return "", errors.New("the listener in n2 did not start")
	}

	how, least := "some", 600
	if b.full {
		how, least = "all", 800
	}
	tried, err := attack(b, c, least, how, port)
	if err != nil {
		return "", err
	}
	// A call of another architecture brings a guest home: that attempt ends there.
	doors, err := attack(b, c, 2, "doors", port)
	if err != nil {
		return "", fmt.Errorf("by other doors: %w", err)
	}
	return tried + "; by other doors: " + doors, nil
}

// attack runs the hostile program once, with args.
func attack(b *bench, c *cluster.Cluster, least int, args ...string) (figures string, err error) {
	wish := make(chan struct{}, 1)
	said := &lineReader{}
	said.each = func(line string) {
		if line == "away?" {
			select {
			case wish <- struct{}{}:
			default: // it is known already
			}
		}
	}
	var found strings.Builder
	guest := c.Command("n1", cluster.User1, "work-hostile", args...)
	guest.Stdout, guest.Stderr = &found, said
	if err := guest.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- guest.Wait() }()
	moves := 0
	patience := time.After(4 * time.Minute)
	for {
		select {
		case err := <-ended:
			m := attempted.FindStringSubmatch(said.String())
			if m == nil {
				return "", fmt.Errorf("the hostile guest did not come to its end (%v); it says:\n%s%s", err, tail(said.String(), 20), found.String())
			}
			if err != nil || strings.TrimSpace(found.String()) != "nothing" {
				return "", fmt.Errorf("the hostile guest found something (%v):\n%s", err, found.String())
			}
			var away int
			if _, err := fmt.Sscan(m[1], &away); err != nil || away < least {
				return "", fmt.Errorf("only %s attempts were made away, want %d", m[1], least)
			}
			return fmt.Sprintf("nothing in %s attempts away, %s ended at home, %d moves", m[1], m[2], moves), nil
		case <-wish:
			r, err := c.Migrate("n1", cluster.User1, guest.PID(), "n2")
			if err == nil && r.Result == api.ResultMoved {
				moves++
			} else if err != nil || r.Result == api.ResultFailed {
				b.progress("moving the hostile guest again: %v %s %s %v", err, r.Result, r.Error, r.Refusals)
			}
		case <-patience:
			_ = guest.Signal(syscall.SIGKILL)
			return "", fmt.Errorf("the hostile guest still runs after 4 minutes and %d moves; it says:\n%s", moves, tail(said.String(), 20))
		case <-b.ctx.Done():
			_ = guest.Signal(syscall.SIGKILL)
			return "", b.ctx.Err()
		}
	}
}
