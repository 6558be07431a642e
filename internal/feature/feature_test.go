package feature

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKernelKeepsItsWord fails where a feature is missing although the kernel is newer than the version that brought it: then
// the version in the table is wrong, the probe is, or this kernel was built without it, and the message says which option.
func TestKernelKeepsItsWord(t *testing.T) {
	running, err := Kernel()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range All() {
		t.Run(p.Name, func(t *testing.T) {
			start := time.Now()
			err := p.Err()
			t.Logf("%v in %v", err, time.Since(start).Round(10*time.Microsecond))
			switch {
			case err == nil:
			case errors.Is(err, ErrPrivilege):
				t.Skipf("needs %v", err)
			case !errors.Is(err, ErrNotSupported):
				t.Errorf("could not be tried: %v", err)
			case p.expected(running):
				t.Errorf("Linux %s is new enough: %v", running, err)
			default:
				t.Skipf("needs %v", err)
			}
		})
	}
}

// Everything that was started to try a feature on has ended when the answer is there.
func TestLeavesNothingBehind(t *testing.T) {
	before := descriptors(t)
	for _, p := range All() {
		_ = p.fn()
	}
	if pids := children(t); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors were open, %d are", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func children(t *testing.T) (pids []string) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range threads {
		b, err := os.ReadFile("/proc/self/task/" + th.Name() + "/children")
		if err == nil {
			pids = append(pids, strings.Fields(string(b))...)
		}
	}
	return pids
}

