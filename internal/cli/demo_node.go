package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// demoCPUSeconds is what each program shall use at least, and what the clock of its CPU time may be late by.
const (
	demoCPUSeconds = 5.0
	demoMargin     = 0.05
)

// demoEvent is one line that demo-node writes. Bytes of raw output follow an "output" event.
type demoEvent struct {
	Event   string    `json:"event"` // chosen started done output end
	Jobs    []demoJob `json:"jobs,omitempty"`
	Name    string    `json:"name,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Exit    int       `json:"exit,omitempty"` // as a shell's $?
	CPU     float64   `json:"cpu_seconds,omitempty"`
	Seconds float64   `json:"seconds,omitempty"`
	Rounds  int       `json:"rounds,omitempty"` // that made it
	Bytes   int64     `json:"bytes,omitempty"`
}

func (a *app) demoNodeCommand() *cobra.Command {
	var plan string
	c := &cobra.Command{
		Use:    "demo-node",
		Short:  "Run the programs of the demonstration on one node (used by demo)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var jobs []demoJob
			if plan != "" {
				if err := json.Unmarshal([]byte(plan), &jobs); err != nil {
					return usagef("--plan %s: %w", plan, err)
				}
			}
			home, err := os.UserHomeDir()
			if err != nil {
				return err
			}
			dir, err := os.MkdirTemp(home, "demo")
			if err != nil {
				return fmt.Errorf("make a folder for the demonstration: %w", err)
			}
			defer os.RemoveAll(dir)
			if err := unpackTree(a.in, dir); err != nil {
				return err
			}
			if plan == "" {
				return demoChoose(a.out, dir)
			}
			return demoNode(a.out, dir, jobs)
		},
	}
	c.Flags().StringVar(&plan, "plan", "", "programs and their rounds; without it, find out which are installed")
	return c
}

// demoChoose finds out what is installed.
func demoChoose(out io.Writer, dir string) error {
	jobs, err := chooseJobs(func(j demoJob) error {
		c, f, err := j.command(dir)
		if err != nil {
			return err
		}
		if err := c.Start(); err != nil {
			f.close()
			return err
		}
		_, err = f.feed(j.Rounds, nil)
		return errors.Join(err, c.Wait())
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(demoEvent{Event: "chosen", Jobs: jobs})
}

// demoNode runs the programs at once on the tree in dir, and reports.
func demoNode(out io.Writer, dir string, jobs []demoJob) error {
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	var mu sync.Mutex
	say := func(e demoEvent) error {
		mu.Lock()
		defer mu.Unlock()
		return errors.Join(enc.Encode(e), w.Flush())
	}
	begin := time.Now()
	var wg sync.WaitGroup
	errs := make([]error, len(jobs))
	for i, j := range jobs {
		c, feeder, err := j.command(dir)
		if err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(dir, j.Name+".out"))
		if err != nil {
			return err
		}
		c.Stdout = f
		var complaint bytes.Buffer
		c.Stderr = &complaint
		if err := c.Start(); err != nil {
			return fmt.Errorf("start %s: %w", j.Name, err)
		}
		if err := say(demoEvent{Event: "started", Name: j.Name, PID: c.Process.Pid}); err != nil {
			return err
		}
		wg.Go(func() {
			defer f.Close()
			rounds, feedErr := feeder.feed(j.Rounds, usedEnough(c.Process.Pid, demoCPUSeconds+demoMargin))
			err := c.Wait()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				errs[i] = fmt.Errorf("wait for %s: %w", j.Name, err)
				return
			}
			if complaint.Len() > 0 {
				fmt.Fprintf(os.Stderr, "%s: %s\n", j.Name, bytes.TrimSpace(complaint.Bytes()))
			}
			if feedErr != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", j.Name, feedErr) // the status and the output tell the rest
			}
			errs[i] = say(demoEvent{
				Event: "done", Name: j.Name, Exit: shellStatus(c.ProcessState), CPU: cpuSeconds(c.ProcessState), Rounds: rounds, Seconds: time.Since(begin).Seconds(),
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	total := time.Since(begin).Seconds()
	for _, j := range jobs {
		if err := sayOutput(enc, w, filepath.Join(dir, j.Name+".out"), j.Name); err != nil {
			return err
		}
	}
	return say(demoEvent{Event: "end", Seconds: total})
}

func sayOutput(enc *json.Encoder, w *bufio.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := enc.Encode(demoEvent{Event: "output", Name: name, Bytes: fi.Size()}); err != nil {
		return err
	}
	if _, err := io.CopyN(w, f, fi.Size()); err != nil {
		return fmt.Errorf("read the output of %s: %w", name, err)
	}
	return nil
}

func cpuSeconds(s *os.ProcessState) float64 { return (s.UserTime() + s.SystemTime()).Seconds() }

// shellStatus is what a shell would show in $?.
func shellStatus(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}
