package thaw

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"time"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/keeper"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/procfs"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/migrator/pages"
)

// Clocks is what a guest's clocks are made of: home's readings minus this host's, in nanoseconds, and home's realtime clock
// minus home's monotonic one.
type Clocks struct{ Mono, Boot, Real int64 }

// Plan is what Prepare needs to know of the process that will come.
type Plan struct {
	Process id.Process
	TIDs    []id.HomePID // the leader first
	VDSO    VDSO
	Base    mem.Addr // where home has the region
	Clocks  Clocks
	Cgroup  []string // directories to make the guest's cgroup in
	Limits  [16][2]uint64
	Filter  []byte // the seccomp program, as the kernel reads it
}

// Nest is what the guests of a family share that is being made: the keeper with its namespaces, the cgroups, and what stands for
// objects. All its methods, and those of its guests, run on the tracer's thread that made it.
type Nest struct {
	Keeper  *tracer.Process
	LastPID int      // the number there of the file that says which number the next process gets; negative: none
	Cgroups []string // made for it
	Guests  []*Guest // the family, its first member first

	proc    *os.Process
	objects map[image.Object]*standIn
}

// Guest is a guest that is being made.
type Guest struct {
	*Nest
	Plan     Plan
	P        *tracer.Process
	Listener *os.File // of its filter
	KeeperFD int      // the listener's number in the keeper

	tids  map[id.HomePID]int
	areas []image.Area
	parts map[mem.Range]bool // areas that were made of several
	lost  map[mem.Addr]bool  // pages that could not be written, and have not come again

	shut    map[mem.Range]uint8 // read-only areas that are closed for writing already
	patched bool                // the clocks are home's
	foreign bool                // see Foreign
}

// Prepare makes a keeper, and in its namespaces the empty first process of a family with its threads.
func Prepare(plan Plan, code *stub.Code) (*Nest, error) {
	n := &Nest{}
	g := n.add(plan)
	err := g.found(code)
	if err == nil {
		err = g.make(code)
	}
	if err != nil {
		n.Discard()
		return nil, fmt.Errorf("prepare a guest for %v: %w", plan.Process, err)
	}
	return n, nil
}

// Join makes the empty next process of the family. It does not undo what it did where that fails: Discard does.
func (n *Nest) Join(plan Plan, code *stub.Code) error {
	if len(n.Guests) == stub.MaxMembers {
		return fmt.Errorf("a family of more than %d processes: a keeper has no room for more", stub.MaxMembers)
	}
	if err := n.add(plan).make(code); err != nil {
		return fmt.Errorf("prepare a guest for %v, of the family of %v: %w", plan.Process, n.Guests[0].Plan.Process, err)
	}
	return nil
}

func (n *Nest) add(plan Plan) *Guest {
	g := &Guest{Nest: n, Plan: plan, tids: map[id.HomePID]int{}, lost: map[mem.Addr]bool{}, parts: map[mem.Range]bool{}}
	n.Guests = append(n.Guests, g)
	return g
}

// found makes the keeper, as the first guest needs it.
func (g *Guest) found(code *stub.Code) error {
	var err error
	if g.proc, err = keeper.Start(code, newIDs()); err != nil {
		return err
	}
	if err := g.enterCgroups(); err != nil {
		return err
	}
	if g.Keeper, err = tracer.Open(g.proc.Pid, code); err != nil {
		return err
	}
	g.Keeper.Options = kern.OptTraceClone | kern.OptTraceFork | kern.OptTraceVfork | kern.OptExitKill
	g.Keeper.SetSyscall(keeper.SyscallAt(code))
	if err := g.Keeper.SeizeAll(); err != nil {
		return err
	}
	k := g.Keeper.Leader()
	if err := g.Keeper.Plant(k, keeper.Base, 0); err != nil {
		return err
	}
	g.Keeper.Region.Header().State = stub.StateKeeper
	return g.isolate(k)
}

