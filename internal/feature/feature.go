// Package feature knows what this kernel can do. Its one invariant: a verdict comes from trying the thing, never from a
// version number, and what could not be tried is never remembered as an answer.
//
// One table serves the agent at its start, mosixctl check, the capability bits that nodes tell each other, and the tests:
// a test names what it needs, and where a kernel is new enough to have it, its absence is a failure on a build machine and
// not a silent skip.
package feature

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// ErrNotSupported is what Err is, by errors.Is, when the kernel was asked and does not have the feature.
var ErrNotSupported = errors.New("not supported")

// ErrPrivilege is what Err is, by errors.Is, when the question needs more rights than this process has.
var ErrPrivilege = errors.New("not permitted")

// Probe is one feature of the kernel.
type Probe struct {
	Name    string // a stable word for programs and tests: "pagemap-scan"
	Since   string // the Linux version that brought it, "6.7"; empty where that says nothing
	Why     string // what mosix does with it
	Without string // what happens where it is missing; empty: no process moves from or to that node
	CPU     string // the flag in /proc/cpuinfo of a processor that it takes; empty: any processor does
	Config  string // the option that a kernel may have been built without; empty where there is none
	Bit     uint   // its number among the bits that nodes tell each other; released numbers are never used again

	fn func() error

	mu   sync.Mutex // guards those below
	done bool
	err  error
}

// Required reports whether nothing moves without the feature.
func (p *Probe) Required() bool { return p.Without == "" }

func (p *Probe) String() string { return p.Name }

// Err tries the feature and returns nil where it is there. An error that is ErrNotSupported says that it is not; both are
// remembered. Any other error says that it could not be tried this time.
func (p *Probe) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return p.err
	}
	err := p.verdict(p.fn())
	if err == nil || errors.Is(err, ErrNotSupported) {
		p.done, p.err = true, err
	}
	return err
}

// verdict gives what a probe function returned its meaning.
func (p *Probe) verdict(err error) error {
	if err == nil {
		return nil
	}
	running, _ := Kernel()
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: %w: %w; ask again as root, outside of containers that forbid it", p.Name, ErrPrivilege, err)
	case !errors.Is(err, ErrNotSupported) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOSYS) &&
		!errors.Is(err, syscall.ENOTTY) && !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.ENOENT) &&
		!errors.Is(err, syscall.EIO):
		return fmt.Errorf("%s: could not be tried: %w", p.Name, err)
	case !p.expected(running):
		return fmt.Errorf("%s: %w by Linux %s: it came with %s (%w)", p.Name, ErrNotSupported, running, p.Since, err)
	case p.Config != "":
		return fmt.Errorf("%s: %w by this kernel: it seems to be built without %s (%w)", p.Name, ErrNotSupported, p.Config, err)
	default:
		return fmt.Errorf("%s: %w by this machine: %w", p.Name, ErrNotSupported, err)
	}
}

// expected reports whether a kernel of version v is new enough for p, on this processor.
func (p *Probe) expected(v Version) bool {
	since, err := ParseVersion(p.Since)
	return err == nil && v.AtLeast(since) && (p.CPU == "" || cpuHas(p.CPU))
}

// cpuHas reports whether the processor has what /proc/cpuinfo calls flag.
func cpuHas(flag string) bool {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return true // then it is missed, and somebody looks why
	}
	for line := range strings.Lines(string(b)) {
		if name, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			return slices.Contains(strings.Fields(flags), flag)
		}
	}
	return true
}

// Bits is the set of features that are there, by Probe.Bit. Nodes tell it each other.
func Bits() uint64 {
	var b uint64
	for _, p := range All() {
		if p.Err() == nil {
			b |= 1 << p.Bit
		}
	}
	return b
}

// Version is a version of Linux.
type Version struct{ Major, Minor int }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// AtLeast reports whether v is w or later.
func (v Version) AtLeast(w Version) bool {
	return v.Major > w.Major || v.Major == w.Major && v.Minor >= w.Minor
}

// ParseVersion reads "6.7", and what uname says: "6.18.44-amd64".
func ParseVersion(s string) (Version, error) {
	bad := fmt.Errorf("%q is not a version of Linux: want one such as 6.7", s)
	major, rest, ok := strings.Cut(s, ".")
	if !ok {
		return Version{}, bad
	}
	minor := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		minor = rest[:i]
	}
	a, err := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err != nil || err2 != nil || a < 0 {
		return Version{}, bad
	}
	return Version{a, b}, nil
}

// Kernel is the version of the running kernel.
func Kernel() (Version, error) {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return Version{}, err
	}
	return ParseVersion(string(b))
}

// NoSkip names the environment variable that forbids tests to skip what this kernel is new enough for. CI=true does too.
const NoSkip = "MOSIX_NO_SKIP"

func noSkip() bool {
	if s, ok := os.LookupEnv(NoSkip); ok {
		return s != "" && s != "0"
	}
	return os.Getenv("CI") == "true"
}

// TB is the part of testing.TB that Need uses.
type TB interface {
	Helper()
	Skipf(format string, a ...any)
	Fatalf(format string, a ...any)
}

// Need skips the test t where a feature is missing. Where skipping is forbidden (see NoSkip) it fails it instead, unless the
// kernel is too old for the feature or this process may not try it.
func Need(t TB, probes ...*Probe) {
	t.Helper()
	need(t, noSkip(), probes)
}

func need(t TB, noSkip bool, probes []*Probe) {
	t.Helper()
	for _, p := range probes {
		err := p.Err()
		if err == nil {
			continue
		}
		running, _ := Kernel()
		if noSkip && p.expected(running) && !errors.Is(err, ErrPrivilege) {
			t.Fatalf("this test may not be skipped, because Linux %s is new enough: %v", running, err)
			return
		}
		t.Skipf("needs %v", err)
		return
	}
}
