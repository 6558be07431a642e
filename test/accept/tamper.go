package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// tampering is what a guest does to its host's agent (see tamper.c), and what comes of it.
type tampering struct {
	mode string
	home bool // it is moved home, and away again, while it does it
	ends int  // its status when it is told to end; -1: its host ends it
}

// tamperings are the modes of work-tamper. The one that makes injected calls never end takes as long as the agent gives them.
func tamperings(full bool) []tampering {
	list := []tampering{
		{"table", true, -1},
		{"unmap", false, -1},
		{"scribble", true, 0},
		{"flood", false, 0},
	}
	if full {
		list = append(list, tampering{"code", false, -1})
	}
	return list
}

// tamper lets guests of n2 turn on its agent, which must neither end nor stand still, nor do for them what they may not do.
func tamper(b *bench, c *cluster.Cluster) (string, error) {
	for _, t := range tamperings(b.full) {
		if err := t.run(c); err != nil {
			return "", fmt.Errorf("a guest that tampers (%s): %w", t.mode, err)
		}
		log, err := os.ReadFile(filepath.Join(c.Dir(), "n2", "agent.log"))
		if err != nil {
			return "", err
		}
		if i := strings.Index(string(log), "panic: "); i >= 0 {
			return "", fmt.Errorf("a guest that tampers (%s) has ended the agent:\n%s", t.mode, tail(string(log[i:min(len(log), i+3000)]), 30))
		}
		b.progress("a guest that tampers (%s)", t.mode)
	}
	return fmt.Sprintf("%d ways to turn on the agent in vain", len(tamperings(b.full))), nil
}

func (t tampering) run(c *cluster.Cluster) error {
	stop := "stop.tamper." + t.mode
	said := &lineReader{each: func(string) {}}
	var found syncBuilder
	guest := c.Command("n1", cluster.User1, "work-tamper", t.mode, stop)
	guest.Stdout, guest.Stderr = &found, said
	if err := guest.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- guest.Wait() }()
	defer func() {
		_ = guest.Signal(syscall.SIGKILL) // it may have ended
		<-ended
	}()
	heard := func(word string, patience time.Duration) error {
		if _, ok := cluster.Until(patience, func() bool { return strings.Contains(said.String(), word) }); !ok {
			return fmt.Errorf("it does not say %q, but %q", word, said.String())
		}
		return nil
	}
	if err := heard("pid ", 10*time.Second); err != nil {
		return err
	}
	move := func(to string) (api.MigrateResult, error) { return c.Migrate("n1", cluster.User1, guest.PID(), to) }
	if r, err := move("n2"); err != nil || r.Result != api.ResultMoved {
		return fmt.Errorf("the first move: %v %s %s %v", err, r.Result, r.Error, r.Refusals)
	}
	if err := heard("done", 20*time.Second); err != nil {
		return err
	}
	for range 5 {
		if _, err := c.Shell("n1", cluster.User1, fmt.Sprintf("kill -USR1 %d", guest.PID())); err != nil && t.ends >= 0 {
			return fmt.Errorf("send it a signal: %w", err)
		}
		if err := answers(c); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	if t.home {
		r, err := move(api.ToHome)
		if moved := r.Result == api.ResultMoved; err != nil || t.ends >= 0 && !moved {
			return fmt.Errorf("a move home: %v %s %s", err, r.Result, r.Error)
		}
		if t.ends >= 0 {
			if r, err = move("n2"); err != nil || r.Result != api.ResultMoved {
				return fmt.Errorf("the move after it has come home: %v %s %s %v", err, r.Result, r.Error, r.Refusals)
			}
		}
	}
	if t.ends >= 0 {
		if _, err := c.Shell("n1", cluster.User1, "touch "+stop); err != nil {
			return err
		}
	}
	select {
	case err := <-ended:
		ended <- err
		status := lab.ExitCode(err)
		if t.ends < 0 && (status != 128+int(syscall.SIGKILL) || strings.Contains(found.String(), "leak")) || t.ends >= 0 && (status != t.ends || strings.TrimSpace(found.String()) != "nothing") {
			return fmt.Errorf("it ended with %d; it says:\n%s%s", status, said.String(), found.String())
		}
	case <-time.After(90 * time.Second):
		return errors.New("it has not ended after 90 s; it says:\n" + said.String() + found.String())
	}
	return answers(c)
}

// answers makes sure that n2's agent serves others meanwhile.
func answers(c *cluster.Cluster) error {
	began := time.Now()
	var st api.Status
	if err := c.Mosixctl("n2", cluster.User1, &st, "status"); err != nil {
		return fmt.Errorf("the agent of n2 does not answer: %w", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		return fmt.Errorf("the agent of n2 answered after %.1f s", took.Seconds())
	}
	return nil
}

// syncBuilder collects what another goroutine writes.
type syncBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuilder) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
