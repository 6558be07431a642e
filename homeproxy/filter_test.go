package homeproxy

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// run interprets a program over struct seccomp_data as the kernel does. It fails the test on any word that a filter of ours
// must not look at.
func run(t interface{ Fatalf(string, ...any) }, prog []SockFilter, arch, nr uint32, args [6]uint64) uint32 {
	var acc uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		switch in.Code {
		case bpfLdAbs:
			switch {
			case in.K == dataNr:
				acc = nr
			case in.K == dataArch:
				acc = arch
			case in.K >= dataArgs && in.K < dataArgs+48 && in.K%4 == 0:
				off := in.K - dataArgs
				acc = uint32(args[off/8] >> (8 * (off % 8)))
			default:
				t.Fatalf("instruction %d loads offset %d: a filter looks at the number, the architecture and the arguments only", pc, in.K)
			}
		case bpfAnd:
			acc &= in.K
		case bpfJA:
			pc += int(in.K)
		case bpfJeq:
			pc += choose(acc == in.K, in)
		case bpfJge:
			pc += choose(acc >= in.K, in)
		case bpfRet:
			return in.K
		default:
			t.Fatalf("instruction %d has code %#x", pc, in.Code)
		}
	}
	t.Fatalf("the program ran off its end")
	return 0
}

func choose(cond bool, in SockFilter) int {
	if cond {
		return int(in.Jt)
	}
	return int(in.Jf)
}

// interesting draws arguments that hit and nearly hit the conditions of r.
func interesting(t *rapid.T, r *Row) [6]uint64 {
	var args [6]uint64
	for i := range args {
		pool := []uint64{0, 1, ^uint64(0), 0xffffffff, 1 << 32}
		for _, rule := range r.Rules {
			for _, c := range rule.Conds {
				if int(c.Arg) == i {
					for _, v := range c.Vals {
						pool = append(pool, v, v|^c.Mask, v^1, v|1<<40, v|1<<18, v|1<<13, v|1<<15)
					}
				}
			}
		}
		if int(r.By) == i {
			for _, s := range r.Subs {
				pool = append(pool, uint64(s.Sel), uint64(s.Sel)|1<<32, uint64(s.Sel)+1)
			}
		}
		if rapid.IntRange(0, 4).Draw(t, "random") == 0 {
			args[i] = rapid.Uint64().Draw(t, "arg")
		} else {
			args[i] = rapid.SampledFrom(pool).Draw(t, "arg")
		}
	}
	return args
}

func TestFilterSaysWhatClassifySays(t *testing.T) {
	prog := Filter(FilterOptions{})
	for i := range table {
		r := &table[i]
		t.Run(r.Name, rapid.MakeCheck(func(t *rapid.T) {
			args := interesting(t, r)
			want := uint32(RetNotify)
			if r.Classify(args) == Guest {
				want = RetAllow
			}
			if got := run(t, prog, ArchAMD64, r.Nr, args); got != want {
				t.Fatalf("%s%#x: the filter returns %#x, Classify says %v", r.Name, args, got, r.Classify(args))
			}
		}))
	}
}

func TestFilterDefaults(t *testing.T) {
	prog := Filter(FilterOptions{})
	if len(prog) > maxInsns {
		t.Fatalf("%d instructions, the kernel takes %d", len(prog), maxInsns)
	}
	for nr := uint32(0); nr < 2048; nr++ {
		if Lookup(nr) == &unknown {
			if got := run(t, prog, ArchAMD64, nr, [6]uint64{}); got != RetNotify {
				t.Errorf("the unknown call %d gets %#x, not a notification", nr, got)
			}
		}
	}
	if got := run(t, prog, 0x40000003, 202, [6]uint64{}); got != RetNotify {
		t.Errorf("a call of i386 gets %#x", got)
	}
	for _, nr := range []uint32{x32Bit, x32Bit | 202, ^uint32(0)} {
		if got := run(t, prog, ArchAMD64, nr, [6]uint64{}); got != RetNoSys {
			t.Errorf("call %#x gets %#x, not ENOSYS", nr, got)
		}
	}
}

