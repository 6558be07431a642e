package keeper

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mosix/internal/abi"
	"mosix/internal/feature"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

const testBase = 0x6f000000

func start(t *testing.T, base uint32) *os.Process {
	t.Helper()
	feature.Need(t, feature.Root, feature.PIDNamespace, feature.MountNamespace, feature.NetNamespace, feature.IPCNamespace,
		feature.UTSNamespace, feature.UserNamespace, feature.PtraceSeize, feature.Pidfd, feature.SetTID)
	p, err := Start(stub.Load(), base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill(); _, _ = p.Wait() })
	return p
}

// field is a line of /proc/PID/status.
func field(t *testing.T, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `:[ \t]*(.*)$`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("there is no %s in /proc/%d/status", name, pid)
	}
	return string(m[1])
}

// settle waits until the keeper is in the pause of its entry.
func settle(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid)); err == nil && strings.HasPrefix(string(b), fmt.Sprintf("%d ", abi.SysPause)) {
			return
		}
	}
	t.Fatal("the keeper does not come to rest")
}

// TestWhatAKeeperIs: one thread, PID 1 of namespaces of its own, ids that nobody else has, and nothing of ours in it.
func TestWhatAKeeperIs(t *testing.T) {
	p := start(t, testBase)
	settle(t, p.Pid)
	if got := field(t, p.Pid, "Threads"); got != "1" {
		t.Errorf("it has %s threads", got)
	}
	if got := strings.Fields(field(t, p.Pid, "NSpid")); len(got) < 2 || got[len(got)-1] != "1" || got[0] != fmt.Sprint(p.Pid) {
		t.Errorf("its numbers are %v", got)
	}
	for _, name := range []string{"Uid", "Gid"} {
		if got, want := field(t, p.Pid, name), strings.TrimSpace(strings.Repeat(fmt.Sprintf("%d\t", testBase), 4)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := strings.TrimSpace(field(t, p.Pid, "Groups")); got != "" {
		t.Errorf("it is in the groups %q", got)
	}
	for _, ns := range []string{"user", "pid", "mnt", "net", "ipc", "uts"} {
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.Pid, ns))
		ours, err2 := os.Readlink("/proc/self/ns/" + ns)
		if err != nil || err2 != nil || its == ours {
			t.Errorf("its namespace %s is %s, ours %s, %v", ns, its, ours, errors.Join(err, err2))
		}
	}
	for _, f := range []string{"uid_map", "gid_map"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.Pid, f))
		if got, want := strings.Fields(string(b)), strings.Fields(fmt.Sprintf("0 %d 1 1 %d 1", testBase, testBase+1)); err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %v, %v, want %v", f, got, err, want)
		}
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Pid))
	if err != nil || len(env) != 0 {
		t.Errorf("its environment is %q, %v", env, err)
	}
	if sid := statField(t, p.Pid, 6); sid != fmt.Sprint(p.Pid) {
		t.Errorf("its session is %s: a signal to ours would reach it", sid)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if strings.HasPrefix(f[1], "rwx") || len(f) > 5 && strings.HasPrefix(f[5], "/") && !strings.Contains(f[5], "mosix-keeper") {
			t.Errorf("it has %s", strings.TrimSpace(line))
		}
	}
	var code [2]byte
	if _, err := kern.ReadVM(p.Pid, code[:], mem.Range{Start: SyscallAt(stub.Load()), End: SyscallAt(stub.Load()) + 2}); err != nil || code != [2]byte{0x0f, 0x05} {
		t.Errorf("at SyscallAt is %x, %v", code, err)
	}
}

// statField is a field of /proc/PID/stat, counted from 1.
func statField(t *testing.T, pid, n int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	return strings.Fields(s[strings.LastIndex(s, ")")+1:])[n-3]
}

// TestTwoKeepersAreApart: each has namespaces and ids of its own.
func TestTwoKeepersAreApart(t *testing.T) {
	a, b := start(t, testBase), start(t, testBase+2)
	if x, y := field(t, a.Pid, "Uid"), field(t, b.Pid, "Uid"); x == y {
		t.Errorf("both have the ids %s", x)
	}
	for _, ns := range []string{"user", "pid", "mnt", "net", "ipc", "uts"} {
		x, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", a.Pid, ns))
		y, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", b.Pid, ns))
		if x == y {
			t.Errorf("both are in %s", x)
		}
	}
}

// work is a keeper that was put to work.
type work struct {
	proc  *os.Process
	k     *stub.Keeper
	m     *stub.Member // the child's entry
	guest int          // its only child, as this machine numbers it
}

const guestTID = 4711 // as the child is numbered in the keeper's namespace

