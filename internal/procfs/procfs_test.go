package procfs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"mosix/internal/abi"
	"mosix/internal/mem"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     func(*testing.T, Stat)
	}{
		{"kernel thread", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 7 0 0 20 0 1 0 25 0 0 18446744073709551615 0 0 0 0 0 0 0 2147483647 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
			func(t *testing.T, s Stat) {
				if s.Flags&FlagKthread == 0 || s.PPID != 0 || s.TPGID != -1 || s.Start != 25 || s.STime != 7 || s.RSSLimitBytes != Unlimited {
					t.Errorf("%+v", s)
				}
			}},
		{"hostile name", "77 (a) R 1 (\n) 3) Z 10 20 30 34817 -1 4194304 1 2 3 4 5 6 -7 -8 -51 0 9 0 4711 8 9 10 11 12 13 14 15 0 0 0 0 0 0 0 17 3 50 1 2 3 4 5 6 7 8 9 10 11 256\n",
			func(t *testing.T, s Stat) {
				if s.PID != 77 || s.Comm != "a) R 1 (\n) 3" || s.State != 'Z' || s.PPID != 10 || s.PGRP != 20 || s.Session != 30 ||
					s.TTYMajor() != 136 || s.TTYMinor() != 1 || s.CUTime != -7 || s.Priority != -51 || s.Threads != 9 || s.Start != 4711 ||
					s.StartCode != 11 || s.StartStack != 13 || s.ExitSignal != 17 || s.Processor != 3 || s.RTPriority != 50 || s.Policy != SchedFIFO ||
					s.BlockIOTicks != 2 || s.StartData != 5 || s.ArgStart != 8 || s.EnvEnd != 11 || s.ExitCode != 256 {
					t.Errorf("%+v", s)
				}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseStat([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			c.want(t, s)
		})
	}
	for _, bad := range []string{"", "1", "1 (a", "1 )a(", "x (a) R 1", "1 (a) RR 1", "1 (a) R 1 2 3", "1 (a) R 1 2 x 3"} {
		if s, err := ParseStat([]byte(bad)); err == nil {
			t.Errorf("%q gave %+v", bad, s)
		}
	}
}

const statusText = "Name:\ta\\nUid:\\t0 \\\\x\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t41\nNgid:\t0\nPid:\t41\nPPid:\t40\nTracerPid:\t9\n" +
	"Uid:\t1000\t0\t0\t1000\nGid:\t1\t2\t3\t4\nFDSize:\t64\nGroups:\t4 24 1000 \nNStgid:\t41\t7\nNSpid:\t41\t7\nKthread:\t0\nVmPeak:\t    5004 kB\nVmSize:\t 4488 kB\n" +
	"VmRSS:\t2008 kB\nHugetlbPages:\t2048 kB\nThreads:\t3\nSigQ:\t1/96365\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000000002\nSigBlk:\t0000000000010000\nSigIgn:\t8000000000000000\nSigCgt:\t0000000000014002\n" +
	"CapInh:\t0000000000000000\nCapPrm:\t000001fffeffffff\nCapEff:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\nx86_Thread_features:\tshstk \nCpus_allowed_list:\t0-1\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t13\n"

func TestParseStatus(t *testing.T) {
	s, err := ParseStatus([]byte(statusText))
	if err != nil {
		t.Fatal(err)
	}
	want := Status{
		Name: "a\nUid:\\t0 \\x", Umask: 0o22, State: 'S', TGID: 41, PID: 41, PPID: 40, TracerPID: 9,
		UID: IDs{1000, 0, 0, 1000}, GID: IDs{1, 2, 3, 4}, Groups: []uint32{4, 24, 1000}, FDSize: 64,
		NSTGID: []int{41, 7}, NSPID: []int{41, 7}, HasVM: true,
		VMPeakBytes: 5004 << 10, VMSizeBytes: 4488 << 10, VMRSSBytes: 2008 << 10, HugetlbBytes: 2048 << 10,
		Threads: 3, SigQueued: 1, SigPnd: 1, ShdPnd: 2, SigBlk: 0x10000, SigIgn: 1 << 63, SigCgt: 0x14002,
		Caps: Caps{Permitted: 0x1fffeffffff, Effective: 0x400}, NoNewPrivs: true, Seccomp: 2, SeccompFilters: 3,
		ThreadFeatures: "shstk", CPUsAllowedList: "0-1", Voluntary: 12, Nonvoluntary: 13,
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	if s.InnerPID() != 7 {
		t.Errorf("inner pid %d", s.InnerPID())
	}
	for _, bad := range []string{"", "Pid:\t1\n", strings.Replace(statusText, "Uid:\t1000\t", "Uid:\t", 1),
		strings.Replace(statusText, "Seccomp:\t2", "Seccomp:\ttwo", 1), strings.Replace(statusText, "5004 kB", "5004 MB", 1),
		strings.Replace(statusText, "SigBlk:\t0000000000010000", "SigBlk:\t00000000000100000", 1)} {
		if _, err := ParseStatus([]byte(bad)); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestParseMaps(t *testing.T) {
	const text = "55966bb99000-55966bbc8000 r-xp 0002f000 fe:00 246999                     /usr/bin/my prog\n" +
		"7f30092c0000-7f3009313000 rw-s 00000000 00:01 1032                       /memfd:a b (deleted)\n" +
		"7f3009319000-7f3009326000 ---p 00000000 00:00 0 \n" +
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
	as, err := ParseMaps([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []Area{
		{Range: mem.Range{Start: 0x55966bb99000, End: 0x55966bbc8000}, Prot: abi.ProtRead | abi.ProtExec, Offset: 0x2f000, Dev: Dev{0xfe, 0}, Inode: 246999, Name: "/usr/bin/my prog"},
		{Range: mem.Range{Start: 0x7f30092c0000, End: 0x7f3009313000}, Prot: abi.ProtRead | abi.ProtWrite, Shared: true, Dev: Dev{0, 1}, Inode: 1032, Name: "/memfd:a b (deleted)"},
		{Range: mem.Range{Start: 0x7f3009319000, End: 0x7f3009326000}},
		{Range: mem.Range{Start: 0xffffffffff600000, End: 0xffffffffff601000}, Prot: abi.ProtExec, Name: "[vsyscall]"},
	}
	if !reflect.DeepEqual(as, want) {
		t.Errorf("got  %+v\nwant %+v", as, want)
	}
	if !as[1].Deleted() || as[1].Path() != "/memfd:a b" || as[0].Deleted() {
		t.Error("the mark of deletion is read wrongly")
	}
	for _, bad := range []string{"\n", "1000-2000", "1000-2000 rwxq 0 0:0 0", "2000-1000 r--p 0 0:0 0", "1000-2000 r--p 0 0:0", "1000-2000 r--p 0 0-0 0", "10000000000000000-2 r--p 0 0:0 0", "1000-2000 r--p 0 0:0 1x"} {
		if as, err := ParseMaps([]byte(bad)); err == nil {
			t.Errorf("%q gave %v", bad, as)
		}
	}
}

// Every line of this test's own maps and smaps is read, and both agree.
func TestOwnMaps(t *testing.T) {
	raw, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	as, err := ParseMaps(raw)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n"))
	if len(lines) != len(as) {
		t.Fatalf("%d areas of %d lines", len(as), len(lines))
	}
	for i, l := range lines {
		if got, want := as[i].String(), strings.Join(strings.Fields(string(l)), " "); got != want {
			t.Errorf("%q became %q", want, got)
		}
	}
	sm, err := Default.Smaps(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	flags := 0
	for _, s := range sm {
		if s.Flags.Has("rd") != s.Readable() || s.Flags.Has("wr") != s.Writable() || s.Flags.Has("ex") != s.Executable() {
			t.Errorf("%s: flags %q", s.Area.String(), s.Flags)
		}
		if s.Flags != "" {
			flags++
		}
	}
	if flags != len(sm) || flags == 0 {
		t.Errorf("%d of %d areas have flags", flags, len(sm))
	}
}

func TestParseAuxv(t *testing.T) {
	le := func(word int, vs ...uint64) []byte {
		var b []byte
		for _, v := range vs {
			for i := range word {
				b = append(b, byte(v>>(8*i)))
			}
		}
		return b
	}
	for _, c := range []struct {
		name string
		in   []byte
		is32 bool
		bad  bool
	}{
		{"64 bits", le(8, AtSysinfoEhdr, 0x7ffc0000, AtPhent, 56, 0, 0), false, false},
		{"i386", le(4, AtSysinfoEhdr, 0xf7f00000, AtPhent, 32, 0, 0), true, false},
		{"x32", le(8, AtSysinfoEhdr, 0xf7f00000, AtPhent, 32, 0, 0), true, false},
		{"kernel thread", nil, false, false},
		{"no end", le(8, AtPhent, 56), false, true},
		{"odd headers", le(8, AtPhent, 57, 0, 0), false, true},
		{"noise", []byte("abc"), false, true},
	} {
		a, err := ParseAuxv(c.in)
		if (err != nil) != c.bad || a.Class32 != c.is32 {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
	}
	if a, err := Default.Auxv(os.Getpid()); err != nil {
		t.Error(err)
	} else if v, ok := a.Get(AtPhent); !ok || v != 56 || a.Class32 {
		t.Errorf("own vector: %+v", a)
	}
}

func TestParseSmallFiles(t *testing.T) {
	check := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", what, got, err, want)
		}
	}
	cg, err := ParseCgroups([]byte("4:cpu,cpuacct:/a:b\n0::/user.slice\n"))
	check("cgroup", cg, []Cgroup{{4, []string{"cpu", "cpuacct"}, "/a:b"}, {0, nil, "/user.slice"}}, err)
	tm, err := ParseTimers([]byte("ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\nID: 3\nsignal: 14/0000000000000000\nnotify: none/pid.2634\nClockID: -2\n"))
	check("timers", tm, []Timer{{0, 60, 0x7fff86e452a8, "signal/pid.2634", 0}, {3, 14, 0, "none/pid.2634", -2}}, err)
	fi, err := ParseFDInfo([]byte("pos:\t12\nflags:\t02100002\nmnt_id:\t24\nino:\t3\nsigmask:\t0000000000004000\n"))
	check("fdinfo", fi, FDInfo{12, 0o2100002, 24, 3, map[string]string{"sigmask": "0000000000004000"}}, err)
	if !fi.Writable() {
		t.Error("O_RDWR cannot write")
	}
	ms, err := ParseMounts([]byte("22 1 0:21 / /proc rw,nosuid shared:12 master:1 - proc proc rw\n36 22 98:0 /mnt1 /mnt\\0402 rw - fuse.sshfs  rw\n"))
	check("mountinfo", ms[:1], []Mount{{22, 1, Dev{0, 21}, "/", "/proc", "proc", "proc"}}, err)
	check("mountinfo", []string{ms[1].Point, ms[1].FSType}, []string{"/mnt 2", "fuse.sshfs"}, nil)
	im, err := ParseIDMap([]byte("         0     100000      65536\n     65536       1000          1\n"))
	check("uid_map", im, []IDRange{{0, 100000, 65536}, {65536, 1000, 1}}, err)
	if !Mapped(im, 1000) || Mapped(im, 1001) || !Mapped(im, 165535) || Mapped(im, 165536) || Mapped([]IDRange{{0, 1<<32 - 1, 1}}, 1<<32-1) {
		t.Error("ids are mapped wrongly")
	}
	p, err := ParsePersonality([]byte("00440000\n"))
	check("personality", p, uint32(PersonalityReadImpliesExec|PersonalityNoRandomize), err)
	sh, err := ParseSysVShm([]byte("       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n" +
		"-559038737          5  1600                  4096 100   101      2     0     0     0     0 1 0 1 0 0\n"))
	check("sysvipc/shm", sh, []ShmSegment{{5, 0o1600, 4096, 2}}, err)
	if !sh[0].Doomed() {
		t.Error("a removed segment is not doomed")
	}
	cl, err := ParseCmdline([]byte("a\x00\x00b c\x00"))
	check("cmdline", cl, []string{"a", "", "b c"}, err)
	kind, ino, err := ParseNSLink("time:[4026531834]")
	check("ns", []any{kind, ino}, []any{"time", uint64(4026531834)}, err)
	ints, err := ParseInts([]byte("12 13 \n"))
	check("children", ints, []int{12, 13}, err)
	l, err := Default.Limits(os.Getpid())
	var rl syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_AS, &rl)
	check("limits", l[9].Soft, rl.Cur, err)
	_ = syscall.Getrlimit(3, &rl)
	check("limits", l[3].Soft, rl.Cur, err)
}

// What is read of a child agrees with what the test knows about it.
func TestLiveProcess(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd := exec.Command("cat")
	cmd.Stdin = r
	echo, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("needs cat: ", err)
	}
	r.Close()
	pid := cmd.Process.Pid
	// What cat repeats it has repeated after it had loaded its libraries: nothing in it changes any more.
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := echo.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	st, err := Default.Stat(pid)
	if err != nil || st.PID != pid || st.PPID != os.Getpid() || st.Start == 0 {
		t.Errorf("stat %+v, %v", st, err)
	}
	ss, err := Default.Status(pid)
	if err != nil || ss.PPID != os.Getpid() || !ss.UID.Same(uint32(os.Getuid())) || ss.InnerPID() == 0 {
		t.Errorf("status %+v, %v", ss, err)
	}
	if tids, err := Default.Tasks(pid); err != nil || !reflect.DeepEqual(tids, []int{pid}) {
		t.Errorf("tasks %v, %v", tids, err)
	}
	fds, err := Default.FDs(pid)
	if err != nil || len(fds) < 3 || fds[0].N != 0 || !strings.HasPrefix(fds[0].Link, "pipe:[") {
		t.Errorf("fds %v, %v", fds, err)
	}
	if fi, err := Default.FDInfo(pid, 0); err != nil || fi.Writable() {
		t.Errorf("fdinfo %+v, %v", fi, err)
	}
	ns, err := Default.Namespaces(pid)
	self, err2 := Default.SelfNamespaces()
	if err != nil || err2 != nil || ns != self || ns.User == 0 {
		t.Errorf("namespaces %+v and %+v: %v, %v", ns, self, err, err2)
	}
	if kids, err := Default.Children(os.Getpid(), os.Getpid()); err == nil && len(kids) > 0 {
		found := false
		for _, tid := range must(Default.Tasks(os.Getpid())) {
			k, _ := Default.Children(os.Getpid(), tid)
			for _, c := range k {
				found = found || c == pid
			}
		}
		if !found {
			t.Errorf("%d is no child of any thread", pid)
		}
	}

	dir := t.TempDir()
	if err := Record(Default, pid, dir); err != nil {
		t.Fatal(err)
	}
	rec := FS{Root: dir}
	if a, b := must(Default.Maps(pid)), must(rec.Maps(pid)); !reflect.DeepEqual(a, b) {
		t.Error("the recording has other maps")
	}
	if a, b := must(Default.FDs(pid)), must(rec.FDs(pid)); !reflect.DeepEqual(a, b) {
		t.Errorf("the recording has other descriptors: %v, %v", a, b)
	}
	if a, b := must(rec.Namespaces(pid)), must(rec.SelfNamespaces()); a != b || a != ns {
		t.Errorf("the recording has other namespaces: %v, %v", a, b)
	}
	u1, _, _ := Default.Owner(pid)
	u2, _, err := rec.Owner(pid)
	if u1 != u2 || err != nil {
		t.Errorf("the recording belongs to %d, not to %d: %v", u2, u1, err)
	}
	if rec.Live() || !Default.Live() {
		t.Error("a recording is taken for a kernel's /proc")
	}

	w.Close()
	_ = cmd.Wait()
	if _, err := Default.Stat(pid); !errors.Is(err, ErrGone) {
		t.Errorf("stat of a dead process: %v", err)
	}
	if _, err := Default.FDs(pid); !errors.Is(err, ErrGone) {
		t.Errorf("descriptors of a dead process: %v", err)
	}
	if _, err := Default.Read(os.Getpid(), "no-such-file"); err == nil || errors.Is(err, ErrGone) {
		t.Errorf("a file that does not exist: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The recordings in testdata are read to the end.
func TestRecordings(t *testing.T) {
	fs := FS{Root: "testdata/proc"}
	pids, err := fs.PIDs()
	if err != nil || len(pids) == 0 {
		t.Fatal("no recordings: ", err)
	}
	for _, pid := range pids {
		must(fs.Stat(pid))
		must(fs.Status(pid))
		must(fs.Maps(pid))
		if _, err := fs.Auxv(pid); err != nil && must(fs.Status(pid)).HasVM {
			t.Error(err)
		}
		must(fs.Cgroups(pid))
		must(fs.Limits(pid))
		must(fs.Timers(pid))
		must(fs.Namespaces(pid))
		must(fs.Tasks(pid))
	}
	if st := must(fs.Stat(2)); st.Flags&FlagKthread == 0 || must(fs.Status(2)).HasVM {
		t.Error("2 is not a kernel thread")
	}
}

func fuzz[T any](f *testing.F, parse func([]byte) (T, error), file string, seeds ...string) {
	dirs, _ := filepath.Glob("testdata/proc/*/" + file)
	for _, p := range dirs {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		v1, err1 := parse(b)
		if !bytes.Equal(in, b) {
			t.Fatal("the parser changes its input")
		}
		v2, err2 := parse(bytes.Clone(b))
		if (err1 == nil) != (err2 == nil) || !reflect.DeepEqual(v1, v2) {
			t.Fatalf("not the same twice: %+v %v, %+v %v", v1, err1, v2, err2)
		}
	})
}

func FuzzStat(f *testing.F)     { fuzz(f, ParseStat, "stat", "1 (a) b) R 1 2") }
func FuzzStatus(f *testing.F)   { fuzz(f, ParseStatus, "status", statusText) }
func FuzzSmaps(f *testing.F)    { fuzz(f, ParseSmaps, "smaps") }
func FuzzAuxv(f *testing.F)     { fuzz(f, ParseAuxv, "auxv") }
func FuzzCgroups(f *testing.F)  { fuzz(f, ParseCgroups, "cgroup") }
func FuzzLimits(f *testing.F)   { fuzz(f, ParseLimits, "limits") }
func FuzzMounts(f *testing.F)   { fuzz(f, ParseMounts, "mountinfo") }
func FuzzIDMap(f *testing.F)    { fuzz(f, ParseIDMap, "uid_map") }
func FuzzFDInfo(f *testing.F)   { fuzz(f, ParseFDInfo, "fdinfo/*") }
func FuzzInts(f *testing.F)     { fuzz(f, ParseInts, "task/*/children", "1 2 3", "1-2") }
func FuzzSysVShm(f *testing.F)  { fuzz(f, ParseSysVShm, "", "head\n1 2 600 4096 1 1 1\n") }
func FuzzCmdline(f *testing.F)  { fuzz(f, ParseCmdline, "cmdline") }
func FuzzPersonal(f *testing.F) { fuzz(f, ParsePersonality, "personality") }
func FuzzTimers(f *testing.F) {
	fuzz(f, ParseTimers, "timers", "ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: -6\n")
}

// What maps says, written again, says the same.
func FuzzMaps(f *testing.F) {
	files, _ := filepath.Glob("testdata/proc/*/maps")
	for _, p := range files {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		as, err := ParseMaps(b)
		if err != nil {
			return
		}
		var again bytes.Buffer
		for i := range as {
			if as[i].Len() == 0 {
				t.Fatalf("empty area %v", as[i])
			}
			again.WriteString(as[i].String() + "\n")
		}
		bs, err := ParseMaps(again.Bytes())
		if err != nil || !reflect.DeepEqual(as, bs) {
			t.Fatalf("%q gave %+v, again %+v, %v", b, as, bs, err)
		}
	})
}

func BenchmarkParseMaps(b *testing.B) {
	line := "7f30092c0000-7f3009313000 rw-p 00000000 fe:00 326269                     /usr/lib/x86_64-linux-gnu/libc.so.6\n"
	text := []byte(strings.Repeat(line, 5000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := ParseMaps(text); err != nil {
			b.Fatal(err)
		}
	}
}
