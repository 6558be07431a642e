package eligible

import (
	"fmt"
	"slices"
	"strings"

	"mosix/internal/image"
	"mosix/internal/procfs"
)

// Asker is the user who wants the move.
type Asker struct {
	UID, GID uint32
	Caps     uint64 // permitted capabilities, bit n for capability n
	Root     bool   // may trace every process of this machine
	// AllowPrivileged is root's explicit word that a process with privileges may be given to another machine. From anybody else
	// it means nothing.
	AllowPrivileged bool
}

// OwnerOf is the asker who has just the rights of the process itself: for moves that the balancer makes in its user's name.
func OwnerOf(f Facts) Asker { return Asker{UID: f.Status.UID.Real, GID: f.Status.GID.Real} }

// refusals collects reasons. A reason of one kind is given once, with the first evidence and the number of others.
type refusals struct {
	list image.Refusals
	more []int
}

func (r *refusals) add(what, why, evidence string, args ...any) {
	if len(args) > 0 {
		evidence = fmt.Sprintf(evidence, args...)
	}
	for i := range r.list {
		if r.list[i].What == what && r.list[i].Why == why {
			if r.list[i].Evidence != evidence {
				r.more[i]++
			}
			return
		}
	}
	r.list = append(r.list, image.Refusal{What: what, Why: why, Evidence: evidence})
	r.more = append(r.more, 0)
}

func (r *refusals) done() image.Refusals {
	for i, n := range r.more {
		if n > 0 {
			r.list[i].Evidence += fmt.Sprintf(", and %d more", n)
		}
	}
	if r.list == nil {
		return image.Refusals{}
	}
	return r.list
}

// Judge gives every reason why the process of f cannot be moved for asker, to t if that is not nil. None means that it can.
//
// Who may not trace the process is told only what everybody may read in /proc: its mappings and descriptors are its own.
func Judge(f Facts, asker Asker, t *Target) image.Refusals {
	r := &refusals{}
	s := &f.Status
	if f.Stat.Flags&procfs.FlagKthread != 0 || s.Kthread {
		r.add(KernelThread, "It is a thread of the kernel, not a program; there is nothing to move.",
			"flags %#x in /proc/%d/stat", f.Stat.Flags, f.PID)
		return r.done()
	}
	if !judgeAlive(r, &f) {
		return r.done()
	}
	if f.IsAgent {
		r.add(Agent, "It is the agent itself, which must run on its own node.", "PID %d", f.PID)
	}
	traceable := judgeTraceable(r, &f, asker)
	judgeRights(r, &f, asker)
	judgeThreads(r, &f)
	if s.InnerPID() == 1 {
		r.add(Init, "It is process 1 of its PID namespace, a number that another process has on every node; move its children instead.",
			"NSpid in /proc/%d/status ends with 1", f.PID)
	}
	if s.ThreadFeatures != "" && slices.Contains(strings.Fields(s.ThreadFeatures), "shstk") {
		r.add(ShadowStack, "It uses a shadow stack of the processor, which cannot be set up anew elsewhere; start it with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK.",
			"x86_Thread_features: %s in /proc/%d/status", s.ThreadFeatures, f.PID)
	}
	if t != nil {
		judgePIDs(r, &f, t)
	}
	if !traceable {
		return r.done()
	}
	judgePlace(r, &f)
	judgeFDs(r, &f)
	judgeTimers(r, &f)
	judgeMemory(r, &f)
	judgeShared(r, &f)
	if t != nil {
		judgeTarget(r, &f, t)
	}
	if len(f.Unread) > 0 {
		r.add(Unreadable, "The agent could not read all that must be known about it; an agent that runs as root can.",
			"%s", strings.Join(f.Unread, "; "))
	}
	return r.done()
}

func judgeAlive(r *refusals, f *Facts) bool {
	const flagExiting = 0x4
	dead := strings.IndexByte("ZXx", f.Stat.State) >= 0
	switch {
	case dead && f.Stat.Threads > 1:
		r.add(LeaderEnded, "Its first thread has ended while others run on; it must stay where it is until it ends.",
			"State: %c with %d threads in /proc/%d/stat", f.Stat.State, f.Stat.Threads, f.PID)
		return false
	case dead:
		r.add(Ended, "It has ended and waits for its parent to notice; there is nothing left to move.",
			"State: %c in /proc/%d/stat", f.Stat.State, f.PID)
		return false
	case f.Stat.Flags&flagExiting != 0, f.Status.CoreDumping:
		r.add(Ended, "It is about to end.", "flags %#x in /proc/%d/stat", f.Stat.Flags, f.PID)
		return false
	}
	return true
}

