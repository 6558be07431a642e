// Package tracer holds processes still and makes them execute single system calls. Its one invariant: what it does to a
// process it undoes; a thread that is released has the registers, the mask and the pending signals that it had, unless the
// caller changed them by name.
//
// ptrace binds a tracee to one thread of the tracer's program. Run gives such a thread; everything here is called from
// within it. When the function given to Run returns, or the agent dies, whatever it still held is released by the kernel.
package tracer

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"mosix/internal/kern"
)

// ErrGone says that the process, or a thread of it, has ended meanwhile.
var ErrGone = errors.New("the process has ended")

// ErrQuit says that a stop was no longer wanted before it came.
var ErrQuit = errors.New("the stop was given up")

// Run executes f on an operating-system thread that ends with it.
func Run(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here, and with it all that it traces is let go
		done <- f()
	}()
	return <-done
}

// StopKind says why a thread stopped.
type StopKind uint8

// The kinds of stop.
const (
	Exited      StopKind = iota + 1 // the thread is no more
	Killed                          // … by a signal
	SignalStop                      // about to receive Signal
	Interrupted                     // as asked
	GroupStop                       // the process is stopped by Signal
	Event                           // fork, clone, exec, exit
	SyscallStop                     // at the entry or exit of a call
)

// Stop is what wait reported of a thread.
type Stop struct {
	TID    int
	Kind   StopKind
	Signal int
	Event  int
	Status int
}

func (s Stop) String() string {
	switch s.Kind {
	case Exited:
		return fmt.Sprintf("%d exited with %d", s.TID, s.Status>>8&0xff)
	case Killed:
		return fmt.Sprintf("%d killed by signal %d", s.TID, s.Signal)
	case SignalStop:
		return fmt.Sprintf("%d in signal-delivery-stop for %d", s.TID, s.Signal)
	case Interrupted:
		return fmt.Sprintf("%d interrupted", s.TID)
	case GroupStop:
		return fmt.Sprintf("%d in group-stop by %d", s.TID, s.Signal)
	case SyscallStop:
		return fmt.Sprintf("%d in syscall-stop", s.TID)
	}
	return fmt.Sprintf("%d in event-stop %d", s.TID, s.Event)
}

func decode(tid, st int) Stop {
	s := Stop{TID: tid, Status: st, Signal: st >> 8 & 0xff, Event: st >> 16}
	switch {
	case st&0x7f == 0:
		s.Kind, s.Signal = Exited, 0
	case st&0xff != 0x7f:
		s.Kind, s.Signal = Killed, st&0x7f
	case s.Event == kern.EventStop && s.Signal == 5:
		s.Kind = Interrupted
	case s.Event == kern.EventStop:
		s.Kind = GroupStop
	case s.Event != 0:
		s.Kind = Event
	case s.Signal == 5|0x80:
		s.Kind = SyscallStop
	default:
		s.Kind = SignalStop
	}
	return s
}

// wait waits for the next stop of tid. Where quit is given it is asked again and again whether to give up.
func wait(tid int, quit func() bool) (Stop, error) {
	flags := 0
	if quit != nil {
		flags = kern.WNoHang
	}
	n, st, err := kern.Wait(tid, flags)
	for pause := 10 * time.Microsecond; quit != nil && err == nil && n == 0; pause = min(2*pause, time.Millisecond) {
		if quit() {
			return Stop{}, ErrQuit
		}
		time.Sleep(pause)
		n, st, err = kern.Wait(tid, flags)
	}
	if err != nil {
		if kern.IsGone(err) {
			return Stop{}, fmt.Errorf("%w (%v)", ErrGone, err)
		}
		return Stop{}, err
	}
	s := decode(tid, st)
	if s.Kind == Exited || s.Kind == Killed {
		return s, fmt.Errorf("%w: %v", ErrGone, s)
	}
	return s, nil
}
