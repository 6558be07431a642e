package guest

import (
	"os"
	ossignal "os/signal"
	"syscall"
	"testing"

	"mosix/internal/abi"
)

// TestSignalState reads what /proc says of this very process.
func TestSignalState(t *testing.T) {
	ossignal.Ignore(syscall.SIGUSR2)
	defer ossignal.Reset(syscall.SIGUSR2)
	ch := make(chan os.Signal, 1)
	ossignal.Notify(ch, syscall.SIGUSR1)
	defer ossignal.Stop(ch)
	g := &Guest{PID: os.Getpid()}
	st := g.signalState(os.Getpid())
	if st.caught&abi.SigBit(int(syscall.SIGUSR1)) == 0 || st.caught&abi.SigBit(int(syscall.SIGUSR2)) != 0 {
		t.Errorf("caught %#x", st.caught)
	}
	if st.ignored&abi.SigBit(int(syscall.SIGUSR2)) == 0 || st.ignored&abi.SigBit(abi.SIGKILL) != 0 {
		t.Errorf("ignored %#x", st.ignored)
	}
	if st = g.signalState(1 << 22); st != (signalState{}) {
		t.Errorf("a thread that does not exist has %+v", st)
	}
}
