package guest

import (
	"slices"

	"mosix/internal/abi"
	"mosix/internal/id"
)

// A core file shows the program's memory, which home does not have. A signal that would end the process with one brings it home
// first, where it pends then; so does a thread's call that sends one to the process itself, which is made there, and so does a
// fault of the guest's own instructions (see faults.go).

// dumps reports whether sig, when a thread takes it that has state st, ends the process with a core file that may be written.
func (g *Guest) dumps(sig int, st signalState) bool {
	return g.cores && abi.DumpsCore(sig) && (st.caught|st.ignored)&abi.SigBit(sig) == 0
}

// dumpsHere is dumps, for a signal that is about to come to thread tid or, process, to any.
func (g *Guest) dumpsHere(tid id.HomePID, process bool, sig int) bool {
	return sig > 0 && sig <= abi.NSig && g.cores && abi.DumpsCore(sig) && g.dumps(sig, g.signalState(g.PID)) && !g.blockedBy(tid, process, sig)
}

// isEnding reports whether the guest is on its way home to end there: it makes no call any more.
func (g *Guest) isEnding() bool {
	return slices.ContainsFunc(g.signals, func(s signal) bool { return s.home })
}

// goHome starts the way home, once.
func (g *Guest) goHome(why string) {
	if !g.homeward {
		g.homeward = true
		g.link.WantHome(why)
	}
}
