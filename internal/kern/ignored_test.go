package kern

import (
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// ignoredByChildren is what a program that this process starts ignores, from the beginning.
func ignoredByChildren(t *testing.T) uint64 {
	t.Helper()
	out, err := exec.Command("grep", "SigIgn", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	set, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(string(out), "SigIgn:")), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestHeedSignals(t *testing.T) {
	const winch = uint64(1) << (syscall.SIGWINCH - 1)
	signal.Ignore(syscall.SIGWINCH)
	defer signal.Reset(syscall.SIGWINCH)
	if ignoredByChildren(t)&winch == 0 {
		t.Fatal("the test could not make its children ignore SIGWINCH")
	}
	HeedSignals()
	if set := ignoredByChildren(t); set != 0 {
		t.Errorf("children ignore %#x", set)
	}
}