// judgeTraceable applies the kernel's rule for ptrace, without Yama: the asker's ids equal the real, effective and saved ids
// of every thread, and no thread has a capability that the asker lacks.
func judgeTraceable(r *refusals, f *Facts, a Asker) bool {
	if a.Root {
		return true
	}
	for _, th := range f.threads() {
		at := fmt.Sprintf("in /proc/%d/status", f.PID)
		if th.TID != f.PID {
			at = fmt.Sprintf("in /proc/%d/task/%d/status", f.PID, th.TID)
		}
		u, g := th.UID, th.GID
		switch {
		case u.Real != a.UID || u.Effective != a.UID || u.Saved != a.UID:
			r.add(NotTraceable, "It is not yours: only its user, or root, can move it.", "Uid: %s %s, and you are %d", u, at, a.UID)
			return false
		case g.Real != a.GID || g.Effective != a.GID || g.Saved != a.GID:
			r.add(NotTraceable, "It runs with another group than yours: ask from a shell with its group (newgrp), or as root.", "Gid: %s %s, and you are %d", g, at, a.GID)
			return false
		case th.Caps.Permitted&^a.Caps != 0:
			r.add(NotTraceable, "It has capabilities that you do not have: only root can move it.", "CapPrm: %016x %s", th.Caps.Permitted, at)
			return false
		}
	}
	if f.OwnerKnown && f.Owner != f.Status.UID.Effective {
		return false // judgeRights says so
	}
	return true
}

// threads gives at least the first thread, also where the list could not be read.
func (f *Facts) threads() []Thread {
	if len(f.Threads) > 0 {
		return f.Threads
	}
	s := &f.Status
	return []Thread{{TID: f.PID, InnerTID: s.InnerPID(), Comm: f.Stat.Comm, State: f.Stat.State, Flags: f.Stat.Flags, Policy: f.Stat.Policy,
		Seccomp: s.Seccomp, TracerPID: s.TracerPID, UID: s.UID, GID: s.GID, Caps: s.Caps}}
}

// judgeRights refuses what runs with more rights than its user has, or hides from its user.
func judgeRights(r *refusals, f *Facts, a Asker) {
	const setIDWhy = "It was started from a set-id program and holds rights that its user does not have; no other machine may have those."
	for _, th := range f.threads() {
		if u := th.UID; u.Real != u.Effective || u.Real != u.Saved {
			r.add(SetID, setIDWhy, "Uid: %s in /proc/%d/status", u, f.PID)
		}
		if g := th.GID; g.Real != g.Effective || g.Real != g.Saved {
			r.add(SetID, setIDWhy, "Gid: %s in /proc/%d/status", g, f.PID)
		}
	}
	if f.OwnerKnown && f.Owner != f.Status.UID.Effective {
		r.add(Undumpable, "It forbids its user to look into its memory (it handles secrets, was set-id, or its file cannot be read), so its memory goes nowhere.",
			"/proc/%d/maps belongs to uid %d, the process to %d", f.PID, f.Owner, f.Status.UID.Effective)
	}
	if a.Root && a.AllowPrivileged {
		return
	}
	for _, th := range f.threads() {
		why := "It has root's rights or capabilities, and the host would get them too: only root can move it, with --allow-privileged."
		if ids := th.UID.All(); slices.Contains(ids[:], 0) {
			r.add(Privileged, why, "Uid: %s in /proc/%d/status", th.UID, f.PID)
		} else if c := th.Caps; c.Permitted|c.Effective|c.Ambient != 0 {
			r.add(Privileged, why, "CapPrm: %016x, CapEff: %016x in /proc/%d/status", c.Permitted, c.Effective, f.PID)
		}
	}
}

// Standing gives the reasons why a process that is away may not be so any more: what it runs with now, or how.
func Standing(f Facts, asker Asker) image.Refusals {
	r := &refusals{}
	judgeRights(r, &f, asker)
	judgePolicies(r, &f)
	return r.done()
}

