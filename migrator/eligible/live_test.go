package eligible

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"mosix/internal/procfs"
)

// victimUID is the ordinary user that root's tests run their victims as.
const victimUID = 64321

func ownVDSO(t testing.TB) []byte {
	areas, err := procfs.Default.Maps(os.Getpid())
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	r, ok := vdsoRange(areas)
	if !ok {
		return nil
	}
	f, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, r.Len())
	if _, err := f.ReadAt(b, int64(r.Start)); err != nil {
		t.Fatal(err)
	}
	return b
}

// The build id found in memory is the one that a vDSO on disk would have: file(1)-like tools read the same note.
func TestVDSO(t *testing.T) {
	id, err := LocalVDSO()
	if err != nil || len(id) != 40 {
		t.Fatalf("%q, %v", id, err)
	}
	b := ownVDSO(t)
	again, err := BuildID(b)
	if err != nil || again != id {
		t.Errorf("%q, %v", again, err)
	}
	for n := range b { // cut anywhere, it does not panic
		if short, err := BuildID(b[:n]); err == nil && short != id {
			t.Fatalf("%d bytes give %q", n, short)
		}
	}
}

var victimDir string // readable by everybody

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		ordinaryGoProgram()
		return
	}
	dir, err := os.MkdirTemp("", "eligible")
	if err != nil {
		panic(err)
	}
	_ = os.Chmod(dir, 0o755)
	victimDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build compiles testdata/victim.c once.
func build(t testing.TB) string {
	t.Helper()
	path := filepath.Join(victimDir, "victim")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("needs a C compiler (cc)")
	}
	if out, err := exec.Command("cc", "-O1", "-pthread", "-o", path, "testdata/victim.c").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

type victim struct {
	pid   int // the process to look at
	lines []string
	out   *bufio.Reader
}

// start runs the victim as an ordinary user where that is possible, and waits until it is ready.
func start(t testing.TB, asRoot bool, path string, args ...string) victim {
	t.Helper()
	cmd := exec.Command(path, args...)
	if os.Getuid() == 0 && !asRoot {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: victimUID, Gid: victimUID}}
	}
	if asRoot && os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	v := victim{out: bufio.NewReader(out)}
	for {
		line, err := v.out.ReadString('\n')
		line = strings.TrimSuffix(line, "\n")
		if err != nil {
			t.Fatalf("%s %v ended before it was ready: %v", path, args, err)
		}
		if why, ok := strings.CutPrefix(line, "cannot "); ok {
			t.Skip("this kernel, or this user, cannot ", why)
		}
		if n, ok := strings.CutPrefix(line, "ready "); ok {
			if v.pid, err = strconv.Atoi(n); err != nil {
				t.Fatal(err)
			}
			return v
		}
		v.lines = append(v.lines, line)
	}
}