// employ gives the keeper a child that waits, or does what its registers are set to, a region and a lease, and lets both go.
func employ(t *testing.T, lease time.Duration, child func(*abi.Regs, *stub.Code)) work {
	t.Helper()
	p := start(t, testBase)
	w := work{proc: p}
	code := stub.Load()
	err := tracer.Run(func() error {
		k, err := tracer.Open(p.Pid, code)
		if err != nil {
			return err
		}
		defer k.Close()
		k.Options = kern.OptTraceClone | kern.OptTraceFork | kern.OptTraceVfork
		k.SetSyscall(SyscallAt(code))
		if err := k.SeizeAll(); err != nil {
			return err
		}
		l := k.Leader()
		if err := k.Plant(l, Base, 0); err != nil {
			return err
		}
		r := k.Region
		r.Header().State = stub.StateKeeper
		s := r.Scratch()
		put := func(off int, v uint64) {
			for i := range 8 {
				s[off+i] = byte(v >> (8 * i))
			}
		}
		clear(s[:256])
		put(32, abi.SIGCHLD)
		put(64, uint64(r.Addr(stub.ScratchOff+128)))
		put(72, 1)
		put(128, guestTID)
		out, err := l.Batch([]stub.Call{tracer.NewCall(abi.SysClone3, uint64(r.Addr(stub.ScratchOff)), 88)})
		if err != nil || out[0] != guestTID {
			return fmt.Errorf("clone3 returned %v, %w", out, err)
		}
		w.guest = k.NewTask
		c, err := tracer.Open(w.guest, code)
		if err != nil {
			return err
		}
		defer c.Close()
		ct, err := c.Adopt(w.guest)
		if err != nil {
			return err
		}
		ct.Regs.RIP, ct.Regs.OrigRAX = uint64(LoadAddr+codeOff+code.At.Entry), abi.NoCall
		if child != nil {
			child(&ct.Regs, code)
		}
		w.k = r.Keeper()
		*w.k = stub.Keeper{Deadline: uint64(kern.Now(kern.ClockBoottime) + int64(lease)), Set: abi.SigBit(abi.SIGCHLD),
			Timeout: [2]uint64{0, 20e6}, Count: 1}
		w.m = r.Member(0)
		*w.m = stub.Member{PID: guestTID, Deadline: ^uint64(0)} // so that it ends with the keeper, unless a test says otherwise
		l.Regs.RIP, l.Regs.R15, l.Regs.OrigRAX = uint64(r.At(code.At.Keeper)), uint64(r.Addr(stub.KeeperOff)), abi.NoCall
		l.Mask = abi.SigBit(abi.SIGCHLD)
		// The keeper first, as when a guest begins to run: while it is traced signals reach it that nobody else could send it.
		// The child was born with the mask of injected calls.
		if err := l.Release(); err != nil {
			return err
		}
		if err := errors.Join(kern.SetSigMask(ct.TID, 0), ct.Release()); err != nil && !kern.IsGone(err) { // a short lease is over already
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// end waits for the keeper's end, and says how it came.
func (w work) end(t *testing.T) syscall.WaitStatus {
	t.Helper()
	type result struct {
		st  *os.ProcessState
		err error
	}
	done := make(chan result, 1)
	go func() {
		st, err := w.proc.Wait()
		done <- result{st, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.st.Sys().(syscall.WaitStatus)
	case <-time.After(10 * time.Second):
		t.Fatal("the keeper does not end")
	}
	return 0
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d is still there", pid)
		}
	}
}

// TestLease: the keeper, and with it the guest, ends by itself when the lease does, and not before.
func TestLease(t *testing.T) {
	before := kern.Now(kern.ClockBoottime)
	const lease = 200 * time.Millisecond
	w := employ(t, lease, nil)
	if time.Duration(kern.Now(kern.ClockBoottime)-before) < lease && !alive(w.guest) {
		t.Error("the guest ended before its lease")
	}
	st := w.end(t)
	if took := time.Duration(kern.Now(kern.ClockBoottime) - before); took < lease {
		t.Errorf("the keeper ended after %v, the lease was %v", took, lease)
	}
	if !st.Exited() || st.ExitStatus() != 99 {
		t.Errorf("the keeper ended with %#x, want exit status 99", uint32(st))
	}
	gone(t, w.guest)
}

// TestLeaseIsRenewed: a later deadline is enough, and so is an earlier one.
func TestLeaseIsRenewed(t *testing.T) {
	w := employ(t, 300*time.Millisecond, nil)
	first := atomic.LoadUint64(&w.k.Deadline)
	atomic.StoreUint64(&w.k.Deadline, first+uint64(time.Hour))
	for uint64(kern.Now(kern.ClockBoottime)) < first+uint64(150*time.Millisecond) {
		time.Sleep(10 * time.Millisecond)
	}
	if !alive(w.proc.Pid) || !alive(w.guest) {
		t.Fatal("the lease was renewed, and the guest ended")
	}
	atomic.StoreUint64(&w.k.Deadline, 1)
	if st := w.end(t); !st.Exited() || st.ExitStatus() != 99 {
		t.Errorf("the keeper ended with %#x, want exit status 99", uint32(st))
	}
	gone(t, w.guest)
}

// TestLeaseOfOneMember: a guest ends with its own lease, and the keeper, which may have others, does not.
func TestLeaseOfOneMember(t *testing.T) {
	w := employ(t, time.Hour, nil)
	atomic.StoreUint64(&w.m.Deadline, uint64(kern.Now(kern.ClockBoottime)))
	if st := w.ended(t); st != abi.SIGKILL {
		t.Errorf("its status is %#x, want a death by signal 9", st)
	}
	gone(t, w.guest)
	if !alive(w.proc.Pid) {
		t.Error("the keeper ended with one of its guests")
	}
}

// TestKeeperGivesOutNumbers: what the agent asks for is written, once, whatever the keeper is at.
func TestKeeperGivesOutNumbers(t *testing.T) {
	w := employ(t, time.Hour, nil)
	w.k.LastPID = ^uint32(0) // no such descriptor: the answer is an error, and not silence
	for i := range uint32(20) {
		w.k.TextLen = uint32(copy(w.k.Text[:], "4711"))
		atomic.AddUint32(&w.k.Ask, 1)
		if err := kern.Kill(w.proc.Pid, abi.SIGCHLD); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(5 * time.Second); atomic.LoadUint32(&w.k.Answer) != i+1; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("question %d has no answer", i+1)
			}
		}
		if w.k.Asked != -int64(kern.EBADF) {
			t.Fatalf("question %d: %d", i+1, w.k.Asked)
		}
	}
}

// TestLeaseThatIsOver: a keeper that comes late, as after a suspend, looks at the lease before anything else.
func TestLeaseThatIsOver(t *testing.T) {
	w := employ(t, -time.Second, nil)
	if st := w.end(t); !st.Exited() || st.ExitStatus() != 99 {
		t.Errorf("the keeper ended with %#x, want exit status 99", uint32(st))
	}
	gone(t, w.guest)
}

// ended waits until the keeper has reaped the guest.
func (w work) ended(t *testing.T) uint32 {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); atomic.LoadUint32(&w.m.Ended) == 0; {
		if time.Now().After(end) {
			t.Fatal("the keeper does not reap its guest")
		}
		bell := atomic.LoadUint32(&w.k.Doorbell)
		if atomic.LoadUint32(&w.m.Ended) == 0 {
			kern.FutexWait(&w.k.Doorbell, bell, 100*time.Millisecond)
		}
	}
	return w.m.Status
}