// make makes the guest itself, the keeper's child.
func (g *Guest) make(code *stub.Code) error {
	child, err := g.clone(g.Keeper.Leader(), abi.SIGCHLD, g.Plan.Process.PID)
	if err != nil {
		return err
	}
	return g.empty(child, code)
}

// enterCgroups puts the keeper, and so all that it will make, into a cgroup of its own below each configured directory.
func (g *Guest) enterCgroups() error {
	for _, dir := range g.Plan.Cgroup {
		d := CgroupOf(dir, g.Plan.Process, g.proc.Pid)
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make the guest's cgroup: %w", err)
		}
		g.Cgroups = append(g.Cgroups, d)
		if err := os.WriteFile(filepath.Join(d, "cgroup.procs"), []byte(strconv.Itoa(g.proc.Pid)), 0); err != nil {
			return fmt.Errorf("put the guest into its cgroup: %w", err)
		}
	}
	return nil
}

// CgroupOf names the cgroup of a guest below dir.
func CgroupOf(dir string, p id.Process, keeper int) string {
	return filepath.Join(dir, fmt.Sprintf("%d-%s-%d", p.PID, p.Home, keeper))
}

// isolate gives the keeper's children their clocks and takes the file system away.
func (g *Guest) isolate(k *tracer.Thread) error {
	if _, err := k.MustCall("unshare(CLONE_NEWTIME)", abi.SysUnshare, abi.CloneNewTime); err != nil {
		return err
	}
	offs := fmt.Sprintf("monotonic %s\nboottime %s\n", secNsec(g.Plan.Clocks.Mono), secNsec(g.Plan.Clocks.Boot))
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", k.TID), []byte(offs), 0); err != nil {
		return fmt.Errorf("set the guest's clocks (%q): %w", offs, err)
	}
	at, b := scratchAt(g.Keeper, 0)
	// To open it takes a /proc, which the keeper is about to lose; to write takes a capability that it alone has.
	copy(b, "/proc/sys/kernel/ns_last_pid\x00")
	const atFDCWD, writeOnly, cloexec = ^uint64(99), 1, 0x80000
	fd, err := k.Call(abi.SysOpenat, atFDCWD, at, writeOnly|cloexec)
	if err != nil {
		return err
	}
	g.LastPID = int(fd) // without it guests come home for every process and thread that they make
	str := func(off int, s string) uint64 {
		copy(b[off:], append([]byte(s), 0))
		return at + uint64(off)
	}
	const private, detach = 1<<14 | 1<<18, 2
	tmp, tmpfs, root, dot, opt := str(0, "/tmp"), str(16, "tmpfs"), str(32, "/"), str(48, "."), str(64, "size=4096,mode=0500")
	_, err = k.MustBatch("an empty file system", []stub.Call{
		tracer.NewCall(abi.SysMount, 0, root, 0, private, 0),
		tracer.NewCall(abi.SysMount, tmpfs, tmp, tmpfs, 0, opt),
		tracer.NewCall(abi.SysChdir, tmp),
		tracer.NewCall(abi.SysPivotRoot, dot, dot),
		tracer.NewCall(abi.SysUmount2, dot, detach),
		tracer.NewCall(abi.SysChdir, root),
	})
	return err
}

func secNsec(ns int64) string {
	s, n := ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return fmt.Sprintf("%d %d", s, n)
}