func gather(t testing.TB, pid int, thorough bool) Facts {
	t.Helper()
	f, err := Gather(procfs.Default, pid, Options{Thorough: thorough})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func ordinary() Asker {
	if os.Getuid() == 0 {
		return Asker{UID: victimUID, GID: victimUID}
	}
	return Asker{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
}

// Real processes, each with one property, and the reasons that must come of it. An agent that is not root cannot look at
// undumpable processes or at all others, so most of it runs as root only.
func TestLive(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: the agent looks at other users' processes")
	}
	path := build(t)
	open := filepath.Join(victimDir, "open")
	if err := os.MkdirAll(open, 0o777); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(open, 0o777)
	file := filepath.Join(open, "shared")
	const thoroughOnly = true

	for _, c := range []struct {
		mode     string
		arg      string
		asRoot   bool
		thorough bool // seen only by a thorough look
		want     []string
	}{
		{mode: "plain"},
		{mode: "plain", asRoot: true},
		{mode: "seccomp", want: []string{Seccomp}},
		{mode: "seccomp-thread", want: []string{Seccomp}},
		{mode: "undumpable", want: []string{Undumpable}},
		{mode: "traced", want: []string{Traced}},
		{mode: "shared-anon-alone"},
		{mode: "shared-anon-child", want: []string{SharedMemory}},
		{mode: "shared-anon-was"},
		{mode: "memfd-alone"},
		{mode: "memfd-open"},
		{mode: "memfd-twice"},
		{mode: "memfd-split"},
		{mode: "memfd-child-fd", want: []string{SharedMemory}},
		{mode: "sysv", want: []string{SharedMemory}},
		{mode: "sysv-removed"},
		{mode: "file-write", arg: file, want: []string{SharedMemory}},
		{mode: "file-read", arg: file},
		{mode: "file-read-writer", arg: file, want: []string{SharedMemory}},
		{mode: "file-own-writer", arg: file, want: []string{AliasedMemory}},
		{mode: "file-unlinked", arg: file},
		{mode: "file-unlinked", arg: file + " (deleted)"},
		{mode: "file-write", arg: file + " (deleted)", want: []string{SharedMemory}},
		{mode: "file-readonly-system", arg: "/etc/passwd"},
		{mode: "zero"},
		{mode: "device", arg: "/dev/loop0", asRoot: true, want: []string{DeviceMapping}},
		{mode: "io_uring", want: []string{IOUring}},
		{mode: "aio", want: []string{AIO}},
		{mode: "perf", want: []string{Perf}},
		{mode: "userfaultfd", want: []string{Userfaultfd}},
		{mode: "signalfd"},
		{mode: "cpu-timer", want: []string{CPUTimer}},
		{mode: "hugetlb", want: []string{HugePages}},
		{mode: "secret", want: []string{SecretMemory}},
		{mode: "sealed", thorough: thoroughOnly, want: []string{SealedMemory}},
		{mode: "pkey", thorough: thoroughOnly, want: []string{ProtectionKey}},
		{mode: "exec-only"},
		{mode: "realtime", asRoot: true, want: []string{Realtime}},
		{mode: "personality", want: []string{Personality}},
		{mode: "time-namespace", asRoot: true, want: []string{TimeNamespace}},
		{mode: "user-namespace", want: []string{Privileged, NotTraceable}},
		{mode: "pid-namespace", asRoot: true, want: []string{Init}},
		{mode: "vfork", want: []string{SharedSpace}},
		{mode: "leader-ended", want: []string{LeaderEnded}},
		{mode: "zombie", want: []string{Ended}},
	} {
		t.Run(c.mode+filepath.Base(c.arg), func(t *testing.T) {
			args := []string{c.mode}
			if c.arg != "" {
				args = append(args, c.arg)
			}
			v := start(t, c.asRoot, path, args...)
			asker := ordinary()
			if c.asRoot {
				asker = Asker{Root: true, AllowPrivileged: true}
			}
			local, err := LocalTarget("here")
			if err != nil {
				t.Fatal(err)
			}
			for _, thorough := range []bool{false, true} {
				f := gather(t, v.pid, thorough)
				want := c.want
				if c.thorough && !thorough {
					want = nil
				}
				wantWords(t, Judge(f, asker, local), want...)
			}
		})
	}
}

// The second process of a PID namespace has a number of its own there, which is what the target must be able to give.
func TestInnerNumber(t *testing.T) {
	path := build(t)
	v := start(t, true, path, "pid-namespace")
	f := gather(t, v.pid, true)
	if n := f.Status.InnerPID(); n != 1 {
		t.Errorf("process 1 calls itself %d", n)
	}
	kids, err := procfs.Default.Children(f.Stat.PPID, f.Stat.PPID)
	if err != nil {
		t.Skip("this kernel does not list children: ", err)
	}
	for _, pid := range kids {
		if pid == v.pid {
			continue
		}
		f := gather(t, pid, false)
		if n := f.Status.InnerPID(); n != 2 {
			t.Errorf("the second process calls itself %d", n)
		}
		root := Asker{Root: true, AllowPrivileged: true}
		wantWords(t, Judge(f, root, &Target{PIDMax: 3, CPU: f.CPU, VDSOBuildID: f.VDSOBuildID}), PIDNamespace)
		wantWords(t, Judge(f, root, &Target{PIDMax: 2, CPU: f.CPU, VDSOBuildID: f.VDSOBuildID}), PIDMax, PIDNamespace)
	}
}

// Of two processes that live in one address space, neither can move.
func TestVforkChild(t *testing.T) {
	v := start(t, false, build(t), "vfork")
	kids, err := procfs.Default.Children(v.pid, v.pid)
	if err != nil || len(kids) != 1 {
		t.Skip("this kernel does not list children: ", err)
	}
	for _, thorough := range []bool{false, true} {
		wantWords(t, Judge(gather(t, kids[0], thorough), ordinary(), nil), SharedSpace)
	}
}

func TestSetUIDProgram(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	b, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mode     os.FileMode
		uid, gid int
		want     []string // for the user who started it
		root     []string // for root, who allows privileged processes
	}{
		"of root":         {0o755 | os.ModeSetuid, 0, 0, []string{NotTraceable, Privileged, SetID}, []string{SetID}},
		"of another user": {0o755 | os.ModeSetuid, 64322, 64322, []string{NotTraceable, SetID, Undumpable}, []string{SetID, Undumpable}},
		"of a group":      {0o755 | os.ModeSetgid, 0, 64322, []string{NotTraceable, SetID, Undumpable}, []string{SetID, Undumpable}},
		// A program whose file its user may run and not read is not dumpable either.
		"unreadable": {0o711, 0, 0, []string{Undumpable}, []string{Undumpable}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(victimDir, "setid"+strings.ReplaceAll(name, " ", "-"))
			if err := os.WriteFile(path, b, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(path, c.uid, c.gid); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			v := start(t, false, path, "plain")
			f := gather(t, v.pid, true)
			if c.mode&(os.ModeSetuid|os.ModeSetgid) != 0 && f.Status.UID.Same(victimUID) && f.Status.GID.Same(victimUID) {
				t.Skip("the folder for temporary files is mounted nosuid")
			}
			wantWords(t, Judge(f, ordinary(), nil), c.want...)
			wantWords(t, Judge(f, Asker{Root: true, AllowPrivileged: true}, nil), c.root...)
		})
	}
}

