package kern_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mosix/internal/feature"
	"mosix/internal/kern"
	"mosix/internal/mem"
)

// memory is anonymous memory of this program, outside of what Go moves or collects, with its address.
func memory(t *testing.T, pages int) ([]byte, mem.Range) {
	t.Helper()
	b, err := syscall.Mmap(-1, 0, pages*mem.PageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(b) })
	_ = syscall.Madvise(b, syscall.MADV_NOHUGEPAGE) // where there are huge pages a touch would bring in more than one
	at := mem.Addr(reflect.ValueOf(b).Pointer())
	return b, mem.Range{Start: at, End: at + mem.Addr(len(b))}
}

// sleeper is a child that waits.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// TestMemoryOfAProcess reads and writes memory in more pieces than the kernel takes at once.
func TestMemoryOfAProcess(t *testing.T) {
	feature.Need(t, feature.ProcessVM)
	b, at := memory(t, 64)
	var rs []mem.Range
	want := make([]byte, 0, 3000*8)
	for i := range 3000 { // every other eight bytes, and empty ranges in between
		a := at.Start + mem.Addr(16*i)
		rs = append(rs, mem.Range{Start: a, End: a + 8}, mem.Range{Start: a, End: a})
		copy(b[16*i:], fmt.Sprintf("%08d", i))
		want = fmt.Appendf(want, "%08d", i)
	}
	got := make([]byte, len(want))
	if n, err := kern.ReadVM(os.Getpid(), got, rs...); err != nil || n != len(want) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes read, %v, want %d", n, err, len(want))
	}
	for i := range want {
		want[i] ^= 0x55
	}
	if n, err := kern.WriteVM(os.Getpid(), want, rs...); err != nil || n != len(want) {
		t.Errorf("%d bytes written, %v, want %d", n, err, len(want))
	}
	if n, err := kern.ReadVM(os.Getpid(), got, rs...); err != nil || n != len(want) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes read back, %v", n, err)
	}
	if b[8] != 0 || b[24] != 0 {
		t.Error("what lies between the ranges was written")
	}
	if n, err := kern.ReadVM(os.Getpid(), nil); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
}

