package fault

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	alpha = Register("test-alpha")
	beta  = Register("test-beta")
)

// arm writes a faults file and arms this program with it.
func arm(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "faults")
	write(t, path, text)
	if err := Arm(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(Disarm)
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func hits(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(HitsFile(path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func TestUnarmedDoesNothing(t *testing.T) {
	t.Setenv(Env, "")
	if err := Arm(""); err != nil {
		t.Fatal(err)
	}
	if err := alpha.Hit(); err != nil {
		t.Fatalf("unarmed point: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = alpha.Hit() }); n != 0 {
		t.Errorf("an unarmed hit allocates %v times", n)
	}
}

func TestErrorAtOnePointOnly(t *testing.T) {
	path := arm(t, "# story\ntest-alpha error # why\n")
	if err := alpha.Hit(); !errors.Is(err, ErrInjected) || !strings.Contains(err.Error(), "test-alpha") {
		t.Fatalf("armed point returned %v", err)
	}
	if err := beta.Hit(); err != nil {
		t.Fatalf("other point returned %v", err)
	}
	write(t, path, "")
	if err := alpha.Hit(); err != nil {
		t.Fatalf("point whose line is gone returned %v", err)
	}
	if got := hits(t, path); !strings.HasPrefix(got, "test-alpha error ") || strings.Count(got, "\n") != 1 {
		t.Errorf("hits file holds %q, want one line of test-alpha", got)
	}
}

func TestArmedByEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "faults")
	t.Setenv(Env, path)
	if err := Arm(""); err != nil {
		t.Fatalf("a file that does not exist yet: %v", err)
	}
	t.Cleanup(Disarm)
	if err := alpha.Hit(); err != nil {
		t.Fatal(err)
	}
	write(t, path, "test-alpha error")
	if err := alpha.Hit(); !errors.Is(err, ErrInjected) {
		t.Fatalf("file that appeared later: %v", err)
	}
}

func TestOnce(t *testing.T) {
	arm(t, "test-alpha error once")
	if err := alpha.Hit(); !errors.Is(err, ErrInjected) {
		t.Fatalf("first hit: %v", err)
	}
	if err := alpha.Hit(); err != nil {
		t.Fatalf("second hit: %v", err)
	}
}

func TestDelay(t *testing.T) {
	arm(t, "test-alpha delay 30ms")
	start := time.Now()
	if err := alpha.Hit(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 30*time.Millisecond {
		t.Errorf("delayed %v, want at least 30ms", d)
	}
}

func TestBlockUntilLineIsGone(t *testing.T) {
	path := arm(t, "test-alpha block")
	done := make(chan error, 1)
	go func() { done <- alpha.Hit() }()
	for !strings.Contains(hits(t, path), "test-alpha block") {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-done:
		t.Fatalf("went on while blocked: %v", err)
	case <-time.After(3 * blockPoll):
	}
	write(t, path, "test-beta error")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// The program that crashes is this test binary, started again.
func TestCrash(t *testing.T) {
	if os.Getenv("FAULT_TEST_CRASH") != "" {
		if err := Arm(""); err != nil {
			t.Fatal(err)
		}
		_ = alpha.Hit()
		os.WriteFile(os.Getenv("FAULT_TEST_CRASH"), nil, 0o600)
		return
	}
	path := filepath.Join(t.TempDir(), "faults")
	after := path + ".after"
	write(t, path, "test-alpha crash")
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), Env+"="+path, "FAULT_TEST_CRASH="+after)
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the program ended with %v, want SIGKILL", err)
	}
	if _, err := os.Stat(after); err == nil {
		t.Error("the program went on after its crash point")
	}
	if got := hits(t, path); !strings.HasPrefix(got, "test-alpha crash ") {
		t.Errorf("hits file holds %q", got)
	}
}

func TestBadFiles(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"test-alpha explode", "want POINT crash"},
		{"test-alpha delay soon", "not a time to wait"},
		{"test-alpha delay -1s", "not a time to wait"},
		{"test-alpha", "want POINT crash"},
		{"test-alpha once", "want POINT crash"},
		{"\nno-such-point crash", `:2: this program has no fault point "no-such-point"`},
	} {
		path := filepath.Join(t.TempDir(), "faults")
		write(t, path, c.text)
		if err := Arm(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v, want an error with the path and %q", c.text, err, c.want)
		}
	}
	if armed.Load() {
		t.Error("a refused file armed the program")
	}
}

// A file that is broken later must be noticed by the test that broke it.
func TestFileBrokenLater(t *testing.T) {
	path := arm(t, "")
	write(t, path, "test-alpha explode")
	if err := alpha.Hit(); err == nil || errors.Is(err, ErrInjected) {
		t.Fatalf("got %v, want an error about the file", err)
	}
}

func TestAllAndDuplicates(t *testing.T) {
	all := All()
	if !slices.Contains(all, alpha) || !slices.Contains(all, beta) || !slices.IsSortedFunc(all, func(a, b *Point) int { return strings.Compare(a.Name(), b.Name()) }) {
		t.Errorf("All() = %v", all)
	}
	for _, name := range []string{"test-alpha", "", "Upper", "two words"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Register(%q) did not panic", name)
				}
			}()
			Register(name)
		}()
	}
}
