package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"mosix/internal/fault"
	"mosix/internal/id"
	"mosix/internal/lab"
	_ "mosix/migrator/ferry" // brings the points of a move
	"mosix/node"
	"mosix/node/api"
	"mosix/test/cluster"
	"mosix/test/workloads"
)

// Limits of line 5.
const (
	soon       = time.Second      // on at the source, or after its agent's restart
	undecided  = 12 * time.Second // the lease of a move and the margin
	mostChange = 4                // copies that took turns: a move out, one home, one that was undone, and one more
)

// The stages of a move, as far as a crash is concerned.
type stage int

const (
	before    stage = iota // it was not parked
	parked                 // parked, and Commit was not sent
	committed              // Commit was or may have been sent
)

// stageOf says how far the source may have come when either side stands at a point.
func stageOf(point string) stage {
	switch _, step, _ := strings.Cut(point, "-"); step {
	case "after-park", "after-probe":
		return parked
	case "after-commit", "after-run", "after-running":
		return committed
	case "after-ready":
		if strings.HasPrefix(point, "target-") {
			return parked // what it has said makes the source park
		}
	}
	return before
}

// What happens at a point.
const (
	crashIt  = "the agent there is killed"
	killPeer = "the other agent is killed"
	cutLink  = "the link is cut"
)

// scenario is one thing that goes wrong at one step of a move.
type scenario struct {
	point string
	how   string
	home  bool // the move goes home, not out
	long  bool // what is wrong is put right only when the lease of the move is over
	kids  int  // that the process shares memory with: they go with it
}

func (s scenario) String() string {
	dir := "out"
	if s.home {
		dir = "home"
	}
	how := s.how
	if s.long {
		how += " for long"
	}
	if s.kids > 0 {
		dir += fmt.Sprintf(" with %d others", s.kids)
	}
	return fmt.Sprintf("%s, %s: %s", dir, s.point, how)
}

// at is the node whose agent reaches the point, peer the other one.
func (s scenario) at() (at, peer id.Node) {
	if strings.HasPrefix(s.point, "source-") != s.home {
		return "n1", "n2"
	}
	return "n2", "n1"
}

// source is the node that the process leaves.
func (s scenario) source() id.Node {
	if s.home {
		return "n2"
	}
	return "n1"
}

// points are those of a move's two sides.
func points() []string {
	var names []string
	for _, p := range fault.All() {
		if strings.HasPrefix(p.Name(), "source-") || strings.HasPrefix(p.Name(), "target-") {
			names = append(names, p.Name())
		}
	}
	return names
}

func scenarios(full bool) []scenario {
	if !full {
		return []scenario{
			{"source-after-freeze", crashIt, false, false, 0}, {"source-after-park", crashIt, false, false, 0}, {"source-after-commit", crashIt, false, false, 0},
			{"target-after-ready", crashIt, false, false, 0}, {"target-after-commit", killPeer, false, false, 0}, {"source-after-freeze", cutLink, false, false, 0},
			{"source-after-freeze", crashIt, true, false, 0},
			{"source-after-park", crashIt, false, false, 2}, {"target-after-commit", crashIt, true, false, 2},
		}
	}
	var list []scenario
	for _, home := range []bool{false, true} {
		for _, p := range points() {
			for _, how := range []string{crashIt, killPeer, cutLink} {
				list = append(list, scenario{p, how, home, false, 0})
				if how != crashIt && stageOf(p) != before {
					list = append(list, scenario{p, how, home, true, 0})
				}
				if stageOf(p) != before && (how == crashIt || how == cutLink && strings.HasPrefix(p, "source-")) {
					list = append(list, scenario{p, how, home, how != crashIt, 2})
				}
			}
		}
	}
	return list
}

// crashes is line 5.
func crashes(b *bench) (figures string, err error) {
	files, err := b.build("page", "ledger")
	if err != nil {
		return "", err
	}
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("crashes-%d", os.Getpid()), Nodes: 2, Policy: "none", Bind: files})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	var (
		passed, unreached int
		worst             time.Duration
		failed            []error
	)
	for i, s := range scenarios(b.full) {
		if b.ctx.Err() != nil {
			return "", b.ctx.Err()
		}
		if b.match != nil && !b.match.MatchString(s.String()) {
			continue
		}
		gap, where, err := crash(b, c, s, i)
		switch {
		case errors.Is(err, errUnreached):
			unreached++
			b.progress("%s: this move does not pass there", s)
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", s, err))
			b.progress("FAIL %s: %v", s, err)
		default:
			passed++
			worst = max(worst, gap)
			b.progress("%s: runs at %s after %.2f s", s, where, gap.Seconds())
		}
	}
	if adoption := "agents die under calls"; b.match == nil || b.match.MatchString(adoption) {
		entries, deaths := 400, 3
		if b.full {
			entries, deaths = 6000, 14
		}
		if err := adopted(b, c, entries, deaths); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", adoption, err))
			b.progress("FAIL %s: %v", adoption, err)
		} else {
			passed++
			b.progress("%s: %d agents died, every call was made once", adoption, 2*deaths)
		}
	}
	if lost := "the first long lease is lost"; b.match == nil || b.match.MatchString(lost) {
		if gap, err := lostGrant(c); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", lost, err))
			b.progress("FAIL %s: %v", lost, err)
		} else {
			passed++
			b.progress("%s: runs at home %.2f s after the link was there again", lost, gap.Seconds())
		}
	}
	figures = fmt.Sprintf("%d crashes and cuts, each left one copy; longest standstill %.2f s; %d points not on the way", passed, worst.Seconds(), unreached)
	if passed == 0 {
		failed = append(failed, errors.New("no point was reached"))
	}
	return figures, errors.Join(failed...)
}

