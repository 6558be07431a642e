package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorded is a run of go test -json over four packages: one that is well, one with a failing and a skipped test, one that
// does not build, and one that ended by os.Exit.
func recorded(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/run.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSummary(t *testing.T) {
	var out bytes.Buffer
	s, err := summarize(strings.NewReader(recorded(t)), &out, "unit")
	if err != nil {
		t.Fatal(err)
	}
	if s.Passed != 3 || strings.Join(s.Failed, " ") != "bad.TestWrong/case bad.TestWrong broken exits" || len(s.Skipped) != 2 {
		t.Errorf("summary %+v", s)
	}
	for _, k := range s.Skipped {
		if k.Reason != "needs root" {
			t.Errorf("%s was skipped because %q, want needs root", k.Test, k.Reason)
		}
	}
	s.print(&out)
	for _, want := range []string{
		"go: downloading something\n", // no event: passed on
		"ok    good ",
		"bad_test.go:7: got 1, want 2",
		"undefined: nothing", // the compiler's words
		"os.Exit",            // the output of the package that ended early
		"SKIP  2: needs root\n      bad.TestRoot bad.TestRoot2\n",
		"unit: 7 run in",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
	if !strings.HasSuffix(out.String(), "\n3 passed, 4 failed, 2 skipped\n") {
		t.Errorf("the last line is not the totals:\n%s", &out)
	}
}

func TestTotalOfSavedRuns(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "1.json"), filepath.Join(dir, "2.json")
	var out bytes.Buffer
	if err := run(strings.NewReader(recorded(t)), &out, "unit", one); err == nil {
		t.Error("a run with failures ended well")
	}
	good := `{"Action":"pass","Package":"m/x","Test":"TestX"}` + "\n" + `{"Action":"pass","Package":"m/x","Elapsed":1}` + "\n"
	if err := run(strings.NewReader(good), &out, "kernel", two); err != nil {
		t.Errorf("a good run: %v", err)
	}
	out.Reset()
	if err := printTotal(&out, []string{one, two}); err == nil || err.Error() != "4 failed" {
		t.Errorf("total: %v, want 4 failed", err)
	}
	if !strings.HasSuffix(out.String(), "\n4 passed, 4 failed, 2 skipped\n") || !strings.Contains(out.String(), "kernel        1 run") {
		t.Errorf("totals:\n%s", &out)
	}
}

func TestVerdict(t *testing.T) {
	skip := []skipped{{"a", "b"}}
	for _, c := range []struct {
		s    summary
		want string
	}{
		{summary{Passed: 1}, ""},
		{summary{Passed: 1, Skipped: skip}, ""},
		{summary{Skipped: skip}, "no test ran"},
		{summary{}, "no test ran"},
		{summary{Passed: 1, Failed: []string{"a"}}, "1 failed"},
	} {
		got := ""
		if err := c.s.verdict(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.s, got, c.want)
		}
	}
}