func judgeThreads(r *refusals, f *Facts) {
	for _, th := range f.threads() {
		at := fmt.Sprintf("/proc/%d/status", f.PID)
		if th.TID != f.PID {
			at = fmt.Sprintf("/proc/%d/task/%d/status", f.PID, th.TID)
		}
		switch {
		case th.Flags&procfs.FlagIOWorker != 0 || strings.HasPrefix(th.Comm, "iou-") && th.Flags&procfs.FlagUserWorker != 0:
			r.add(IOUring, "It uses io_uring, whose kernel side cannot be moved; if the program has another backend (epoll, threads), start it with that.",
				"thread %d (%s) is a worker of io_uring", th.TID, th.Comm)
			continue
		case th.Flags&procfs.FlagUserWorker != 0:
			r.add(KernelWorker, "The kernel works inside it on behalf of a device; it must stay where the device is.", "thread %d (%s)", th.TID, th.Comm)
			continue
		}
		if th.Seccomp != 0 {
			r.add(Seccomp, "It runs in a sandbox of its own (seccomp), which would not hold at a distance; start it without the sandbox to let it move.",
				"Seccomp: %d in %s", th.Seccomp, at)
		}
		if th.TracerPID != 0 {
			r.add(Traced, "A debugger or tracer has hold of it; detach that first.", "TracerPid: %d in %s", th.TracerPID, at)
		}
	}
	judgePolicies(r, f)
}

// judgePolicies refuses what a host does not give.
func judgePolicies(r *refusals, f *Facts) {
	for _, th := range f.threads() {
		switch th.Policy {
		case procfs.SchedFIFO, procfs.SchedRR, procfs.SchedDeadline:
			r.add(Realtime, "It has a real-time scheduling policy, which a host does not give to guests; chrt -o -p 0 PID makes it ordinary.",
				"policy %s in /proc/%d/task/%d/stat", map[uint32]string{1: "SCHED_FIFO", 2: "SCHED_RR", 6: "SCHED_DEADLINE"}[th.Policy], f.PID, th.TID)
		}
	}
}

func judgePIDs(r *refusals, f *Facts, t *Target) {
	highest := f.Status.InnerPID()
	for _, th := range f.Threads {
		highest = max(highest, th.InnerTID)
	}
	if t.PIDMax > 0 && highest >= t.PIDMax {
		r.add(PIDMax, fmt.Sprintf("It has a number that %s does not give: raise kernel.pid_max there to that of this node.", t.name()),
			"number %d, and pid_max is %d", highest, t.PIDMax)
	}
}

func (t *Target) name() string {
	if t.Name == "" {
		return "the other node"
	}
	return t.Name
}

func judgePlace(r *refusals, f *Facts) {
	if n := f.Status.InnerPID(); n > 1 && n != f.PID {
		r.add(PIDNamespace, "It lives in a PID namespace in which it has another number than here, and a guest has one number only; move it by an agent in that namespace.",
			"NSpid in /proc/%d/status ends with %d", f.PID, n)
	}
	for kind, ns := range map[string][2]uint64{"pid": {f.NS.PID, f.NS.PIDChildren}, "time": {f.NS.Time, f.NS.TimeChildren}} {
		if ns[1] != 0 && ns[0] != 0 && ns[1] != ns[0] {
			what := PIDNamespace
			if kind == "time" {
				what = TimeNamespace
			}
			r.add(what, "Its children begin in another "+kind+" namespace than its own, which a guest's cannot; move them by themselves.",
				"/proc/%d/ns/%s_for_children is %s:[%d], its own %s:[%d]", f.PID, kind, kind, ns[1], kind, ns[0])
		}
	}
	if f.NS.Time != 0 && f.OwnNS.Time != 0 && f.NS.Time != f.OwnNS.Time {
		r.add(TimeNamespace, "It lives in a time namespace of its own, and a guest's clocks are its home's; start it outside of that namespace.",
			"/proc/%d/ns/time is time:[%d], the agent's is time:[%d]", f.PID, f.NS.Time, f.OwnNS.Time)
	}
	if f.NS.User != f.OwnNS.User {
		why := "It lives in a user namespace in which its own ids have no number; give the namespace a map that contains them."
		for _, u := range f.Status.UID.All() {
			if !procfs.Mapped(f.UIDMap, u) {
				r.add(UserNamespace, why, "uid %d is not in /proc/%d/uid_map", u, f.PID)
				break
			}
		}
		for _, g := range f.Status.GID.All() {
			if !procfs.Mapped(f.GIDMap, g) {
				r.add(UserNamespace, why, "gid %d is not in /proc/%d/gid_map", g, f.PID)
				break
			}
		}
	}
	if f.Auxv.Class32 {
		r.add(Bits32, "It is a program of 32 bits; only programs of 64 bits move.", "program headers of 32 bytes in /proc/%d/auxv", f.PID)
	}
	const memoryBits = procfs.PersonalityReadImpliesExec | procfs.PersonalityLimit32Bit | procfs.PersonalityLimit3GB | procfs.PersonalityMmapPageZero
	if f.Personality&memoryBits != 0 {
		r.add(Personality, "It was started with another memory layout than Linux gives (setarch); start it without.",
			"%08x in /proc/%d/personality", f.Personality, f.PID)
	}
	if len(f.SameSpace) > 0 {
		r.add(SharedSpace, "Another process lives in the same address space (it is in the middle of starting a program, or was made so); try again later.",
			"process %s", numbersText(f.SameSpace))
	}
}

