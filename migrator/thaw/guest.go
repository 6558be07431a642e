package thaw

import (
	"fmt"
	"os"
	"path/filepath"
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
	VDSO    mem.Addr     // where home has [vvar]
	Base    mem.Addr     // where home has the region
	Clocks  Clocks
	Cgroup  []string // directories to make the guest's cgroup in
	Limits  [16][2]uint64
	Filter  []byte // the seccomp program, as the kernel reads it
}

// Guest is a guest that is being made. All its methods run on the tracer's thread that made it.
type Guest struct {
	Plan     Plan
	Keeper   *tracer.Process
	P        *tracer.Process
	Listener *os.File // of the filter
	KeeperFD int      // the listener's number in the keeper
	LastPID  int      // the number there of the file that says which number the next process gets; negative: none
	Cgroups  []string // made for it

	proc  *os.Process
	tids  map[id.HomePID]int
	areas []image.Area

	shut    map[mem.Range]uint8 // read-only areas that are closed for writing already
	objects map[image.Object]*standIn
	patched bool // the clocks are home's
}

// Prepare builds the empty process and its threads.
func Prepare(plan Plan, code *stub.Code) (*Guest, error) {
	g := &Guest{Plan: plan, tids: map[id.HomePID]int{}}
	if err := g.prepare(code); err != nil {
		g.Discard()
		return nil, fmt.Errorf("prepare a guest for %v: %w", plan.Process, err)
	}
	return g, nil
}

func (g *Guest) prepare(code *stub.Code) error {
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
	if err := g.isolate(k); err != nil {
		return err
	}
	child, err := g.clone(k, abi.SIGCHLD, g.Plan.Process.PID)
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
	if g.Plan.VDSO != 0 {
		calls = append(calls, tracer.NewCall(abi.SysArchPrctl, abi.ArchMapVDSO64, uint64(g.Plan.VDSO)))
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
	if err := g.limit(l); err != nil {
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

// limit gives the guest home's limits of memory, as far as this node's own allow.
func (g *Guest) limit(l *tracer.Thread) error {
	have, err := procfs.Default.Limits(g.P.PID)
	if err != nil {
		return err
	}
	at, b := scratchAt(g.P, 0)
	var calls []stub.Call
	for i, what := range []int{kern.LimitData, kern.LimitStack, kern.LimitMemlock, kern.LimitAS} {
		hard := min(g.Plan.Limits[what][1], have[what].Hard)
		putU64(b[16*i:], min(g.Plan.Limits[what][0], hard))
		putU64(b[16*i+8:], hard)
		calls = append(calls, tracer.NewCall(abi.SysPrlimit, 0, uint64(what), at+uint64(16*i), 0))
	}
	_, err = l.MustBatch("resource limits", calls)
	return err
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
	g.areas = as
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
	return PatchClocks(g.P, g.Plan.VDSO, g.Plan.Clocks.Real)
}

// Pages writes a frame of memory.
func (g *Guest) Pages(frame []byte) error {
	lost, err := pages.Write(g.P.PID, g.P.Mem, frame)
	if err == nil && lost > 0 {
		err = fmt.Errorf("%d pages could not be written into the guest of %v", lost, g.Plan.Process)
	}
	return err
}

// Final completes the guest from its image: after it, Run alone is missing.
func (g *Guest) Final(f *image.Family) error {
	m := &f.Members[0]
	if err := g.Layout(m.Areas, nil); err != nil {
		return err
	}
	if err := g.sameThreads(m); err != nil {
		return err
	}
	l := g.P.Leader()
	if err := g.close(l, true); err != nil {
		return err
	}
	if err := g.leaveObjects(l); err != nil {
		return err
	}
	if err := restoreProcess(l, m, false, false); err != nil {
		return err
	}
	if m.Limits != g.Plan.Limits && m.Limits != ([16][2]uint64{}) { // it has set some while it was copied
		g.Plan.Limits = m.Limits
		if err := g.limit(l); err != nil {
			return err
		}
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
	return g.install(l)
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

// Ready sets the keeper to work: from now on the guest lives no longer than lease.
func (g *Guest) Ready(lease time.Duration, epoch id.Epoch, host id.Node) error {
	k := g.Keeper.Leader()
	r := g.Keeper.Region
	h := r.Header()
	h.Epoch, h.PID, h.Start = uint64(epoch), uint32(g.Plan.Process.PID), g.Plan.Process.Start
	putName(&h.Home, string(g.Plan.Process.Home))
	putName(&h.Peer, string(host))
	end := uint64(kern.Now(kern.ClockBoottime) + int64(lease))
	*r.Member(0) = stub.Member{
		PID: uint32(g.Plan.Process.PID), Deadline: end, Start: g.Plan.Process.Start, Epoch: uint64(epoch), Base: uint64(g.Plan.Base),
	}
	*r.Keeper() = stub.Keeper{
		Deadline: end, Set: abi.SigBit(abi.SIGCHLD), Timeout: [2]uint64{0, 100e6}, Count: 1, Listener: uint32(g.KeeperFD), LastPID: uint32(g.LastPID),
	}
	k.Regs.RIP, k.Regs.R15, k.Regs.OrigRAX = uint64(r.At(g.Keeper.Code.At.Keeper)), uint64(r.Addr(stub.KeeperOff)), abi.NoCall
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

// Run lets guest and keeper go: they no longer need this agent.
func (g *Guest) Run() error {
	k := g.Keeper.Leader()
	if err := kern.Interrupt(k.TID); err != nil {
		return err
	}
	if _, _, err := kern.Wait(k.TID, 0); err != nil {
		return err
	}
	for _, t := range g.P.Held() {
		if err := t.PutBack(); err != nil {
			return err
		}
	}
	if err := kern.SetOptions(k.TID, 0); err != nil {
		return err
	}
	for _, t := range g.P.Held() {
		if err := kern.SetOptions(t.TID, 0); err != nil {
			return err
		}
	}
	if err := k.Abandon(); err != nil {
		return err
	}
	for _, t := range g.P.Held() {
		if err := t.Abandon(); err != nil {
			return err
		}
	}
	return nil
}

// KeeperPID is the keeper's number here; Reap collects it when it has ended.
func (g *Guest) KeeperPID() int { return g.proc.Pid }

// Reap waits for the end of the keeper, this program's child.
func (g *Guest) Reap() { _, _ = g.proc.Wait() }

// TIDs maps the guest's thread numbers at home to those on this host.
func (g *Guest) TIDs() map[id.HomePID]int { return g.tids }

// Region is the keeper's.
func (g *Guest) Region() *region.Region { return g.Keeper.Region }

// Discard ends what was built, or what runs.
func (g *Guest) Discard() {
	if g.proc == nil {
		return
	}
	_ = g.proc.Kill()
	if g.P != nil { // the keeper ends after all that it has made, and what is traced ends when its tracer knows
		g.P.AwaitEnd()
	}
	if g.Keeper != nil {
		g.Keeper.AwaitEnd()
	}
	_, _ = g.proc.Wait()
	if g.P != nil {
		g.P.Close()
	}
	if g.Keeper != nil {
		g.Keeper.Close()
	}
	if g.Listener != nil {
		g.Listener.Close()
	}
	g.closeObjects()
	RemoveCgroups(g.Cgroups)
	g.proc = nil
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