// TestWeakenedRowIsCaught shows that the comparison of TestFilterSaysWhatClassifySays notices every row that lets through
// more than the table says, and the audit below every class that was raised to Guest.
func TestWeakenedRowIsCaught(t *testing.T) {
	for i := range table {
		if table[i].canBe(Guest) && len(table[i].Rules) == 0 && len(table[i].Subs) == 0 {
			continue
		}
		weak := append([]Row(nil), table...)
		weak[i].Class, weak[i].Rules, weak[i].Subs, weak[i].By = Guest, nil, nil, -1
		prog := filterOf(weak, FilterOptions{})
		caught := false
		ones := [6]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
		tries := [][6]uint64{{}, ones}
		for _, rule := range table[i].Rules { // what it says of some arguments only
			args := ones
			for _, c := range rule.Conds {
				args[c.Arg] = c.Vals[0]
			}
			tries = append(tries, args)
		}
		for _, args := range tries {
			if run(t, prog, ArchAMD64, table[i].Nr, args) == RetAllow && table[i].Classify(args) != Guest {
				caught = true
			}
		}
		if !caught {
			t.Errorf("%s weakened to Guest goes unnoticed", table[i].Name)
		}
	}
}

// TestGuestRows repeats by hand which calls may run natively on a host. A row that becomes Guest must be added here too, by
// somebody who has asked what it reaches beyond the caller's own memory and threads.
func TestGuestRows(t *testing.T) {
	whole := strings.Fields(`mprotect munmap brk rt_sigprocmask rt_sigreturn sched_yield msync mincore pause getpid rt_sigsuspend
		sigaltstack gettid futex set_tid_address set_robust_list getcpu getrandom rseq futex_waitv futex_wake futex_wait futex_requeue`)
	partly := strings.Fields(`mmap madvise getitimer setitimer prctl arch_prctl clock_gettime clock_getres get_robust_list membarrier`)
	for i := range table {
		r := &table[i]
		if got := r.Class == Guest; got != has(whole, r.Name) {
			t.Errorf("%s: class Guest is %v", r.Name, got)
		}
		if got := r.canBe(Guest) && r.Class != Guest; got != has(partly, r.Name) {
			t.Errorf("%s: Guest for some arguments is %v", r.Name, got)
		}
	}
}

