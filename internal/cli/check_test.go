package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"mosix/homeproxy"
	"mosix/internal/feature"
)

func TestCheckVerdicts(t *testing.T) {
	ok := checkProbe{Name: "seccomp-notify", Since: "5.0", Need: "calls of a guest go to its home", Required: true, Verdict: probeOK}
	missing := checkProbe{Name: "clone3-set-tid", Since: "5.5", Need: "a guest keeps its numbers", Required: true, Verdict: probeMissing, Error: "clone3-set-tid: not supported by Linux 5.4: it came with 5.5"}
	unknown := checkProbe{Name: "namespace-pid", Since: "3.8", Need: "those numbers are free there", Required: true, Verdict: probeUnknown, Error: "namespace-pid: not permitted; ask again as root"}
	slower := checkProbe{Name: "pagemap-scan", Since: "6.7", Need: "written pages are found at once", Without: "a process is stopped while all its memory is copied", Verdict: probeMissing, Error: "pagemap-scan: not supported by Linux 6.1: it came with 6.7"}
	for _, tc := range []struct {
		name   string
		probes []checkProbe
		ok     bool
	}{
		{"check-ok", []checkProbe{ok}, true},
		{"check-optional", []checkProbe{ok, slower}, true},
		{"check-missing", []checkProbe{ok, missing, slower}, false},
		{"check-unknown", []checkProbe{unknown, ok}, false},
	} {
		for _, asJSON := range []bool{false, true} {
			var out strings.Builder
			a := &app{out: &out, json: asJSON}
			err := a.printCheck(check(tc.probes))
			if (err == nil) != tc.ok || (err != nil && status(runError{err}) != ExitFailed) {
				t.Errorf("%s: %v, want ok %t", tc.name, err, tc.ok)
			}
			if !asJSON {
				golden(t, tc.name, out.String())
				continue
			}
			var r checkReport
			if err := json.Unmarshal([]byte(out.String()), &r); err != nil || r.OK != tc.ok || len(r.Probes) != len(tc.probes) {
				t.Errorf("%s: %v in %s", tc.name, err, out.String())
			}
		}
	}
}

// The command shows every probe of the table, with a verdict each, on whatever kernel this is.
func TestCheckTriesEverything(t *testing.T) {
	code, stdout, stderr := mosixctl("", 0, "check", "--json")
	var r checkReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v: %s %s", err, stdout, stderr)
	}
	if len(r.Probes) != len(feature.All()) {
		t.Errorf("%d probes, want %d", len(r.Probes), len(feature.All()))
	}
	for _, p := range r.Probes {
		if (p.Verdict == probeOK) != (p.Error == "") || p.Need == "" {
			t.Errorf("%+v", p)
		}
	}
	if (code == ExitOK) != r.OK {
		t.Errorf("exit status %d, ok %t", code, r.OK)
	}
}

// TestCallsAreCounted: every call is in exactly one class, and what is said to come home does.
func TestCallsAreCounted(t *testing.T) {
	var out strings.Builder
	a := &app{out: &out, json: true}
	if err := a.printCalls(countCalls()); err != nil {
		t.Fatal(err)
	}
	var r callsReport
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, c := range r.Classes {
		sum += c.Calls
		if c.Where == "" || c.Class == "ComeHome" && c.Calls < len(r.ComeHome) {
			t.Errorf("%+v beside %d calls that come home", c, len(r.ComeHome))
		}
	}
	if sum != r.Calls || r.Calls != len(homeproxy.Rows()) || len(r.Classes) != 5 {
		t.Errorf("%d calls, of which %d are in %d classes", r.Calls, sum, len(r.Classes))
	}
	for _, c := range r.ComeHome {
		if got := homeproxy.Lookup(c.Number).Classify([6]uint64{1, 1, 1, 1, 1, 1}); got != homeproxy.ComeHome || c.Reason == "" {
			t.Errorf("%s is %v, for the reason %q", c.Name, got, c.Reason)
		}
	}
	out.Reset()
	a.json = false
	if err := a.printCalls(r); err != nil || !strings.Contains(out.String(), "io_uring_setup") {
		t.Errorf("%v:\n%s", err, out.String())
	}
}