func TestOtherUsersProcess(t *testing.T) {
	path := build(t)
	v := start(t, false, path, "plain")
	f := gather(t, v.pid, false)
	if os.Getuid() == 0 {
		wantWords(t, Judge(f, Asker{UID: 1000, GID: 1000}, nil), NotTraceable)
	}
	wantWords(t, Judge(f, ordinary(), nil))

	r := start(t, true, path, "plain")
	f = gather(t, r.pid, false)
	wantWords(t, Judge(f, ordinary(), nil), NotTraceable, Privileged)
	wantWords(t, Judge(f, Asker{Root: true}, nil), Privileged)
	wantWords(t, Unfit(f, Activity{}), Privileged, Young, Idle)
}

// A program of 32 bits, without any library: it writes its number and waits.
func Test32Bits(t *testing.T) {
	build(t)
	const source = `.globl _start
_start: movl $4,%eax
	movl $1,%ebx
	movl $msg,%ecx
	movl $8,%edx
	int $0x80
	movl $3,%eax
	movl $0,%ebx
	movl $buf,%ecx
	movl $1,%edx
	int $0x80
	movl $1,%eax
	int $0x80
.data
msg: .ascii "ready 0\n"
buf: .byte 0
.section .note.GNU-stack,"",@progbits
`
	src, path := filepath.Join(victimDir, "v32.S"), filepath.Join(victimDir, "v32")
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-m32", "-nostdlib", "-static", "-no-pie", "-o", path, src).CombinedOutput(); err != nil {
		t.Skipf("cc cannot make programs of 32 bits: %s", out)
	}
	cmd := exec.Command(path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Skip("this kernel does not run programs of 32 bits: ", err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Skipf("this kernel does not run programs of 32 bits: %q, %v", line, err)
	}
	asker := ordinary()
	if os.Getuid() == 0 {
		asker = Asker{Root: true, AllowPrivileged: true}
	}
	wantWords(t, Judge(gather(t, cmd.Process.Pid, false), asker, nil), Bits32)
}