// clone makes a process or, with thread flags, a thread of the given number through the held thread t.
func (g *Guest) clone(t *tracer.Thread, exitSignal uint64, tid id.HomePID) (int, error) {
	at, b := scratchAt(t.Proc, 0)
	var flags uint64
	if exitSignal == 0 {
		flags = abi.CloneVM | abi.CloneFS | abi.CloneFiles | abi.CloneSighand | abi.CloneThread | abi.CloneSysvsem
	}
	for i, v := range []uint64{flags, 0, 0, 0, exitSignal, 0, 0, 0, at + 128, 1, 0} {
		putU64(b[8*i:], v)
	}
	putU32(b[128:], uint32(tid))
	out, err := t.Batch([]stub.Call{tracer.NewCall(abi.SysClone3, at, 88)})
	if err != nil {
		return 0, err
	}
	if out[0] != int64(tid) {
		return 0, fmt.Errorf("clone3 with number %d: %w; a number above this node's kernel.pid_max cannot be a guest's", tid, kern.Errno(-out[0]))
	}
	g.tids[tid] = t.Proc.NewTask
	return t.Proc.NewTask, nil
}

// empty turns the keeper's child into a process with nothing but the region and home's vDSO, and makes its threads.
func (g *Guest) empty(pid int, code *stub.Code) error {
	p, err := tracer.Open(pid, code)
	if err != nil {
		return err
	}
	g.P = p
	p.Options = g.Keeper.Options
	p.SetSyscall(keeper.SyscallAt(code))
	l, err := p.Adopt(pid)
	if err != nil {
		return err
	}
	if err := p.Plant(l, g.Plan.Base, 0); err != nil {
		return err
	}
	p.Region.Header().State = stub.StateGuest
	r := p.Region.Range()
	const top = 0x7ffffffff000
	calls := []stub.Call{
		tracer.NewCall(abi.SysMunmap, 0, uint64(r.Start)),
		tracer.NewCall(abi.SysMunmap, uint64(r.End), top-uint64(r.End)),
		tracer.NewCall(abi.SysCloseRange, 0, uint64(^uint32(0)), 0),
	}
	out, err := l.Batch(calls)
	if err != nil {
		return err
	}
	for i, ret := range out {
		if abi.IsErr(ret) {
			return fmt.Errorf("empty the new process, step %d: %w", i+1, kern.Errno(-ret))
		}
	}
	p.SetSyscall(0)
	if err := g.mapVDSO(l); err != nil {
		return err
	}
	for _, tid := range g.Plan.TIDs {
		if tid != g.Plan.Process.PID {
			if err := g.addThread(tid); err != nil {
				return err
			}
		}
	}
	return nil
}

// limit gives the guest home's limits of memory, as far as this node's own allow. What is mosix's in its address
// space comes on top.
func (g *Guest) limit(l *tracer.Thread) error {
	have, err := procfs.Default.Limits(g.P.PID)
	if err != nil {
		return err
	}
	at, b := scratchAt(g.P, 0)
	var calls []stub.Call
	for i, what := range []int{kern.LimitData, kern.LimitStack, kern.LimitMemlock, kern.LimitAS} {
		soft, hard := g.Plan.Limits[what][0], g.Plan.Limits[what][1]
		if what == kern.LimitAS {
			soft, hard = Beside(soft, g.P.Region), Beside(hard, g.P.Region)
		}
		hard = min(hard, have[what].Hard)
		putU64(b[16*i:], min(soft, hard))
		putU64(b[16*i+8:], hard)
		calls = append(calls, tracer.NewCall(abi.SysPrlimit, 0, uint64(what), at+uint64(16*i), 0))
	}
	_, err = l.MustBatch("resource limits", calls)
	return err
}

// Beside is a limit of address space with room for our own region on top; none stays none.
func Beside(limit uint64, r *region.Region) uint64 {
	if n := uint64(len(r.B)); limit+n > limit {
		return limit + n
	}
	return ^uint64(0)
}

func (g *Guest) addThread(tid id.HomePID) error {
	n, err := g.clone(g.P.Leader(), 0, tid)
	if err != nil {
		return err
	}
	_, err = g.P.Adopt(n)
	return err
}

