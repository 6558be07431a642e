package tracer

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"mosix/internal/abi"
	"mosix/internal/stub"
)

// A SIGSTOP that comes while a process is held stops it when it is let go; and a SIGCONT that comes after it is not lost for that.
func TestStopWhileHeld(t *testing.T) {
	for _, x := range []struct {
		name, program string
		continued     bool
	}{
		{"a handler, continued while held", `trap "echo continued; exit" CONT; echo ready; while :; do :; done`, true},
		{"a handler, continued afterwards", `trap "echo continued; exit" CONT; echo ready; while :; do :; done`, false},
		{"no handler, continued while held", `echo ready; sleep 0.3; echo continued`, true},
		{"no handler, continued afterwards", `echo ready; sleep 0.3; echo continued`, false},
	} {
		continued := x.continued
		t.Run(x.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", x.program)
			r := ready(t, cmd)
			err := Run(func() error {
				p, err := Open(cmd.Process.Pid, stub.Load())
				if err != nil {
					return err
				}
				defer p.Close()
				if err := p.SeizeAll(); err != nil {
					return err
				}
				l := p.Leader()
				if err := p.Plant(l, stub.Base, 1); err != nil {
					return err
				}
				if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
					return err
				}
				for range 3 {
					if _, err := l.MustCall("getpid", abi.SysGetpid); err != nil {
						return err
					}
				}
				if continued {
					if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
						return err
					}
				}
				if err := p.Uproot(l); err != nil {
					return err
				}
				return p.ReleaseAll()
			})
			if err != nil {
				t.Fatal(err)
			}
			if !continued {
				stopped := func() bool {
					b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
					return err == nil && strings.Contains(string(b), ") T ")
				}
				for late := time.Now().Add(5 * time.Second); !stopped(); time.Sleep(time.Millisecond) {
					if time.Now().After(late) {
						t.Fatal("it is not stopped")
					}
				}
				if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
			}
			said := make(chan string, 1)
			go func() {
				s, _ := r.ReadString('\n')
				said <- s
			}()
			select {
			case s := <-said:
				if s != "continued\n" {
					t.Errorf("it said %q", s)
				}
			case <-time.After(5 * time.Second):
				t.Error("it does not go on")
			}
		})
	}
}