// TestTheGuestsEnd: the keeper reaps the guest, keeps its status for whoever asks, and lives on until the lease is over.
func TestTheGuestsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		child func(*abi.Regs, *stub.Code)
		kill  int
		want  uint32
	}{
		"exit": {func(r *abi.Regs, code *stub.Code) {
			r.SetCall(abi.SysExitGroup, 7)
			r.RIP = uint64(SyscallAt(code))
		}, 0, 7 << 8},
		"killed":     {nil, abi.SIGKILL, abi.SIGKILL},
		"terminated": {nil, abi.SIGTERM, abi.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			w := employ(t, time.Hour, c.child)
			if c.kill != 0 {
				if err := kern.Kill(w.guest, c.kill); err != nil {
					t.Fatal(err)
				}
			}
			if got := w.ended(t); got != c.want {
				t.Errorf("the guest's status is %#x, want %#x", got, c.want)
			}
			if !alive(w.proc.Pid) {
				t.Error("the keeper ended with its guest: nobody could ask it any more")
			}
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", w.guest)); err == nil {
				t.Error("the guest is a zombie")
			}
		})
	}
}

// TestTheKeepersEndIsTheGuests: what kills the keeper kills its namespace.
func TestTheKeepersEndIsTheGuests(t *testing.T) {
	w := employ(t, time.Hour, nil)
	if err := w.proc.Kill(); err != nil {
		t.Fatal(err)
	}
	if st := w.end(t); !st.Signaled() || st.Signal() != syscall.SIGKILL {
		t.Errorf("the keeper ended with %#x", uint32(st))
	}
	gone(t, w.guest)
}

// TestNobodyInThereEndsTheKeeper: signals from its own namespace do nothing to PID 1.
func TestNobodyInThereEndsTheKeeper(t *testing.T) {
	for _, sig := range []uint64{abi.SIGTERM, abi.SIGKILL, abi.SIGSEGV, abi.SIGSTOP} {
		w := employ(t, time.Hour, func(r *abi.Regs, code *stub.Code) { // kill(1, sig) and then a trap, which ends the guest
			r.SetCall(abi.SysKill, 1, sig)
			r.RIP = uint64(SyscallAt(code))
		})
		if got := w.ended(t); got&0x7f != abi.SIGTRAP {
			t.Errorf("the guest's status is %#x, want a trap", got)
		}
		if !alive(w.proc.Pid) || statField(t, w.proc.Pid, 3) == "T" {
			t.Errorf("signal %d from the guest reached the keeper", sig)
		}
	}
}
