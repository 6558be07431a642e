package tracer

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"mosix/internal/abi"
	"mosix/internal/stub"
)

// TestMain is also the victim: a Go program of several threads that sleeps, counts and says when it gets a signal.
func TestMain(m *testing.M) {
	if os.Getenv("TRACER_VICTIM") != "" {
		fmt.Println("ready")
		sum := 0
		for i := 0; ; i++ {
			sum += i
			time.Sleep(time.Millisecond)
			if i == 400 {
				fmt.Println("done", sum)
				return
			}
		}
	}
	os.Exit(m.Run())
}

func victim(t *testing.T) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "TRACER_VICTIM=1")
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
	return cmd, r
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
