package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of go test -json, as "go doc test2json" describes it.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// summary is what one run of go test came to. Tests and subtests count alike, as go test -v lists them.
type summary struct {
	Name    string    `json:"name"`
	Passed  int       `json:"passed"`
	Failed  []string  `json:"failed"`
	Skipped []skipped `json:"skipped"`
	Seconds float64   `json:"seconds"` // added up over packages
}

type skipped struct {
	Test   string `json:"test"`
	Reason string `json:"reason"`
}

func (s *summary) ran() int { return s.Passed + len(s.Failed) }

func (s *summary) add(o summary) {
	s.Passed += o.Passed
	s.Failed = append(s.Failed, o.Failed...)
	s.Skipped = append(s.Skipped, o.Skipped...)
	s.Seconds += o.Seconds
}

// slow is the time, in seconds, from which a single test gets a line of its own.
const slow = 10

// reader follows one run. Output of a test is kept until it is known whether anybody wants to see it.
type reader struct {
	sum    summary
	out    io.Writer
	output map[string][]string // by package and test; of the package itself, test is empty
	failed map[string]int      // failed tests by package
	counts map[string]int      // passed tests by package
	builds map[string][]string // what the compiler said, by import path
}

func key(e event) string { return e.Package + " " + e.Test }

// summarize reads events to the end of in and writes progress to out. A line that is no event is passed on.
func summarize(in io.Reader, out io.Writer, name string) (*summary, error) {
	r := reader{sum: summary{Name: name}, out: out, output: map[string][]string{}, failed: map[string]int{},
		counts: map[string]int{}, builds: map[string][]string{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if line[0] != '{' || json.Unmarshal(line, &e) != nil || e.Action == "" {
				if _, err := out.Write(line); err != nil {
					return nil, err
				}
			} else {
				r.event(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return &r.sum, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *reader) event(e event) {
	switch e.Action {
	case "output":
		r.output[key(e)] = append(r.output[key(e)], e.Output)
		return
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test == "" {
		r.packageEnded(e)
	} else {
		r.testEnded(e)
	}
	delete(r.output, key(e))
}

func (r *reader) testEnded(e event) {
	full := short(e.Package) + "." + e.Test
	switch e.Action {
	case "pass":
		r.sum.Passed++
		r.counts[e.Package]++
	case "skip":
		r.sum.Skipped = append(r.sum.Skipped, skipped{full, reason(r.output[key(e)])})
	case "fail":
		r.sum.Failed = append(r.sum.Failed, full)
		r.failed[e.Package]++
		fmt.Fprintf(r.out, "FAIL  %s\n", full)
		r.show(r.output[key(e)])
	}
	if e.Elapsed >= slow && !strings.Contains(e.Test, "/") {
		fmt.Fprintf(r.out, "      %s took %.1f s\n", full, e.Elapsed)
	}
}

func (r *reader) packageEnded(e event) {
	r.sum.Seconds += e.Elapsed
	if e.Action != "fail" {
		if n := r.counts[e.Package]; n > 0 {
			fmt.Fprintf(r.out, "ok    %-36s %5d tests  %6.1f s\n", short(e.Package), n, e.Elapsed)
		}
		return
	}
	if r.failed[e.Package] > 0 {
		return // its tests have said why
	}
	// It did not build, or ended without saying which test it was in: a crash, os.Exit, a time limit.
	r.sum.Failed = append(r.sum.Failed, short(e.Package))
	fmt.Fprintf(r.out, "FAIL  %s\n", short(e.Package))
	out := slices.Concat(r.builds[e.FailedBuild], r.output[key(e)])
	for k, lines := range r.output {
		if strings.HasPrefix(k, e.Package+" ") && k != key(e) {
			out = append(out, lines...)
		}
	}
	r.show(out)
}

// show prints what a test or a package has said.
func (r *reader) show(lines []string) {
	for _, s := range lines {
		if !strings.HasPrefix(s, "=== ") {
			fmt.Fprint(r.out, "      ", s)
		}
	}
}

// short leaves out the module's name.
func short(pkg string) string {
	if _, rest, ok := strings.Cut(pkg, "/"); ok && !strings.Contains(pkg[:strings.Index(pkg, "/")], ".") {
		return rest
	}
	return pkg
}

// reason is what a skipped test printed, without the words of the testing package.
func reason(output []string) string {
	var words []string
	for _, s := range output {
		s = strings.TrimSpace(s)
		if s == "" || strings.HasPrefix(s, "=== ") || strings.HasPrefix(s, "--- ") {
			continue
		}
		// "file_test.go:12: reason"
		if file, rest, ok := strings.Cut(s, ": "); ok && strings.Contains(file, ".go:") {
			s = rest
		}
		words = append(words, s)
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return strings.Join(words, " ")
}

// print writes the reasons of skips, each once with its tests, then what failed, then the totals.
func (s *summary) print(out io.Writer) {
	var reasons []string
	tests := map[string][]string{}
	for _, k := range s.Skipped {
		if tests[k.Reason] == nil {
			reasons = append(reasons, k.Reason)
		}
		tests[k.Reason] = append(tests[k.Reason], k.Test)
	}
	for _, r := range reasons {
		fmt.Fprintf(out, "SKIP  %d: %s\n      %s\n", len(tests[r]), r, strings.Join(tests[r], " "))
	}
	for _, f := range s.Failed {
		fmt.Fprintf(out, "FAIL  %s\n", f)
	}
	fmt.Fprintf(out, "%s: %d run in %.1f s\n", s.Name, s.ran(), s.Seconds)
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", s.Passed, len(s.Failed), len(s.Skipped))
}
