package id

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePID(t *testing.T) {
	for _, c := range []struct {
		text string
		pid  HomePID
		home Node
		ok   bool
	}{
		{"4711", 4711, "", true},
		{"4711@n1", 4711, "n1", true},
		{"1@a-long.name.example", 1, "a-long.name.example", true},
		{"4711@", 4711, "", true},
		{"2147483647", 2147483647, "", true},
		{"2147483648", 0, "", false},
		{"0", 0, "", false},
		{"-3", 0, "", false},
		{"", 0, "", false},
		{"@n1", 0, "", false},
		{"n1", 0, "", false},
		{"12 @n1", 0, "", false},
		{"0x10", 0, "", false},
		{"99999999999999999999", 0, "", false},
	} {
		pid, home, err := ParsePID(c.text)
		if (err == nil) != c.ok || pid != c.pid || home != c.home {
			t.Errorf("%q: %d, %q, %v", c.text, pid, home, err)
		}
		if err != nil && !strings.Contains(err.Error(), "want a number") {
			t.Errorf("%q: %v does not say what is wanted", c.text, err)
		}
	}
}

// TestNamesReadBack: what users see is what they may type.
func TestNamesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Process{Home: Node(rapid.StringMatching(`[a-z][a-z0-9.-]{0,20}`).Draw(t, "home")),
			PID: HomePID(rapid.Int32Range(1, 1<<31-1).Draw(t, "pid")), Start: rapid.Uint64().Draw(t, "start")}
		pid, home, err := ParsePID(p.String())
		if err != nil || pid != p.PID || home != p.Home {
			t.Fatalf("%v reads back as %d, %q, %v", p, pid, home, err)
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var q Process
		if err := json.Unmarshal(b, &q); err != nil || q != p {
			t.Fatalf("%s reads back as %+v, %v", b, q, err)
		}
	})
}
