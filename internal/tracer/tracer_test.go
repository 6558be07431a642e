package tracer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
)

// TestMain is also the victim: a Go program of several threads that sleeps, counts and says when it gets a signal.
func TestMain(m *testing.M) {
	if os.Getenv("TRACER_VICTIM") != "" {
		fmt.Println("ready")
		sum := 0
		if os.Getenv("TRACER_VICTIM") == "clock" {
			readClocks()
			return
		}
		for i := 0; ; i++ {
			sum += i
			time.Sleep(time.Millisecond)
			if i == 400 {
				fmt.Println("done", sum)
				return
			}
		}
	}
	if how := os.Getenv("TRACER_AGENT"); how != "" {
		if err := dieInjecting(how); err != nil {
			fmt.Println(err)
		}
		return
	}
	os.Exit(m.Run())
}

func victim(t *testing.T) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "TRACER_VICTIM=1")
	return cmd, ready(t, cmd)
}

// ready starts a victim that says when it is ready, and returns what it says from then on. It ends with the test.
func ready(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r := bufio.NewReader(out)
	if s, err := r.ReadString('\n'); s != "ready\n" {
		t.Fatalf("victim said %q, %v", s, err)
	}
	return r
}

// TestInjectAndLetGo makes calls in a Go program, plants and uproots a region, ten times over, and the program ends as if
// nothing had been.
func TestInjectAndLetGo(t *testing.T) {
	cmd, out := victim(t)
	code := stub.Load()
	for range 10 {
		err := Run(func() error {
			p, err := Open(cmd.Process.Pid, code)
			if err != nil {
				return err
			}
			defer p.Close()
			if err := p.SeizeAll(); err != nil {
				return err
			}
			l := p.Leader()
			if pid, err := l.Call(abi.SysGetpid); err != nil || int(pid) != cmd.Process.Pid {
				return fmt.Errorf("getpid by one step: %d, %v", pid, err)
			}
			if err := p.Plant(l, stub.Base, len(p.Held())); err != nil {
				return err
			}
			calls := make([]stub.Call, 100)
			for i := range calls {
				calls[i] = NewCall(abi.SysGettid)
			}
			for _, th := range p.Held() {
				out, err := th.MustBatch("gettid", calls)
				if err != nil {
					return err
				}
				for _, v := range out {
					if int(v) != th.TID {
						return fmt.Errorf("gettid in %d returned %d", th.TID, v)
					}
				}
			}
			if err := p.Uproot(l); err != nil {
				return err
			}
			m, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", cmd.Process.Pid))
			if err != nil || strings.Contains(string(m), stub.Name) {
				return fmt.Errorf("the region is still mapped, or maps cannot be read: %v", err)
			}
			return p.ReleaseAll()
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	rest, _ := io.ReadAll(out)
	if string(rest) != "done 80200\n" {
		t.Errorf("the victim printed %q", rest)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the victim ended with %v", err)
	}
}

// TestDeathOfTheVictimIsOneError kills the victim while it is held.
func TestDeathOfTheVictimIsOneError(t *testing.T) {
	cmd, _ := victim(t)
	err := Run(func() error {
		p, err := Open(cmd.Process.Pid, stub.Load())
		if err != nil {
			return err
		}
		defer p.Close()
		if err := p.SeizeAll(); err != nil {
			return err
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_, err = p.Leader().Call(abi.SysGetpid)
		for err == nil {
			_, err = p.Leader().Call(abi.SysGetpid)
		}
		return err
	})
	if err == nil || !strings.Contains(err.Error(), ErrGone.Error()) {
		t.Errorf("got %v, want %v", err, ErrGone)
	}
}

// readClocks reads clocks and nothing else, until standard input ends.
func readClocks() {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for last := time.Now(); ; {
		for range 1000 {
			now := time.Now()
			if d := now.Sub(last); d < 0 || d > time.Minute {
				fmt.Println("the clock went by", d)
				return
			}
			last = now
		}
		select {
		case <-ended:
			fmt.Println("done")
			return
		default:
		}
	}
}

// TestLeave finds a program that reads clocks all the time in the middle of that, again and again, and lets it make the rest of some
// instructions.
// TestSeizeOfAZombie: a thread that has ended and is not collected is gone, and not forbidden.
func TestSeizeOfAZombie(t *testing.T) {
	cmd, _ := victim(t)
	err := Run(func() error {
		p, err := Open(cmd.Process.Pid, stub.Load())
		if err != nil {
			return err
		}
		defer p.Close()
		if err := cmd.Process.Kill(); err != nil {
			return err
		}
		for i := 0; !ended(cmd.Process.Pid); i++ {
			if i > 2000 {
				return fmt.Errorf("it did not end")
			}
			time.Sleep(time.Millisecond)
		}
		_, err = p.Seize(cmd.Process.Pid)
		return err
	})
	if !errors.Is(err, ErrGone) {
		t.Errorf("%v, want %v", err, ErrGone)
	}
}

func TestLeave(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "TRACER_VICTIM=clock")
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
		t.Fatalf("victim said %q, %v", s, err)
	}
	vdso := vdsoOf(t, cmd.Process.Pid)
	code, within := stub.Load(), 0
	for range 200 {
		err := Run(func() error {
			p, err := Open(cmd.Process.Pid, code)
			if err != nil {
				return err
			}
			defer p.Close()
			if err := p.SeizeAll(); err != nil {
				return err
			}
			for _, th := range p.Held() {
				if !vdso.Contains(mem.Addr(th.Regs.RIP)) || th.Regs.OrigRAX != abi.NoCall {
					continue
				}
				within++
				at := mem.Addr(th.Regs.RIP)
				here := mem.Range{Start: at, End: at + 12}
				if err := th.Leave(here, 12); err != nil {
					return err
				}
				if r, err := kern.GetRegs(th.TID); err != nil || here.Contains(mem.Addr(r.RIP)) || r.RIP != th.Regs.RIP {
					return fmt.Errorf("thread %d was at %#x, is at %#x, and is taken to be at %#x (%v)", th.TID, uint64(at), r.RIP, th.Regs.RIP, err)
				}
			}
			return p.ReleaseAll()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if within == 0 {
		t.Error("it was never found to read a clock")
	}
	in.Close()
	if s, err := out.ReadString('\n'); s != "done\n" {
		t.Errorf("after it was held %d times while it read a clock it said %q, %v", within, s, err)
	}
}

func vdsoOf(t *testing.T, pid int) (r mem.Range) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x", &r.Start, &r.End); err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	t.Skip("this kernel gives programs no vDSO")
	return r
}