var errUnreached = errors.New("the point was not reached")

// crash plays s with a process of its own, and leaves the lab whole.
func crash(b *bench, c *cluster.Cluster, s scenario, number int) (gap time.Duration, where string, err error) {
	at, peer := s.at()
	page, ended, err := startPage(c, fmt.Sprint(number), s.kids)
	if err != nil {
		return 0, "", err
	}
	defer page.Stop()
	defer func() { err = errors.Join(err, mend(c), finish(page, ended)) }()

	target := "n2"
	if s.home {
		if r, err := c.Migrate("n1", cluster.User1, page.PID(), "n2"); err != nil || r.Result != api.ResultMoved {
			return 0, "", fmt.Errorf("the move before: %v %s %v", err, r.Error, r.Refusals)
		}
		time.Sleep(100 * time.Millisecond)
		target = api.ToHome
	}
	action := s.point + " block"
	if s.how == crashIt {
		action = s.point + " crash once"
	}
	if err := c.Arm(at, action); err != nil {
		return 0, "", err
	}
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		_, _ = c.Migrate("n1", cluster.User1, page.PID(), target) // what becomes of it is seen from the page
	}()
	defer func() { <-moved }()
	over := false
	if _, ok := cluster.Until(20*time.Second, func() bool {
		select {
		case <-moved:
			over = true
		default:
		}
		return over || c.Hit(at, s.point)
	}); !ok || !c.Hit(at, s.point) {
		return 0, "", errors.Join(errUnreached, c.Arm(at))
	}
	switch s.how {
	case killPeer:
		_, err = c.AgentKill(peer)
	case cutLink:
		err = c.Link("n1", "n2", true)
	}
	if err = errors.Join(err, c.Disarm(at)); err != nil {
		return 0, "", err
	}
	began := time.Now()

	limit := undecided
	dead := at
	if s.how == killPeer {
		dead = peer
	}
	sourceDied := s.how != cutLink && dead == s.source()
	switch stage := stageOf(s.point); {
	case stage == before, stage == parked && s.how != cutLink && !sourceDied:
		limit = soon
	case stage == parked && sourceDied, s.home && s.point == "target-after-commit" && s.how == crashIt:
		// What lies parked needs its agent to rise: the source's before Commit, on the way home the home's after it.
		time.Sleep(300 * time.Millisecond)
		if _, err := c.AgentStart(dead); err != nil {
			return 0, "", err
		}
		began, limit = time.Now(), soon
	}
	since := began.Add(20 * time.Millisecond) // older news may still come in
	gap, ok := cluster.Until(limit+8*time.Second, func() bool { return page.RunsSince(since) })
	if !ok && s.home && s.how == killPeer && stageOf(s.point) == committed {
		// Home's agent may have died while it made the process run: then that needs the next one.
		if _, err := c.AgentStart(dead); err != nil {
			return gap, "", err
		}
		began, limit = time.Now(), soon
		since = began.Add(20 * time.Millisecond)
		gap, ok = cluster.Until(limit+8*time.Second, func() bool { return page.RunsSince(since) })
	}
	if !ok {
		return gap, "", fmt.Errorf("it runs nowhere %.0f s after that", gap.Seconds())
	}
	if err := b.limit("its going on", gap, limit); err != nil {
		return gap, "", err
	}
	if where, err = onlyOne(page); err != nil {
		return gap, "", err
	}
	if s.long {
		time.Sleep(time.Until(began.Add(undecided)))
	}
	// A home that is dead when the guest's lease ends decides when it lives again.
	if s.long && !(s.how == killPeer && peer == "n1") {
		if where, err = onlyOne(page); err != nil {
			return gap, "", fmt.Errorf("when the lease was over: %w\n%s", err, c.Says(page.PID()))
		}
	}
	if err := mend(c); err != nil {
		return gap, where, err
	}
	_, err = onlyOne(page)
	return gap, where, err
}

// startPage starts a process on n1 that can be watched. Its status comes when it has ended.
func startPage(c *cluster.Cluster, name string, kids int) (*workloads.Page, <-chan int, error) {
	page, err := workloads.StartPage(workloads.Node{Cluster: c, Name: "n1"}, fmt.Sprintf("page-%d-%s", os.Getpid(), name), kids)
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan int, 1)
	go func() {
		status, _ := page.Wait()
		ended <- status
	}()
	return page, ended, nil
}