func has(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestClassByArgument(t *testing.T) {
	for _, c := range []struct {
		nr   uint32
		args [6]uint64
		want Class
	}{
		{9, [6]uint64{0, 4096, 3, 0x22, ^uint64(0)}, Guest},
		{9, [6]uint64{0, 4096, 3, 0x20022, ^uint64(0)}, Guest},
		{9, [6]uint64{0, 4096, 3, 0x4022, 0}, Guest},
		{9, [6]uint64{0, 4096, 3, 0x21, ^uint64(0)}, ComeHome},    // shared anonymous
		{9, [6]uint64{0, 4096, 3, 0x02, 3}, Both},                 // a file
		{9, [6]uint64{0, 4096, 1, 0x01, 3}, Both},                 // shared, for reading
		{9, [6]uint64{0, 4096, 3, 0x01, 3}, Both},                 // shared, for writing: home says no, or it comes home
		{9, [6]uint64{0, 4096, 1, 0x03, 3}, ComeHome},             // MAP_SHARED_VALIDATE
		{9, [6]uint64{0, 4096, 1, 0x2002, 3}, ComeHome},           // a file, MAP_LOCKED
		{9, [6]uint64{0, 4096, 3, 0x8022, ^uint64(0)}, Guest},     // MAP_POPULATE
		{9, [6]uint64{0, 4096, 3, 0x40022, ^uint64(0)}, ComeHome}, // MAP_HUGETLB
		{9, [6]uint64{0, 4096, 3, 0x2022, ^uint64(0)}, ComeHome},  // MAP_LOCKED
		{9, [6]uint64{0, 4096, 3, 0x22 | 1<<35, 3}, ComeHome},     // bits that no kernel knows
		{28, [6]uint64{0, 4096, 4}, Guest},                        // MADV_DONTNEED
		{28, [6]uint64{0, 4096, 12}, ComeHome},                    // MADV_MERGEABLE
		{28, [6]uint64{0, 4096, 4 | 7<<32}, Guest},                // the kernel looks at 32 bits
		{228, [6]uint64{1}, Guest},
		{228, [6]uint64{0}, Both},
		{228, [6]uint64{2}, Both},
		{228, [6]uint64{0xfffffff6}, Both}, // the CPU time of a process
		{228, [6]uint64{0xfffffffb}, Home}, // a device
		{230, [6]uint64{0xfffffff6}, ComeHome},
		{158, [6]uint64{0x1002}, Guest},
		{158, [6]uint64{0x1012}, ComeHome},
		{324, [6]uint64{8}, Guest},
		{324, [6]uint64{1}, ComeHome},
		{157, [6]uint64{0x53564d41, 0}, Guest},
		{157, [6]uint64{0x53564d41, 1}, ComeHome},
		{157, [6]uint64{15}, Both},
		{157, [6]uint64{22}, ComeHome},
		{38, [6]uint64{0}, Home},
		{38, [6]uint64{2}, Guest},
		{36, [6]uint64{1}, Guest},
		{222, [6]uint64{1}, Home},
		{222, [6]uint64{2}, ComeHome},
		{16, [6]uint64{0, 0x5401}, Home},
		{16, [6]uint64{0, 0xc0104320}, ComeHome},
		{44, [6]uint64{3, 0, 0, msgZerocopy | 0x4000}, ComeHome},
		{302, [6]uint64{0, 3, 0, 1}, Home},
		{302, [6]uint64{0, 3, 1, 0}, Both},
		{144, [6]uint64{0, 0}, Home},
		{144, [6]uint64{0, 1}, ComeHome},      // SCHED_FIFO
		{144, [6]uint64{0, 3 | 1<<30}, Home},  // SCHED_BATCH, not inherited
		{135, [6]uint64{0xffffffff}, Home},    // asks
		{135, [6]uint64{0x0040000}, Home},     // ADDR_NO_RANDOMIZE
		{135, [6]uint64{0x0440000}, ComeHome}, // and READ_IMPLIES_EXEC
		{157, [6]uint64{4, 1}, Home},          // PR_SET_DUMPABLE
		{157, [6]uint64{4, 0}, ComeHome},      // hides its memory: may not be away
		{105, [6]uint64{0}, Home},
		{272, [6]uint64{0x200}, Home},          // CLONE_FS
		{272, [6]uint64{0x10000000}, ComeHome}, // CLONE_NEWUSER
		{317, [6]uint64{2}, Home},
		{317, [6]uint64{1}, ComeHome}, // a filter
		{302, [6]uint64{0, 7, 1, 0}, Home},
		{202, [6]uint64{}, Guest},
		{56, [6]uint64{}, Both},
		{59, [6]uint64{}, Both},
		{101, [6]uint64{}, ComeHome},
		{174, [6]uint64{}, Refuse},
		{5000, [6]uint64{}, ComeHome},
	} {
		if got := Lookup(c.nr).Classify(c.args); got != c.want {
			t.Errorf("%s%#x is %v, want %v", Lookup(c.nr).Name, c.args, got, c.want)
		}
	}
}

func TestNotifyOption(t *testing.T) {
	prog := Filter(FilterOptions{Notify: []uint32{228}})
	if got := run(t, prog, ArchAMD64, 228, [6]uint64{1}); got != RetNotify {
		t.Errorf("clock_gettime gets %#x although it is to be notified", got)
	}
	if got := run(t, prog, ArchAMD64, 39, [6]uint64{}); got != RetAllow {
		t.Errorf("getpid gets %#x", got)
	}
}

// TestFarJumps assembles a program whose ends are farther apart than eight bits reach.
func TestFarJumps(t *testing.T) {
	rows := make([]Row, 0, 300)
	for nr := uint32(0); nr < 300; nr++ {
		rows = append(rows, row(ComeHome, nr, "call", nil).rule(Guest, is(1, uint64(nr), 7), bits(2, ^uint64(0xff), 5<<32)))
	}
	prog := filterOf(rows, FilterOptions{})
	for nr := uint32(0); nr < 310; nr++ {
		for _, args := range [][6]uint64{{0, uint64(nr), 5 << 32}, {0, 7, 5<<32 | 0xab}, {0, uint64(nr), 5}, {0, 6, 5 << 32}, {0, uint64(nr), 5<<32 | 0x100}} {
			want := uint32(RetNotify)
			if nr < 300 && rows[nr].Classify(args) == Guest {
				want = RetAllow
			}
			if got := run(t, prog, ArchAMD64, nr, args); got != want {
				t.Fatalf("call %d %#x: %#x, want %#x", nr, args, got, want)
			}
		}
	}
}

// TestTableIsComplete compares numbers and names with the list that golang.org/x/sys/unix was generated with.
func TestTableIsComplete(t *testing.T) {
	src, err := os.ReadFile(sysnumFile(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, m := range regexp.MustCompile(`(?m)^\s*SYS_(\w+)\s*=\s*(\d+)$`).FindAllStringSubmatch(string(src), -1) {
		nr, _ := strconv.Atoi(m[2])
		r := Lookup(uint32(nr))
		if r.Name != strings.ToLower(m[1]) {
			t.Errorf("call %d is %s in the kernel's list and %s in the table", nr, strings.ToLower(m[1]), r.Name)
		}
		seen++
	}
	if seen < 380 {
		t.Fatalf("only %d calls found in the list", seen)
	}
}

// sysnumFile finds the numbers of amd64 in the module cache. The package itself stays pure: only this test reads them.
func sysnumFile(t *testing.T) string {
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "golang.org/x/sys" {
				version = d.Version
			}
		}
	}
	if version == "" {
		mod, err := os.ReadFile("../go.mod")
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`golang\.org/x/sys (v\S+)`).FindSubmatch(mod)
		if m == nil {
			t.Fatal("go.mod does not name golang.org/x/sys")
		}
		version = string(m[1])
	}
	cache := os.Getenv("GOMODCACHE")
	if cache == "" {
		gopath := os.Getenv("GOPATH")
		if gopath == "" {
			h, err := os.UserHomeDir()
			if err != nil {
				t.Fatal(err)
			}
			gopath = filepath.Join(h, "go")
		}
		cache = filepath.Join(gopath, "pkg", "mod")
	}
	return filepath.Join(cache, "golang.org", "x", "sys@"+version, "unix", "zsysnum_linux_amd64.go")
}