// Layout makes the guest's areas equal to as, and empties zap.
func (g *Guest) Layout(as []image.Area, zap []mem.Range) error {
	if err := image.CheckAreas(as); err != nil {
		return err
	}
	for _, a := range as {
		if a.Overlaps(g.P.Region.Range()) {
			return fmt.Errorf("area %v overlaps the shared page at %v", a.Range, g.P.Region.Base)
		}
	}
	calls, err := g.layoutCalls(as)
	if err != nil {
		return err
	}
	calls = append(calls, zapCalls(zap)...)
	out, err := g.P.Leader().Batch(calls)
	if err != nil {
		return err
	}
	for i, ret := range out {
		if abi.IsErr(ret) {
			return fmt.Errorf("lay out the guest's memory at %#x, %d bytes: %w", calls[i].Args[0], calls[i].Args[1], kern.Errno(-ret))
		}
	}
	was := g.areas
	for _, a := range divided(was, as) {
		g.parts[a.Range] = true
	}
	g.areas = as
	g.forget(was, zap)
	shut := map[mem.Range]uint8{}
	for _, a := range as {
		if prot, ok := g.shut[a.Range]; ok && prot == a.Prot {
			if c := image.Find(was, a.Start); c != nil && c.Range == a.Range && c.Prot == a.Prot && (&piece{a, c}).stays() {
				shut[a.Range] = prot // nothing above has touched it
			}
		}
	}
	g.shut = shut
	return nil
}

// forget takes from the lost pages those that the source sends again: what has been emptied, and what is other memory than it was.
func (g *Guest) forget(was []image.Area, zap []mem.Range) {
	for at := range g.lost {
		r := mem.Range{Start: at, End: at + mem.PageSize}
		have, want := image.Find(was, at), image.Find(g.areas, at)
		if have == nil || want == nil || !want.Stays(*have, r) || slices.ContainsFunc(zap, func(z mem.Range) bool { return z.Contains(at) }) {
			delete(g.lost, at)
		}
	}
}

// Settle does, while the process still runs at home, what Final would have to do: it is called when a round has come in. What
// changes afterwards is done again.
func (g *Guest) Settle() error {
	if err := g.close(g.P.Leader(), false); err != nil {
		return err
	}
	return g.setClocks()
}

// close gives read-only areas their protection. Pages that still come for private ones are written all the same; the shared
// ones are closed last.
func (g *Guest) close(l *tracer.Thread, last bool) error {
	var calls []stub.Call
	for _, a := range g.areas {
		if _, ok := g.shut[a.Range]; !ok && !a.Writable() && (last || !a.Shared) {
			calls = append(calls, tracer.NewCall(abi.SysMprotect, uint64(a.Start), a.Len(), uint64(a.Prot)))
			g.shut[a.Range] = a.Prot
		}
	}
	_, err := l.MustBatch("protect read-only areas", calls)
	return err
}

func (g *Guest) setClocks() error {
	if g.patched {
		return nil
	}
	g.patched = true
	return PatchClocks(g.P, g.Plan.VDSO.Data, g.Plan.Clocks.Real)
}

// Pages writes a frame of memory. A page that cannot be written may be one of memory that the process has mapped since its areas
// were looked at, behind the end of a file that was there: then all of it comes again, and the guest must have it when it is completed.
func (g *Guest) Pages(frame []byte) error {
	lost, err := pages.Write(g.P.PID, g.P.Mem, frame)
	if err != nil {
		return err
	}
	if len(g.lost) > 0 {
		rs, _, err := pages.Parse(frame)
		if err != nil {
			return err
		}
		for at := range g.lost {
			if slices.ContainsFunc(rs, func(r mem.Range) bool { return r.Contains(at) }) {
				delete(g.lost, at)
			}
		}
	}
	for _, at := range lost {
		g.lost[at] = true
	}
	const most = 1 << 16 // what a process maps in the time of a look is less
	if len(g.lost) > most {
		return g.whole()
	}
	return nil
}