// lostGrant cuts the link while the first long lease is on its way to the host: the guest ends with its short one, and home, which
// cannot know, waits until the host can be asked.
func lostGrant(c *cluster.Cluster) (gap time.Duration, err error) {
	page, ended, err := startPage(c, "lost", 0)
	if err != nil {
		return 0, err
	}
	defer page.Stop()
	defer func() { err = errors.Join(err, mend(c), finish(page, ended)) }()
	point := node.BeforeGrant.Name()
	if err := c.Arm("n1", point+" block"); err != nil {
		return 0, err
	}
	if r, err := c.Migrate("n1", cluster.User1, page.PID(), "n2"); err != nil || r.Result != api.ResultMoved {
		return 0, fmt.Errorf("the move: %v %s %v", err, r.Error, r.Refusals)
	}
	if _, ok := cluster.Until(5*time.Second, func() bool { return c.Hit("n1", point) }); !ok {
		return 0, errors.New("home grants no long lease")
	}
	if err := errors.Join(c.Link("n1", "n2", true), c.Disarm("n1")); err != nil {
		return 0, err
	}
	if where, err := onlyOne(page); err != nil || where == "home" {
		return 0, fmt.Errorf("while the short lease lasts: it runs at %q, %v", where, err)
	}
	time.Sleep(undecided)
	since := time.Now().Add(20 * time.Millisecond)
	time.Sleep(time.Second)
	if n := page.All[0].Running(since); len(n) != 0 {
		return 0, fmt.Errorf("it runs at %v, and home cannot know that its guest has ended", n)
	}
	if err := c.Link("n1", "n2", false); err != nil {
		return 0, err
	}
	since = time.Now()
	gap, ok := cluster.Until(10*time.Second, func() bool { return page.RunsSince(since) })
	if !ok {
		return gap, errors.New("the link is there again, and it runs nowhere 10 s later")
	}
	if where, err := onlyOne(page); err != nil || where != "home" {
		return gap, fmt.Errorf("when the link is there again it runs at %q, %v", where, err)
	}
	return gap, nil
}

// onlyOne watches for a second and wants one copy of each process to have run, all in one place, and copies not to have taken turns.
func onlyOne(page *workloads.Page) (where string, err error) {
	places := make([]string, len(page.All))
	errs := make([]error, len(page.All))
	var wg sync.WaitGroup
	for i, w := range page.All {
		wg.Go(func() { places[i], errs[i] = onlyOneOf(w) })
	}
	wg.Wait()
	for i, p := range places {
		if p != places[0] {
			errs = append(errs, fmt.Errorf("member %d of the family runs at %s, the first at %s", i, p, places[0]))
		}
	}
	return places[0], errors.Join(errs...)
}

func onlyOneOf(page *workloads.Watched) (string, error) {
	since := time.Now().Add(20 * time.Millisecond)
	var running []int
	if _, ok := cluster.Until(15*time.Second, func() bool {
		time.Sleep(500 * time.Millisecond)
		running = page.Running(since)
		return len(running) > 0
	}); !ok {
		return "", errors.New("it runs nowhere")
	}
	if n := page.Alternations(); n > mostChange {
		return "", fmt.Errorf("copies took turns %d times: two ran at once:\n%s", n, page.Turns())
	}
	// A move that was asked for may go on just now, and two copies run in turn: not again and again.
	for range 4 {
		since = time.Now().Add(20 * time.Millisecond)
		time.Sleep(500 * time.Millisecond)
		if running = page.Running(since); len(running) == 1 {
			break
		}
	}
	if n := page.Alternations(); len(running) != 1 || n > mostChange {
		return "", fmt.Errorf("%d copies run: %v, having taken turns %d times:\n%s", len(running), running, n, page.Turns())
	}
	if running[0] == page.Home {
		return "home", nil
	}
	return "the other node", nil
}

// mend makes the lab whole again: both agents run, the link is there, nothing is armed.
func mend(c *cluster.Cluster) error {
	err := c.Link("n1", "n2", false)
	for _, n := range []id.Node{"n1", "n2"} {
		err = errors.Join(err, c.Arm(n))
		if a, aerr := c.Agent(n); aerr != nil {
			err = errors.Join(err, aerr)
		} else if !a.Running {
			_, serr := c.AgentStart(n)
			err = errors.Join(err, serr)
		}
	}
	return errors.Join(err, c.WaitReady(time.Minute, nil))
}

// finish ends the page by its number at home, which must reach it wherever it is, and wants its own end from it.
func finish(page *workloads.Page, ended <-chan int) error {
	if err := page.Signal(15); err != nil {
		return fmt.Errorf("end the page: %w", err)
	}
	select {
	case status := <-ended:
		if want := fmt.Sprintf("%d counted on\n", page.PID()); status != 7 || page.Said() != want {
			return fmt.Errorf("asked to end, it ended with %d and said %q; want 7 and %q", status, page.Said(), want)
		}
		return nil
	case <-time.After(15 * time.Second):
		_ = page.Signal(9)
		return errors.New("SIGTERM at home did not end it within 15 s")
	}
}