func TestTableIsWellFormed(t *testing.T) {
	last := int64(-1)
	for i := range table {
		r := &table[i]
		if int64(r.Nr) <= last {
			t.Errorf("%s: number %d after %d", r.Name, r.Nr, last)
		}
		last = int64(r.Nr)
		if len(r.Args) > 6 {
			t.Errorf("%s has %d arguments", r.Name, len(r.Args))
		}
		for _, rule := range r.Rules {
			for _, c := range rule.Conds {
				if len(c.Vals) == 0 {
					t.Errorf("%s has a condition without values", r.Name)
				}
				for _, v := range c.Vals {
					if v>>32 != c.Vals[0]>>32 || v&^c.Mask != 0 {
						t.Errorf("%s: condition %#x cannot be checked by a filter", r.Name, c)
					}
				}
			}
		}
		seen := map[uint32]bool{}
		for _, s := range r.Subs {
			if seen[s.Sel] {
				t.Errorf("%s: %#x twice", r.Name, s.Sel)
			}
			seen[s.Sel] = true
			if s.Class == Guest && r.By < 0 {
				t.Errorf("%s: no selecting argument", r.Name)
			}
		}
		if (r.Class == ComeHome || r.Class == Refuse) && r.Note == "" {
			t.Errorf("%s is %v and does not say why", r.Name, r.Class)
		}
		if r.Restart != 0 && r.Restart != 512 && r.Restart != 514 && r.Restart != 516 {
			t.Errorf("%s: restart code %d", r.Name, r.Restart)
		}
		if r.Blocks && !r.Mask {
			t.Errorf("%s can wait and does not carry the signal mask", r.Name)
		}
	}
}

func TestNeedsMask(t *testing.T) {
	for _, c := range []struct {
		nr   uint32
		args [6]uint64
		want bool
	}{
		{0, [6]uint64{}, true}, {5, [6]uint64{}, false}, {72, [6]uint64{0, 3}, false}, {72, [6]uint64{0, 6}, false}, {72, [6]uint64{0, 7}, true},
		{16, [6]uint64{0, 0x5401}, false}, {16, [6]uint64{0, 0x5402}, true}, {16, [6]uint64{0, 0x5410}, true}, {16, [6]uint64{0, 0x5421}, false},
		{62, [6]uint64{}, true}, {128, [6]uint64{}, true}, {127, [6]uint64{}, true}, {202, [6]uint64{}, false},
	} {
		if got := Lookup(c.nr).NeedsMask(c.args); got != c.want {
			t.Errorf("%s%#x: %v", Lookup(c.nr).Name, c.args, got)
		}
	}
}