// TestMemoryThatEnds: what was copied before the first page that is not there is counted, in the first call and in a later one.
func TestMemoryThatEnds(t *testing.T) {
	feature.Need(t, feature.ProcessVM)
	b, at := memory(t, 4)
	if err := syscall.Mprotect(b[2*mem.PageSize:3*mem.PageSize], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	n, err := kern.ReadVM(os.Getpid(), make([]byte, len(b)), at)
	if n != 2*mem.PageSize || !errors.Is(err, kern.EFAULT) {
		t.Errorf("%d bytes, %v, want %d and %v", n, err, 2*mem.PageSize, kern.EFAULT)
	}
	many := make([]mem.Range, 1500)
	for i := range many {
		many[i] = mem.Range{Start: at.Start, End: at.Start + 1}
	}
	many[1200] = mem.Range{Start: at.Start + 2*mem.PageSize, End: at.Start + 2*mem.PageSize + 1}
	if n, err := kern.ReadVM(os.Getpid(), make([]byte, len(many)), many...); n < 1024 || n > 1200 || !errors.Is(err, kern.EFAULT) {
		t.Errorf("%d of 1200 bytes, %v", n, err)
	}
	m, err := kern.OpenMem(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if n, err := m.WriteAt([]byte("past"), int64(at.Start)+2*mem.PageSize); n != 4 || err != nil {
		t.Errorf("/proc/PID/mem does not write where the process may not: %d, %v", n, err)
	}
}

// TestTheDeadAreGone: every mechanism says of a process that has ended that it has, and names itself.
func TestTheDeadAreGone(t *testing.T) {
	cmd := sleeper(t)
	pid := cmd.Process.Pid
	pidfd, err := kern.PidfdOpen(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	if ended, err := kern.PidfdWait(pidfd, 0); ended || err != nil {
		t.Errorf("it runs: %v, %v", ended, err)
	}
	if err := kern.Kill(pid, 9); err != nil {
		t.Fatal(err)
	}
	if ended, err := kern.PidfdWait(pidfd, 5*time.Second); !ended || err != nil {
		t.Errorf("it was killed: %v, %v", ended, err)
	}
	_ = cmd.Wait()
	if ended, err := kern.PidfdWait(pidfd, -1); !ended || err != nil {
		t.Errorf("it was reaped: %v, %v", ended, err)
	}
	for what, f := range map[string]func() error{
		"pidfd_open":        func() error { _, err := kern.PidfdOpen(pid); return err },
		"pidfd_getfd":       func() error { _, err := kern.PidfdGetfd(pidfd, 0, "x"); return err },
		"kill":              func() error { return kern.Kill(pid, 0) },
		"tgkill":            func() error { return kern.Tgkill(pid, pid, 0) },
		"process_vm_readv":  func() error { _, err := kern.ReadVM(pid, make([]byte, 1), mem.Range{Start: 1, End: 2}); return err },
		"process_vm_writev": func() error { _, err := kern.WriteVM(pid, make([]byte, 1), mem.Range{Start: 1, End: 2}); return err },
		"ptrace seize":      func() error { return kern.Seize(pid, 0) },
		"ptrace interrupt":  func() error { return kern.Interrupt(pid) },
		"ptrace getregs":    func() error { _, err := kern.GetRegs(pid); return err },
		"wait4":             func() error { _, _, err := kern.Wait(pid, 0); return err },
		"kcmp":              func() error { _, err := kern.SameMemory(os.Getpid(), pid); return err },
	} {
		if err := f(); !kern.IsGone(err) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if kern.IsGone(nil) || kern.IsGone(kern.EPERM) || !kern.IsGone(fmt.Errorf("wrapped: %w", kern.ECHILD)) {
		t.Error("IsGone does not know what is gone")
	}
}

// TestPidfdGetfd takes a descriptor of a child, which keeps it.
func TestPidfdGetfd(t *testing.T) {
	feature.Need(t, feature.Pidfd)
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	pidfd, err := kern.PidfdOpen(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	f, err := kern.PidfdGetfd(pidfd, 0, "its stdin")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ours, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	its, err := os.Stat(fmt.Sprintf("/proc/%d/fd/0", cmd.Process.Pid))
	if err != nil || !os.SameFile(ours, its) || f.Name() != "its stdin" {
		t.Errorf("%s is not its standard input: %v", f.Name(), err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("cat ended with %v", err)
	}
	if _, err := kern.PidfdGetfd(pidfd, 0, "x"); err == nil {
		t.Error("a descriptor of a process that has ended was opened")
	}
}

// TestMemfd: its size is for ever, and it says so.
func TestMemfd(t *testing.T) {
	f, err := kern.Memfd("kern-test", 2*mem.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !kern.Sealed(f) {
		t.Error("it is not sealed")
	}
	for _, n := range []int64{0, mem.PageSize, 3 * mem.PageSize} {
		if err := f.Truncate(n); err == nil {
			t.Errorf("its size was changed to %d", n)
		}
	}
	if err := kern.SizeAndSeal(f, 2*mem.PageSize); err == nil {
		t.Error("it was sealed twice")
	}
	plain, err := os.Create(filepath.Join(t.TempDir(), "plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if kern.Sealed(plain) {
		t.Error("a file that anybody can cut is sealed")
	}
	a, err := kern.Map(f, 2*mem.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	b, err := kern.Map(f, 2*mem.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	*kern.Word(a, 4), *kern.Long(a, 8) = 7, 1<<40
	if kern.Load32(b, 4) != 7 || kern.Load64(b, 8) != 1<<40 || b[4] != 7 {
		t.Error("two mappings of it differ")
	}
	if err := errors.Join(kern.Unmap(a), kern.Unmap(b)); err != nil {
		t.Error(err)
	}
}

// TestFutex: a sleeper wakes when it is woken, when its time is over, and does not sleep when the word has changed.
func TestFutex(t *testing.T) {
	var w uint32
	kern.FutexWait(&w, 1, -1) // it is not 1
	kern.FutexWait(&w, 0, time.Millisecond)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for atomic.LoadUint32(&w) == 0 {
			kern.FutexWait(&w, 0, -1)
		}
	}()
	time.Sleep(time.Millisecond)
	atomic.StoreUint32(&w, 1)
	kern.FutexWake(&w, 1)
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("the sleeper was not woken")
	}
}

func TestPollIn(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if in, hup := kern.PollIn(r, 0); in || hup {
		t.Errorf("an empty pipe: %v, %v", in, hup)
	}
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if in, hup := kern.PollIn(r, -1); !in || hup {
		t.Errorf("a full one: %v, %v", in, hup)
	}
	w.Close()
	if in, hup := kern.PollIn(r, -1); !in || !hup {
		t.Errorf("a full one whose other end is gone: %v, %v", in, hup)
	}
}

func TestSameMemory(t *testing.T) {
	feature.Need(t, feature.Kcmp)
	cmd := sleeper(t)
	for _, c := range []struct {
		a, b int
		want bool
	}{{os.Getpid(), os.Getpid(), true}, {os.Getpid(), cmd.Process.Pid, false}, {cmd.Process.Pid, cmd.Process.Pid, true}} {
		if got, err := kern.SameMemory(c.a, c.b); err != nil || got != c.want {
			t.Errorf("%d and %d: %v, %v", c.a, c.b, got, err)
		}
	}
}

func TestCached(t *testing.T) {
	f, err := kern.Cached("/dev/null")
	if err != nil || !f.IsDevice() || f.RdevMajor != 1 || f.RdevMinor != 3 {
		t.Errorf("/dev/null is %+v, %v", f, err)
	}
	p := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(p, p+".link"); err != nil {
		t.Fatal(err)
	}
	a, err := kern.Cached(p)
	b, err2 := kern.Cached(p + ".link")
	if err != nil || err2 != nil || a != b || a.IsDevice() || a.Nlink != 1 || a.UID != uint32(os.Getuid()) || a.Mode&0o777 != 0o600 {
		t.Errorf("a file is %+v, %v, by a link %+v, %v", a, err, b, err2)
	}
	if _, err := kern.Cached(p + ".none"); !errors.Is(err, kern.ENOENT) || !strings.Contains(err.Error(), ".none") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// uffd opens a userfaultfd of this program, prepared.
func uffd(t *testing.T) *os.File {
	t.Helper()
	feature.Need(t, feature.UffdWPAsync, feature.PagemapScan)
	const nr, cloexecNonblockUser = 323, 0x80000 | 0x800 | 1
	fd, _, e := syscall.Syscall(nr, cloexecNonblockUser, 0, 0)
	if e != 0 {
		t.Fatal(e)
	}
	f := os.NewFile(fd, "userfaultfd")
	t.Cleanup(func() { f.Close() })
	if err := kern.UffdOpen(f); err != nil {
		t.Fatal(err)
	}
	return f
}

func pagemap(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// pagesOf lists the pages of rs, counted from the start of r.
func pagesOf(r mem.Range, rs []kern.PageRegion) (out []int) {
	for _, x := range rs {
		for a := x.Start; a < x.End; a += mem.PageSize {
			out = append(out, int(a-r.Start)/mem.PageSize)
		}
	}
	return out
}

// TestScanPages finds what was written, once, whatever the room for answers.
func TestScanPages(t *testing.T) {
	u, pm := uffd(t), pagemap(t)
	for _, room := range []int{1, 2, 3, 4096} {
		b, r := memory(t, 600)
		buf := make([]kern.PageRegion, room)
		scan := func(armed bool) []int {
			t.Helper()
			rs, err := kern.ScanPages(pm, r, armed, buf)
			if err != nil {
				t.Fatal(err)
			}
			return pagesOf(r, rs)
		}
		write := func(pages ...int) {
			for _, p := range pages {
				b[p*mem.PageSize]++
			}
		}
		expect := func(what string, got []int, want ...int) {
			t.Helper()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("with room for %d, %s: %v, want %v", room, what, got, want)
			}
		}
		expect("untouched", scan(false))
		var even []int
		for p := 0; p < 600; p += 2 {
			even = append(even, p)
		}
		write(even...)
		expect("touched", scan(false), even...)
		if _, err := kern.ScanPages(pm, r, true, buf); !errors.Is(err, kern.EPERM) {
			t.Errorf("an area that is not armed: %v, want %v", err, kern.EPERM)
		}
		if err := kern.UffdRegister(u, r); err != nil {
			t.Fatal(err)
		}
		if got := scan(true); len(got) < len(even) {
			t.Errorf("%d pages were written before the area was armed, %d are reported", len(even), len(got))
		}
		expect("nothing more", scan(true))
		write(1, 2, 3, 300, 599)
		expect("written since", scan(true), 1, 2, 3, 300, 599)
		expect("and reported", scan(true))
		write(even...)
		expect("many", scan(true), even...)
	}
}

// TestUffdRefuses: an area that is not there cannot be armed, and the error says which.
func TestUffdRefuses(t *testing.T) {
	u := uffd(t)
	r := mem.Range{Start: 0x1000, End: 0x2000}
	if err := kern.UffdRegister(u, r); err == nil || !strings.Contains(err.Error(), "1000-2000") {
		t.Errorf("got %v", err)
	}
	if err := kern.UffdOpen(u); err == nil {
		t.Error("prepared twice")
	}
}
