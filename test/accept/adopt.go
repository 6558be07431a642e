package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"mosix/internal/id"
	"mosix/node/api"
	"mosix/test/cluster"
	"mosix/test/workloads"
)

// safeBuffer is written by one goroutine and read when that has ended.
type safeBuffer struct{ bytes.Buffer }

// adopted kills both agents again and again under a process that is away and makes calls all the time: a new agent takes up
// what the dead one had, and each call is made once.
func adopted(b *bench, c *cluster.Cluster, entries, deaths int) (err error) {
	var out, said safeBuffer
	p, err := workloads.Node{Cluster: c, Name: "n1"}.Start([]string{workloads.Program("ledger"), fmt.Sprint(entries)}, false, &out, &said)
	if err != nil {
		return err
	}
	ended := make(chan int, 1)
	go func() {
		status, _ := p.Wait()
		ended <- status
	}()
	time.Sleep(300 * time.Millisecond)
	if r, err := c.Migrate("n1", cluster.User1, p.PID(), "n2"); err != nil || r.Result != api.ResultMoved {
		_ = p.Signal(9)
		return fmt.Errorf("move the ledger: %v %s %v", err, r.Error, r.Refusals)
	}
	for i := range deaths {
		n := []id.Node{"n2", "n1"}[i%2]
		time.Sleep(time.Duration(200+37*i) * time.Millisecond)
		if err := reborn(c, n, time.Duration(50*(i%4))*time.Millisecond); err != nil {
			return err
		}
		if i == deaths/2 { // and a cut, healed
			err = c.Link("n1", "n2", true)
			time.Sleep(1500 * time.Millisecond)
			if err = errors.Join(err, c.Link("n1", "n2", false)); err != nil {
				return err
			}
		}
	}
	for i := range deaths { // in the middle of moves, wherever they stand just then
		moved := make(chan struct{})
		go func() {
			defer close(moved)
			_, _ = c.Migrate("n1", cluster.User1, p.PID(), []string{api.ToHome, "n2"}[i%2]) // it may fail: its agent dies
		}()
		time.Sleep(time.Duration(10+(i*29)%90) * time.Millisecond)
		if err := reborn(c, []id.Node{"n1", "n2"}[i/2%2], 100*time.Millisecond); err != nil {
			return err
		}
		select {
		case <-moved:
		case <-time.After(15 * time.Second): // a move home is asked for again and again
		}
	}
	select {
	case status := <-ended:
		if want := fmt.Sprintf("%d entered once\n", entries); status != 7 || out.String() != want {
			return fmt.Errorf("under %d deaths of agents and more the ledger ended with %d, said %q and %q; want 7 and %q", deaths, status, out.String(), said.String(), want)
		}
		return nil
	case <-time.After(3 * time.Minute):
		_ = p.Signal(9)
		return fmt.Errorf("under %d deaths of agents and more the ledger stands still", deaths)
	}
}

// reborn kills the agent of n, and starts another after a while.
func reborn(c *cluster.Cluster, n id.Node, dead time.Duration) error {
	if _, err := c.AgentKill(n); err != nil {
		return err
	}
	time.Sleep(dead)
	if _, err := c.AgentStart(n); err != nil {
		return err
	}
	return c.WaitReady(time.Minute, nil)
}
