package thaw

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"mosix/internal/abi"
	"mosix/internal/feature"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// TestMain is also the victim, which reads its clock until nobody listens, and says whether that has gone back.
func TestMain(m *testing.M) {
	if os.Getenv("THAW_VICTIM") == "" {
		os.Exit(m.Run())
	}
	gone := make(chan bool)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	fmt.Println("ready")
	last, back := time.Now().Round(0), 0
	for {
		select {
		case <-gone:
			fmt.Println("went back", back)
			return
		default:
		}
		for range 1000 {
			now := time.Now().Round(0)
			if now.Before(last) {
				back++
			}
			last = now
		}
	}
}

// TestFinish: a process that is held in the middle of reading a clock reads it to the end before it goes elsewhere.
func TestFinish(t *testing.T) {
	feature.Need(t, feature.PtraceSeize, feature.Pidfd, feature.ProcessVM)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "THAW_VICTIM=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	out := bufio.NewReader(pipe)
	if s, err := out.ReadString('\n'); s != "ready\n" {
		t.Fatalf("the victim said %q, %v", s, err)
	}
	code := stub.Load()
	within, finished, steady := 0, 0, true
	for range 200 {
		err := tracer.Run(func() error {
			p, err := tracer.Open(cmd.Process.Pid, code)
			if err != nil {
				return err
			}
			defer p.Close()
			if err := p.SeizeAll(); err != nil {
				return err
			}
			if err := p.Plant(p.Leader(), stub.Base, len(p.Held())); err != nil {
				return err
			}
			w, err := ClockworkOf(p)
			if w == nil || err != nil {
				return errors.Join(errors.New("no clockwork"), err)
			}
			busy := w.Busy(false)
			if busy {
				within++
			}
			if err := w.Finish(); err != nil {
				return err
			}
			switch {
			case busy && !w.Busy(false):
				finished++
				for _, th := range p.Held() {
					if th.Regs.OrigRAX == abi.NoCall && w.v.at.Contains(mem.Addr(th.Regs.RIP)) {
						return fmt.Errorf("thread %d is at %#x still", th.TID, th.Regs.RIP)
					}
				}
			case w.Busy(false):
				steady = false // as under some hypervisors: it is let go then
			}
			return errors.Join(w.FinishEntries(), p.Uproot(p.Leader()), p.ReleaseAll())
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	in.Close()
	if s, err := out.ReadString('\n'); s != "went back 0\n" {
		t.Errorf("the victim said %q, %v", s, err)
	}
	if within == 0 || steady && finished != within {
		t.Errorf("it was found reading a clock %d times, and has read it to the end %d times", within, finished)
	}
	t.Logf("%d of %d", finished, within)
}