func numbersText(ns []int) string {
	var b strings.Builder
	for i, n := range ns {
		if i == 3 && len(ns) > 4 {
			return fmt.Sprintf("%s and %d more", b.String(), len(ns)-i)
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}

// judgeFDs refuses descriptors whose kernel side acts on the process's memory or threads, which are not at home any more.
func judgeFDs(r *refusals, f *Facts) {
	for _, fd := range f.FDs {
		kind, ok := strings.CutPrefix(fd.Link, "anon_inode:")
		if !ok {
			continue
		}
		kind = strings.Trim(kind, "[]")
		ev := fmt.Sprintf("fd %d is %s", fd.N, fd.Link)
		switch {
		case kind == "io_uring":
			r.add(IOUring, "It uses io_uring, whose kernel side cannot be moved; if the program has another backend (epoll, threads), start it with that.", "%s", ev)
		case strings.HasPrefix(kind, "bpf"):
			r.add(BPF, "It holds BPF objects of this machine's kernel and must stay here.", "%s", ev)
		case kind == "perf_event":
			r.add(Perf, "It counts events of this machine's processor and must stay here until it stops counting.", "%s", ev)
		case strings.HasPrefix(kind, "kvm"):
			r.add(KVM, "It runs a virtual machine on this machine's processor; move the virtual machine with its own means.", "%s", ev)
		case strings.HasPrefix(kind, "vfio"), kind == "iommufd":
			r.add(VFIO, "It drives a device of this machine and must stay here.", "%s", ev)
		case kind == "userfaultfd":
			r.add(Userfaultfd, "It handles page faults itself (userfaultfd), and its memory would be elsewhere.", "%s", ev)
		}
	}
}

// judgeTimers refuses timers that count the CPU time which the process uses at home.
func judgeTimers(r *refusals, f *Facts) {
	const processCPU, threadCPU = 2, 3
	for _, t := range f.Timers {
		if t.Clock < 0 || t.Clock == processCPU || t.Clock == threadCPU {
			r.add(CPUTimer, "It has a POSIX timer on a CPU-time clock, which would not count what it computes elsewhere; delete the timer first.",
				"timer %d on clock %d in /proc/%d/timers", t.ID, t.Clock, f.PID)
			return
		}
	}
}

func judgeTarget(r *refusals, f *Facts, t *Target) {
	if local, _ := LocalVDSO(); f.HasVDSO && f.VDSOBuildID != local {
		own := f.VDSOBuildID
		if own == "" {
			own = "unknown"
		}
		r.add(VDSO, "It has changed its vDSO, and would have the kernel's own elsewhere.", "vDSO build id %s, of this kernel's %s", own, local)
	}
	if m := Missing(f.CPU, t.CPU); len(m) > 0 {
		r.add(CPUFeature, fmt.Sprintf("The processor of %s lacks features that the program may have found here and uses; choose a node that has them.", t.name()),
			"missing: %s", strings.Join(m, ", "))
	}
	if m := Wider(f.CPU, t.CPU); len(m) > 0 {
		r.add(CPUFeature, fmt.Sprintf("The processor of %s has more registers than this one, and the program has no room to save them in; choose a node with the same.", t.name()),
			"also has: %s", strings.Join(m, ", "))
	}
}