// whole reports whether all pages that have come are in the guest.
func (g *Guest) whole() error {
	if len(g.lost) == 0 {
		return nil
	}
	first := slices.Min(slices.Collect(maps.Keys(g.lost)))
	where := "no area"
	if a := image.Find(g.areas, first); a != nil {
		where = fmt.Sprintf("%v of %s", a.Range, cmp.Or(a.Name, "anonymous memory"))
	}
	return fmt.Errorf("%d pages, from %#x on (%s), could not be written into the guest of %v", len(g.lost), uint64(first), where, g.Plan.Process)
}

// Final completes the family from its image: after it, Ready and Run alone are missing.
func (n *Nest) Final(f *image.Family) error {
	if len(f.Members) != len(n.Guests) {
		return fmt.Errorf("the image of %v has %d processes, %d were prepared", f.Process, len(f.Members), len(n.Guests))
	}
	for i, g := range n.Guests { // all before the first: it gives up what stands for objects
		if g.Plan.Process.PID != f.Members[i].PID {
			return fmt.Errorf("process %d of the image of %v is %d, prepared was %v", i, f.Process, f.Members[i].PID, g.Plan.Process)
		}
		if err := g.whole(); err != nil {
			return err
		}
		if err := g.Layout(f.Members[i].Areas, nil); err != nil {
			return err
		}
	}
	for i, g := range n.Guests {
		if err := g.final(&f.Members[i]); err != nil {
			return err
		}
	}
	n.closeObjects()
	return nil
}

func (g *Guest) final(m *image.Process) error {
	if err := g.sameThreads(m); err != nil {
		return err
	}
	l := g.P.Leader()
	parts := slices.DeleteFunc(slices.Clone(g.areas), func(a image.Area) bool { return !g.parts[a.Range] })
	if err := unite(g.P, l, parts); err != nil {
		return err
	}
	if err := g.close(l, true); err != nil {
		return err
	}
	if err := g.leaveObjects(l); err != nil {
		return err
	}
	if err := restoreProcess(l, m, false, false); err != nil {
		return err
	}
	if m.Limits != ([16][2]uint64{}) { // it may have set some while it was copied
		g.Plan.Limits = m.Limits
	}
	if err := g.setClocks(); err != nil {
		return err
	}
	for i := range m.Threads {
		if err := restoreThread(g.P.Thread(g.tids[m.Threads[i].TID]), &m.Threads[i], true); err != nil {
			return err
		}
	}
	for _, t := range g.P.Held() { // while no filter asks who makes these calls
		for _, si := range t.Stash {
			if err := t.QueueSignal(si, false); err != nil {
				return err
			}
		}
		t.Stash = nil
	}
	for _, si := range m.Pending {
		if err := l.QueueSignal(si, true); err != nil {
			return err
		}
	}
	if err := g.guard(l, m.Guards); err != nil {
		return err
	}
	// While its memory is made the guest has more of it than the process, and its signals come through its own queue.
	if err := g.limit(l); err != nil {
		return err
	}
	return g.install(l)
}

// guard makes the pages fault that the process has made fault.
func (g *Guest) guard(l *tracer.Thread, guards []mem.Range) error {
	_, err := l.MustBatch("guard pages", guardCalls(guards, abi.MadvGuardInstall))
	return err
}

// sameThreads makes the threads equal to the image's.
func (g *Guest) sameThreads(m *image.Process) error {
	want := map[id.HomePID]bool{}
	for i := range m.Threads {
		tid := m.Threads[i].TID
		want[tid] = true
		if g.tids[tid] == 0 {
			if err := g.addThread(tid); err != nil {
				return err
			}
		}
	}
	for tid, host := range g.tids {
		if want[tid] {
			continue
		}
		t := g.P.Thread(host)
		t.Regs.SetCall(abi.SysExit, 0)
		t.Regs.RIP = uint64(g.P.Region.At(g.P.Code.At.Single))
		if err := t.Release(); err != nil {
			return err
		}
		delete(g.tids, tid)
	}
	return nil
}