// Looking at a process leaves it alone: none of its threads wakes up, none of the calls that they wait in returns. The calls
// are those that a mere stop would end, and some that it would not.
func TestNotDisturbed(t *testing.T) {
	v := start(t, false, build(t), "blockers")
	const threads = 9
	switches := func() map[int]uint64 {
		tids, err := procfs.Default.Tasks(v.pid)
		if err != nil {
			t.Fatal(err)
		}
		m := map[int]uint64{}
		for _, tid := range tids {
			s, err := procfs.Default.TaskStatus(v.pid, tid)
			if err != nil {
				t.Fatal(err)
			}
			if s.TracerPID != 0 {
				t.Errorf("thread %d is traced by %d", tid, s.TracerPID)
			}
			if s.State != 'S' {
				return nil
			}
			m[tid] = s.Voluntary + s.Nonvoluntary
		}
		return m
	}
	var before map[int]uint64
	for len(before) != threads { // until all wait
		before = switches()
	}
	for range 100 {
		f := gather(t, v.pid, true)
		_ = Judge(f, ordinary(), nil)
		_ = gather(t, v.pid, false)
	}
	if after := switches(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("threads ran: switches %v before, %v after", before, after)
	}
	if n := v.out.Buffered(); n > 0 {
		b, _ := v.out.Peek(n)
		t.Errorf("calls returned: %q", b)
	}
}

func TestGone(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Skip("needs true: ", err)
	}
	if _, err := Gather(procfs.Default, cmd.Process.Pid, Options{}); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("a dead process: %v", err)
	}
	// A thread is no process, although /proc answers for it.
	tids, err := procfs.Default.Tasks(os.Getpid())
	if err != nil || len(tids) < 2 {
		t.Skip("this test has one thread")
	}
	tid := tids[slices.IndexFunc(tids, func(n int) bool { return n != os.Getpid() })]
	if _, err := Gather(procfs.Default, tid, Options{}); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("a thread: %v", err)
	}
}

// The agent is no candidate, and a process never counts the agent's mapping of its shadow region as somebody else's.
func TestAgentItself(t *testing.T) {
	f := gather(t, os.Getpid(), false)
	if ws := words(Judge(f, Asker{Root: true, AllowPrivileged: true}, nil)); !slices.Contains(ws, Agent) {
		t.Errorf("the agent could move itself: %q", ws)
	}
	v := start(t, false, build(t), "shared-anon-child")
	if os.Getuid() != 0 {
		return
	}
	kids, err := procfs.Default.Children(v.pid, v.pid)
	if err != nil || len(kids) != 1 {
		t.Skip("this kernel does not list children: ", err)
	}
	f, err = Gather(procfs.Default, v.pid, Options{Agent: kids[0]})
	if err != nil {
		t.Fatal(err)
	}
	wantWords(t, Judge(f, ordinary(), nil))
}

func BenchmarkGather(b *testing.B) {
	v := start(b, false, build(b), "plain")
	for _, thorough := range []bool{false, true} {
		b.Run(fmt.Sprintf("thorough=%v", thorough), func(b *testing.B) {
			for b.Loop() {
				_ = gather(b, v.pid, thorough)
			}
		})
	}
	s := start(b, false, build(b), "memfd-alone")
	b.Run("shared memory", func(b *testing.B) {
		for b.Loop() {
			_ = gather(b, s.pid, false)
		}
	})
}
