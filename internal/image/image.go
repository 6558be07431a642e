package image

import (
	"slices"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/mem"
)

// Family is the unit that moves: processes that share memory. Members has one entry in the usual case.
type Family struct {
	Process id.Process // names the family: its first member
	Epoch   id.Epoch   // of the life that this image begins
	Members []Process
}

// MaxMembers is how many processes may move together.
const MaxMembers = 32

// Process is one member.
type Process struct {
	PID        id.HomePID
	UID        uint32 // real ids at home, for accounting and for limits of the host
	GID        uint32
	Comm       string
	Exe        string // as /proc/PID/exe names it at home
	Command    string // its command line, for people
	Areas      []Area
	Layout     Layout
	Actions    [abi.NSig + 1]abi.SigAction // by signal number; [0] is unused
	Auxv       []byte
	VDSO       mem.Addr      // where [vvar] begins; 0 without one
	Threads    []Thread      // the leader first
	Expedit    uint32        // membarrier registrations, as MEMBARRIER_CMD_GET_REGISTRATIONS gives them
	CPUTime    uint64        // used so far, user and system, ns
	Limits     [16][2]uint64 // resource limits by number: soft, hard
	ITimers    [2][4]uint64  // ITIMER_VIRTUAL and ITIMER_PROF, as struct itimerval: they count where the program computes
	Pending    []abi.Siginfo // signals for the process as a whole, to be queued again
	RealOffset int64         // home's realtime clock minus its monotonic one, ns
	Away       Usage         // by all threads on all hosts up to now, also by those that have ended
	Guards     []mem.Range   // pages that fault although their area may be used (MADV_GUARD_INSTALL)
	Stopped    bool          // by a signal: it computes nothing until it is continued
	NoHuge     bool          // it gets no huge pages (PR_SET_THP_DISABLE)
	Clocks     [3]int64      // monotonic, boot and realtime, ns, when it was stopped: none is ever less again
}

// Pends reports whether signal sig waits for the process or one of its threads.
func (p *Process) Pends(sig int) bool {
	is := func(si abi.Siginfo) bool { return si.Signo() == sig }
	return slices.ContainsFunc(p.Pending, is) || slices.ContainsFunc(p.Threads, func(t Thread) bool { return slices.ContainsFunc(t.Pending, is) })
}

// Usage is what was used of processors, away from home.
type Usage struct {
	Run, User, Sys uint64 // ns; Run is what the scheduler has counted
	MinFlt, MajFlt uint64
	MaxRSS         uint64 // KiB, the highest
}

// Plus adds two.
func (u Usage) Plus(o Usage) Usage {
	return Usage{Run: u.Run + o.Run, User: u.User + o.User, Sys: u.Sys + o.Sys, MinFlt: u.MinFlt + o.MinFlt, MajFlt: u.MajFlt + o.MajFlt,
		MaxRSS: max(u.MaxRSS, o.MaxRSS)}
}

// Layout is where the kernel believes the parts of the address space are: struct prctl_mm_map without its vector.
type Layout struct {
	StartCode, EndCode, StartData, EndData, StartBrk, Brk, StartStack, ArgStart, ArgEnd, EnvStart, EnvEnd uint64
}

// Area is a mapping.
type Area struct {
	mem.Range
	Prot      uint8 // abi.ProtRead …
	Shared    bool  // MAP_SHARED, and held by this family alone
	GrowsDown bool
	File      bool // part of an Object at home: what the process has not written itself is the object's
	Name      string
	Object    Object
	Offset    uint64 // of Start in Object
	Advice    Advice
}

// Object names what a shared or file-backed area is a part of, by the device and the inode that /proc/PID/maps of the process
// has for it at home: a file, or memory that may be shared. The zero Object is no object: private anonymous memory.
type Object struct{ Dev, Inode uint64 }

// Advice is what a process has asked for an area, as the flags in /proc/PID/smaps tell.
type Advice uint32

// The bits of Advice. They cross the wire.
const (
	AdviceKnown Advice = 1 << iota // the flags were looked at: without it the others mean nothing
	NoReserve
	DontFork
	WipeOnFork
	DontDump
	HugePage
	NoHugePage
	Sequential
	Random
	MayWrite // mprotect can make it writable
	Locked
)

// Has reports whether all of b are among a.
func (a Advice) Has(b Advice) bool { return a&b == b }

// Fixed reports whether the area is part of an object that the process shares and can only read: nothing can be put into it.
func (a Area) Fixed() bool {
	if !a.Shared || !a.File {
		return false
	}
	if a.Advice.Has(AdviceKnown) {
		return !a.Advice.Has(MayWrite)
	}
	return a.Name != "" && a.Name[0] == '/' && !a.Writable() && a.Name != "/dev/zero (deleted)"
}

// At returns the part r of a as an area of its own.
func (a Area) At(r mem.Range) Area {
	if a.File {
		a.Offset += uint64(r.Start - a.Start)
	}
	a.Range = r
	return a
}

// Same reports whether a and b, where both have r, are the same memory: made by one mapping, or by mappings that cannot be told
// apart but by their protection and advice.
func (a Area) Same(b Area, r mem.Range) bool {
	if a.Object != b.Object || a.Shared != b.Shared || a.GrowsDown != b.GrowsDown {
		return false
	}
	if a.Object != (Object{}) && a.At(r).Offset != b.At(r).Offset {
		return false
	}
	return a.Advice&b.Advice&AdviceKnown == 0 || a.Advice&NoReserve == b.Advice&NoReserve
}

// Stays reports whether what a process has in r, a part of its area have, can become what a is there and keep its pages. Who looks
// for pages that must travel, and who puts them in, go by the same rule: where it is false all pages of r travel anew.
func (a Area) Stays(have Area, r mem.Range) bool {
	return a.Same(have, r) && (a.File || !stuck(have.Advice, a.Advice))
}

// stuck reports whether an area that was advised have is never again as one of which nothing but want was said.
func stuck(have, want Advice) bool {
	const huge = HugePage | NoHugePage
	return have&want&AdviceKnown != 0 && have&huge != 0 && want&huge == 0
}

// Writable reports whether the process may write the area now.
func (a Area) Writable() bool { return a.Prot&abi.ProtWrite != 0 }

// Thread is one thread, stopped.
type Thread struct {
	TID       id.HomePID
	Comm      string
	Regs      abi.Regs
	XState    []byte // XSAVE layout of the processor
	Mask      uint64
	Alt       abi.StackT
	Robust    uint64 // head of the robust list
	RobustLen uint64
	ClearTID  uint64
	Rseq      uint64
	RseqSize  uint32
	RseqSig   uint32
	Until     int64         // when the timed call ends that it must make again, by home's CLOCK_MONOTONIC, ns; 0: it is in none
	Begun     uint64        // how much of the transfer is done that it makes again, bytes: the call goes on behind that
	Slack     uint64        // by how much its sleeps may be longer (PR_SET_TIMERSLACK), ns; 0: not known
	Pending   []abi.Siginfo // taken out of the kernel's queue by the freeze, to be queued again
	Away      Usage         // of this thread, on all hosts
}

// Ranges lists the areas' ranges.
func Ranges(as []Area) []mem.Range {
	out := make([]mem.Range, len(as))
	for i, a := range as {
		out[i] = a.Range
	}
	return out
}

// Find returns the area that holds a, or nil.
func Find(as []Area, a mem.Addr) *Area {
	lo, hi := 0, len(as)
	for lo < hi {
		m := (lo + hi) / 2
		if as[m].End <= a {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo < len(as) && as[lo].Contains(a) {
		return &as[lo]
	}
	return nil
}