// Kept reports whether the shadow keeps the content of a, an area of the image with which the process left: it is the file's.
func Kept(a image.Area) bool { return a.File && !a.Writable() && a.Prot != abi.ProtNone }

// install puts the filter on all threads; the keeper gets a copy of its descriptor, the guest keeps none.
func (g *Guest) install(l *tracer.Thread) error {
	at, b := scratchAt(g.P, 4096)
	putU64(b, uint64(len(g.Plan.Filter)/8))
	putU64(b[8:], at+16)
	copy(b[16:], g.Plan.Filter)
	if _, err := l.MustCall("no_new_privs", abi.SysPrctl, abi.PrSetNoNewPrivs, 1, 0, 0, 0); err != nil {
		return err
	}
	fd, err := l.MustCall("seccomp", abi.SysSeccomp, abi.SeccompSetFilter,
		abi.SeccompTSync|abi.SeccompNewListener|abi.SeccompTSyncESRCH|abi.SeccompWaitKill, at)
	if err != nil {
		return err
	}
	if g.Listener, err = kern.PidfdGetfd(g.P.Pidfd, int(fd), "seccomp listener"); err != nil {
		return err
	}
	_ = kern.NotifSyncWakeUp(g.Listener) // a hint: without it calls are slower
	k := g.Keeper.Leader()
	pidfd, err := k.MustCall("pidfd_open", abi.SysPidfdOpen, uint64(g.Plan.Process.PID), 0)
	if err != nil {
		return err
	}
	kfd, err := k.MustCall("pidfd_getfd", abi.SysPidfdGetfd, pidfd, fd, 0)
	if err != nil {
		return err
	}
	g.KeeperFD = int(kfd)
	if _, err := k.MustCall("close", abi.SysClose, pidfd); err != nil {
		return err
	}
	if err := kern.SetOptions(l.TID, g.P.Options|kern.OptSuspendFilter); err != nil {
		return err
	}
	if _, err := l.MustCall("close", abi.SysClose, fd); err != nil {
		return err
	}
	return kern.SetOptions(l.TID, g.P.Options)
}

// Ready sets the keeper to work: from now on the guests live no longer than lease.
func (n *Nest) Ready(lease time.Duration, epoch id.Epoch, host id.Node) error {
	k := n.Keeper.Leader()
	r := n.Keeper.Region
	h := r.Header()
	first := n.Guests[0].Plan.Process
	h.Epoch, h.PID, h.Start = uint64(epoch), uint32(first.PID), first.Start
	putName(&h.Home, string(first.Home))
	putName(&h.Peer, string(host))
	end := uint64(kern.Now(kern.ClockBoottime) + int64(lease))
	var together uint32
	if len(n.Guests) > 1 {
		together = 1
	}
	for i, g := range n.Guests {
		*r.Member(i) = stub.Member{
			PID: uint32(g.Plan.Process.PID), Deadline: end, Start: g.Plan.Process.Start, Epoch: uint64(epoch), Base: uint64(g.Plan.Base),
			Listener: uint32(g.KeeperFD), Together: together,
		}
	}
	*r.Keeper() = stub.Keeper{
		Deadline: end, Set: abi.SigBit(abi.SIGCHLD), Timeout: [2]uint64{0, 100e6}, Count: uint32(len(n.Guests)), LastPID: uint32(n.LastPID),
	}
	k.Regs.RIP, k.Regs.R15, k.Regs.OrigRAX = uint64(r.At(n.Keeper.Code.At.Keeper)), uint64(r.Addr(stub.KeeperOff)), abi.NoCall
	k.Mask = abi.SigBit(abi.SIGCHLD)
	if err := kern.SetOptions(k.TID, kern.OptExitKill); err != nil {
		return err
	}
	// The keeper runs from here on, still with its tracer's life: the lease is enforced while Commit is awaited.
	if err := k.PutBack(); err != nil {
		return err
	}
	return kern.Cont(k.TID, 0)
}