// An ordinary user gets a verdict for every feature too, and is told where it takes root to find out.
func TestAsOrdinaryUser(t *testing.T) {
	const env = "FEATURE_TEST_ORDINARY"
	if os.Getenv(env) != "" {
		for _, p := range All() {
			err := p.Err()
			if err != nil && !errors.Is(err, ErrPrivilege) && !errors.Is(err, ErrNotSupported) {
				t.Errorf("%s: %v", p.Name, err)
			}
			fmt.Printf("%s: %v\n", p.Name, err)
		}
		if pids := children(t); len(pids) != 0 {
			t.Errorf("processes %v are left", pids)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestAsOrdinaryUser$")
	cmd.Env = append(os.Environ(), env+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	for _, p := range []*Probe{PtraceSeize, ProcessVM, XState, MemfdSeal, SeccompNotify} {
		if p.Err() == nil && !strings.Contains(string(out), p.Name+": <nil>\n") {
			t.Errorf("%s is there for root and not for an ordinary user", p.Name)
		}
	}
	if strings.Contains(string(out), "root: <nil>\n") {
		t.Error("an ordinary user passes for root")
	}
}

// A probe that says yes to everything would be worth nothing: what no kernel has must be missing.
func TestProbesCanSayNo(t *testing.T) {
	for name, fn := range map[string]func() error{
		"flag of seccomp":   func() error { return seccompFlags(1 << 30) },
		"kind of namespace": namespace(1 << 40),
		"number of a call": func() error {
			return withChild(func(c *child) error { _, err := c.call(9999); return err })
		},
		"descriptor": func() error {
			return withChild(func(c *child) error { _, err := c.take(77, "none"); return err })
		},
	} {
		if err := fn(); err == nil {
			t.Errorf("a %s that does not exist was found", name)
		}
	}
	p := &Probe{Name: "flag", Since: "2.6", fn: func() error { return seccompFlags(1 << 30) }}
	if err := p.Err(); !errors.Is(err, ErrNotSupported) {
		t.Errorf("a flag of seccomp that does not exist: %v, want not supported", err)
	}
}

// The child may end in the middle, by a signal or by what is tried on it; the probe then says so and does not hang.
func TestChildThatEnds(t *testing.T) {
	err := withChild(func(c *child) error {
		_, err := c.call(syscall.SYS_EXIT_GROUP, 3)
		return err
	})
	if !errors.Is(err, errChildGone) {
		t.Errorf("%v, want %v", err, errChildGone)
	}
}

func TestTableIsSound(t *testing.T) {
	names, used := []string{}, uint64(0)
	for _, p := range All() {
		if p.fn == nil || p.Why == "" || p.Name == "" || strings.ToLower(p.Name) != p.Name || slices.Contains(names, p.Name) {
			t.Errorf("%s: name, reason or function is missing, or the name is used twice", p.Name)
		}
		names = append(names, p.Name)
		if used>>p.Bit&1 != 0 || p.Bit > 63 {
			t.Errorf("%s: bit %d is used twice, or too high", p.Name, p.Bit)
		}
		used |= 1 << p.Bit
		if p.Since != "" {
			if _, err := ParseVersion(p.Since); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
	}
	// A bit is never given to another feature, so they stay in this order for ever.
	released := strings.Fields(`root ptrace-seize ptrace-rseq ptrace-suspend-seccomp ptrace-xstate process-vm pidfd kcmp
		seccomp-notify seccomp-wait-killable seccomp-tsync-esrch seccomp-sync-wake-up userfaultfd-wp-async pagemap-scan
		clone3-set-tid namespace-pid namespace-mount namespace-net namespace-ipc namespace-uts namespace-user namespace-time
		time-offsets memfd-seal prctl-mm-map map-files vdso-remap fsgsbase cgroup-cpu schedstat`)
	for bit, name := range released {
		if i := slices.Index(names, name); i >= 0 && All()[i].Bit != uint(bit) {
			t.Errorf("%s was released with bit %d and has %d", name, bit, All()[i].Bit)
		}
	}
	if bits.OnesCount64(used) != len(released) {
		t.Errorf("%d features, %d are in the list of this test; add the new ones at its end", bits.OnesCount64(used), len(released))
	}
}

// A probe that is there, one that is not, one that is too new, one that may not be tried and one that could not be.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name      string
		since     string
		err       error
		is        error // nil: none of the two
		cached    bool
		text      string
		skip, die bool // what Need does where skipping is forbidden
	}{
		{"there", "3.0", nil, nil, true, "", false, false},
		{"missing", "3.0", syscall.EINVAL, ErrNotSupported, true, "built without CONFIG_X", false, true},
		{"said so", "3.0", missing("it answered 7"), ErrNotSupported, true, "it answered 7", false, true},
		{"too new", "99.0", syscall.ENOSYS, ErrNotSupported, true, "it came with 99.0", true, false},
		{"forbidden", "3.0", fmt.Errorf("unshare: %w", syscall.EPERM), ErrPrivilege, false, "ask again as root", true, false},
		{"no memory", "3.0", syscall.ENOMEM, nil, false, "could not be tried", false, true},
		{"no version", "", syscall.EINVAL, ErrNotSupported, true, "not supported", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tries := 0
			p := &Probe{Name: "probe", Since: c.since, Config: "CONFIG_X", fn: func() error { tries++; return c.err }}
			for range 3 {
				err := p.Err()
				if (err == nil) != (c.err == nil) || err != nil && !strings.Contains(err.Error(), c.text) {
					t.Fatalf("verdict %v, want one that says %q", err, c.text)
				}
				for _, e := range []error{ErrNotSupported, ErrPrivilege} {
					if errors.Is(err, e) != (e == c.is) {
						t.Errorf("%v is %v: %v", err, e, errors.Is(err, e))
					}
				}
			}
			if (tries == 1) != c.cached {
				t.Errorf("tried %d times", tries)
			}
			for _, strict := range []bool{false, true} {
				r := &recorder{}
				need(r, strict, []*Probe{p})
				wantSkip, wantDie := c.err != nil, false
				if strict {
					wantSkip, wantDie = c.skip, c.die
				}
				if (r.skipped != "") != wantSkip || (r.failed != "") != wantDie {
					t.Errorf("Need, strict %v: skipped %q, failed %q", strict, r.skipped, r.failed)
				}
			}
		})
	}
}

type recorder struct{ skipped, failed string }

func (r *recorder) Helper()                        {}
func (r *recorder) Skipf(format string, a ...any)  { r.skipped = fmt.Sprintf(format, a...) }
func (r *recorder) Fatalf(format string, a ...any) { r.failed = fmt.Sprintf(format, a...) }

func TestNoSkip(t *testing.T) {
	for _, c := range []struct {
		no, ci string
		want   bool
	}{{"1", "", true}, {"0", "true", false}, {"", "true", false}} {
		t.Setenv(NoSkip, c.no)
		t.Setenv("CI", c.ci)
		if got := noSkip(); got != c.want {
			t.Errorf("%s=%q CI=%q: %v", NoSkip, c.no, c.ci, got)
		}
	}
	os.Unsetenv(NoSkip) // put back by Setenv above
	if !noSkip() {
		t.Error("CI=true alone does not forbid skips")
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		s    string
		want Version
		ok   bool
	}{
		{"6.7", Version{6, 7}, true}, {"6.18.44-fc-v669\n", Version{6, 18}, true}, {"5.10-rc1", Version{5, 10}, true},
		{"", Version{}, false}, {"6", Version{}, false}, {"x.y", Version{}, false}, {"6.", Version{}, false}, {"-1.2", Version{}, false},
	} {
		v, err := ParseVersion(c.s)
		if v != c.want || (err == nil) != c.ok {
			t.Errorf("%q reads %v, %v", c.s, v, err)
		}
	}
	if !(Version{6, 10}).AtLeast(Version{6, 9}) || (Version{5, 19}).AtLeast(Version{6, 0}) || !(Version{6, 0}).AtLeast(Version{6, 0}) {
		t.Error("versions are compared wrongly")
	}
}
