package software

import (
	"os"
	"strings"
	"testing"
)

// TestTable: every script says what it is.
func TestTable(t *testing.T) {
	list, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 18 {
		t.Errorf("there are %d scripts only", len(list))
	}
	if err := Unpack(t.TempDir()); err != nil {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct{ text, wrong string }{
		"whole":      {"# what: x\n# needs: /bin/sh nothing-that-exists\n# packages: dash\n# seconds: 7\n# fetch: http://a/b 00\necho\n", ""},
		"bare":       {"echo\n", "must begin"},
		"no number":  {"# what: x\n# seconds: many\n", "seconds"},
		"half":       {"# fetch: http://a/b\n", "fetch"},
		"misspelled": {"# waht: x\n", "waht"},
	} {
		s, err := parse(name, c.text)
		if c.wrong == "" {
			if err != nil || s.Patience.Seconds() != 7 || s.Fetch[1] != "00" || strings.Join(s.Missing(), " ") != "nothing-that-exists" {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDiffer(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"a\nb\n", "a\nb\n", ""}, {"a\nb\n", "b\na\n", "the same lines in another order"}, {"a\nb\n", "a\nc\n", "+ c\n- b"},
	} {
		if got := Differ(Run{Out: c.a}, Run{Out: c.b}); got != c.want {
			t.Errorf("%q and %q differ in %q, want %q", c.a, c.b, got, c.want)
		}
	}
	if got := Differ(Run{}, Run{Status: 3, Said: "why"}); got != "status 3 instead of 0; it says: why" {
		t.Error(got)
	}
}

// TestReasons: the list in the documentation is this one.
func TestReasons(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for call, why := range Reasons {
		if !strings.Contains(string(doc), "| "+call+" | "+why+" |\n") {
			t.Errorf("docs/operations.md does not say that %s comes home because %s", call, why)
		}
	}
	if got := Unlisted(map[string]int{"mmap": 2, "read": 3}); len(got) != 1 || !strings.Contains(got[0], "3 times for read") {
		t.Error(got)
	}
}