// Run lets guests and keeper go: they no longer need this agent.
func (n *Nest) Run() error {
	k := n.Keeper.Leader()
	if err := kern.Interrupt(k.TID); err != nil {
		return err
	}
	if _, _, err := kern.Wait(k.TID, 0); err != nil {
		return err
	}
	var all []*tracer.Thread
	for _, g := range n.Guests {
		all = append(all, g.P.Held()...)
	}
	for _, t := range all {
		if err := t.PutBack(); err != nil {
			return err
		}
	}
	if err := kern.SetOptions(k.TID, 0); err != nil {
		return err
	}
	for _, t := range all {
		if err := kern.SetOptions(t.TID, 0); err != nil {
			return err
		}
	}
	if err := k.Abandon(); err != nil {
		return err
	}
	for _, t := range all {
		if err := t.Go(); err != nil {
			return err
		}
	}
	return nil
}

// KeeperPID is the keeper's number here; Reap collects it when it has ended.
func (n *Nest) KeeperPID() int { return n.proc.Pid }

// Reap waits for the end of the keeper, this program's child.
func (n *Nest) Reap() { _, _ = n.proc.Wait() }

// Region is the keeper's.
func (n *Nest) Region() *region.Region { return n.Keeper.Region }

// Discard ends what was built, or what runs.
func (n *Nest) Discard() {
	if n.proc == nil {
		return
	}
	_ = n.proc.Kill()
	for _, g := range n.Guests {
		if g.P != nil { // the keeper ends after all that it has made, and what is traced ends when its tracer knows
			g.P.AwaitEnd()
		}
	}
	if n.Keeper != nil {
		n.Keeper.AwaitEnd()
	}
	_, _ = n.proc.Wait()
	for _, g := range n.Guests {
		if g.P != nil {
			g.P.Close()
		}
		if g.Listener != nil {
			g.Listener.Close()
		}
	}
	if n.Keeper != nil {
		n.Keeper.Close()
	}
	n.closeObjects()
	RemoveCgroups(n.Cgroups)
	n.proc = nil
}

// RemoveCgroups removes the cgroups of a guest that has ended. The kernel may need a moment until they are empty: those that are
// not at once are removed later.
func RemoveCgroups(dirs []string) {
	var later []string
	for _, d := range dirs {
		if !removed(d, 50, 2*time.Millisecond) {
			later = append(later, d)
		}
	}
	if len(later) > 0 {
		go func() {
			for _, d := range later {
				removed(d, 600, 100*time.Millisecond)
			}
		}()
	}
}

func removed(dir string, tries int, pause time.Duration) bool {
	for range tries {
		if err := os.Remove(dir); err == nil || os.IsNotExist(err) {
			return true
		}
		time.Sleep(pause)
	}
	return false
}

func putName(field *[64]byte, s string) {
	*field = [64]byte{}
	copy(field[:63], s)
}

// HostTIDs reads, from /proc, how the threads of a running guest are numbered at home and here.
func HostTIDs(pid int) (map[id.HomePID]int, error) {
	es, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	out := map[id.HomePID]int{}
	for _, e := range es {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, e.Name()))
		if err != nil {
			continue
		}
		host, err1 := strconv.Atoi(e.Name())
		home, err2 := innermostPID(b)
		if err1 == nil && err2 == nil {
			out[id.HomePID(home)] = host
		}
	}
	return out, nil
}

// SortedTIDs lists home thread numbers, the leader first.
func SortedTIDs(m map[id.HomePID]int, leader id.HomePID) []id.HomePID {
	out := make([]id.HomePID, 0, len(m))
	for t := range m {
		out = append(out, t)
	}
	sort.Slice(out, func(i, j int) bool {
		if l := out[i] == leader; l != (out[j] == leader) {
			return l
		}
		return out[i] < out[j]
	})
	return out
}
