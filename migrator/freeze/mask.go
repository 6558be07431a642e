package freeze

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"mosix/internal/abi"
)

// Ended, in place of what a thread blocks, says that it takes no signal any more: no thread can block SIGKILL.
const Ended = ^uint64(0)

// IdleMask is what a shadow thread blocks between calls, when nobody can tell what its program blocks just then.
//
// A signal that the recorder takes is blocked only where the process can read it from a signalfd (fds are the signals of those)
// and the program was last known to block it: it pends at home, where that descriptor is. One that would stop the process is
// blocked as it was last known to be. One that would be ignored is always blocked: the mask of the next call says whether it
// is dropped or pends.
func IdleMask(actions *[abi.NSig + 1]abi.SigAction, mask, fds uint64) uint64 {
	if mask == Ended {
		return mask
	}
	const realtime = 32 // from here on signals queue, and what pends for nothing would fill the queue
	idle := mask & fds
	for s := 1; s <= abi.NSig; s++ {
		bit := abi.SigBit(s)
		switch a := actions[s]; {
		case s == abi.SIGKILL || s == abi.SIGSTOP || Recorded(s, a):
		case s < realtime && !(a.Handler == abi.SigDfl && abi.DefaultStops(s)):
			idle |= bit
		default:
			idle |= mask & bit
		}
	}
	return idle
}

// SignalFDs lists, as a mask, the signals that process pid can read from its signalfds.
func SignalFDs(pid int) (set uint64) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return 0 // it has ended
	}
	for _, fd := range fds {
		if to, err := os.Readlink(dir + "/" + fd.Name()); err != nil || to != "anon_inode:[signalfd]" {
			continue
		}
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd.Name()))
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "sigmask:"); ok {
				m, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
				set |= m
			}
		}
	}
	return set
}
