package node

import (
	"strings"
	"testing"
	"time"

	"mosix/internal/config"
	"mosix/internal/id"
)

func TestParseRules(t *testing.T) {
	rs, err := parseRules(`
[[rule]]
command = "ffmpeg*"
require = "cpus >= 4"
prefer = "tag('fast')"
most = 3
[[rule]]
command = "backup"
move = "never"
`)
	if err != nil || len(rs) != 2 || rs[0].require == nil || rs[0].prefer == nil || !rs[0].fits("ffmpeg-7") || rs[1].fits("ffmpeg") {
		t.Errorf("%+v, %v", rs, err)
	}
	for text, want := range map[string]string{
		"[[rule]]\ncommand = \"a\"\nmove = \"always\"":     `rule 1 ("a"): move: "always" means nothing`,
		"[[rule]]\ncommand = \"a\"\nrequire = \"load <\"":  `rule 1 ("a"): require: column 7`,
		"[[rule]]\ncommand = \"a\"\nprefer = \"load = 1\"": `rule 1 ("a"): prefer: column 6`,
		"[[rule]]\ncommand = \"[\"":                        `rule 1 ("["): command`,
		"[[rule]]\nmove = \"never\"":                       `rule 1 (""): command`,
		"[[rule]]\ncommand = \"a\"\nmost = -1":             `rule 1 ("a"): most`,
		"[[rule]]\ncommand = \"a\"\nrequires = \"load<1\"": `key "rule.requires" is not known`,
		"[[rule]": "toml",
	} {
		if _, err := parseRules(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestParseIndices(t *testing.T) {
	got, err := parseIndices([]byte("# comment\ntemperature 71.5\n\ngpus 2\n"))
	if err != nil || len(got) != 2 || got["temperature"] != 71.5 {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"temperature", "a b c", "1x 2", "load 3", "x NaN", "x hot", strings.Repeat("x", 40) + " 1"} {
		if got, err := parseIndices([]byte(text)); err == nil {
			t.Errorf("%q gives %v", text, got)
		}
	}
}

func TestLimitsOfGuests(t *testing.T) {
	var x takes
	for range 3 {
		x.add(100<<20, 0.2)
	}
	for _, test := range []struct {
		l    config.Limits
		over bool
	}{{config.Limits{}, false}, {config.Limits{Most: 3}, false}, {config.Limits{Most: 2}, true}, {config.Limits{Memory: 299 << 20}, true}, {config.Limits{Memory: 300 << 20}, false},
		{config.Limits{CPUs: 2.5}, true}, {config.Limits{CPUs: 3}, false}} {
		if why := x.over(test.l, "guests"); (why != "") != test.over {
			t.Errorf("%+v: %q", test.l, why)
		}
	}
}

// What past processes of a program have used is what is expected of the next, and of an unknown one what it has used itself.
func TestProgramsAreLearnt(t *testing.T) {
	var s births
	s.open(t.TempDir())
	if got := s.remains("x", time.Second); got < 8*time.Second || got > 9*time.Second { // ln(3600) = 8.2
		t.Errorf("%v of a program that is not known", got)
	}
	if got := s.remains("x", 2*time.Hour); got != 2*time.Hour {
		t.Errorf("%v of one that has used two hours", got)
	}
	for range 4 {
		s.learn("x", 10*time.Second)
	}
	if got := s.remains("x", 3*time.Second); got != 7*time.Second {
		t.Errorf("%v remain of 10 s", got)
	}
	if got := s.remains("x", time.Minute); got != time.Minute {
		t.Errorf("%v remain of a process that has used a minute", got)
	}
	if s.whole("x") != 10*time.Second || s.whole("y") != unknownLife {
		t.Errorf("%v, %v", s.whole("x"), s.whole("y"))
	}
	for i := range 2 * mostPrograms {
		s.learn(strings.Repeat("p", 1+i%7)+string(rune('a'+i%26))+time.Duration(i).String(), time.Second)
	}
	if len(s.programs) > mostPrograms {
		t.Errorf("%d programs are remembered", len(s.programs))
	}
	// One that has gone is learnt from, and one that is away is not.
	gone, away := id.Process{Home: "n1", PID: 1 << 30}, id.Process{Home: "n1", PID: 1<<30 + 1}
	s.running[gone], s.running[away] = &life{program: "gone", cpu: 5 * time.Second}, &life{program: "away", cpu: 5 * time.Second}
	s.end(map[id.Process]bool{away: true})
	if s.programs["gone"] == nil || s.programs["away"] != nil || s.running[away] == nil {
		t.Errorf("gone: %+v, away: %+v", s.programs["gone"], s.programs["away"])
	}
	// It is kept, and comes back.
	s.saved, s.changed = time.Now().Add(-time.Hour), true
	s.end(map[id.Process]bool{away: true})
	var again births
	again.path = s.path
	again.open(strings.TrimSuffix(s.path, "/programs.json"))
	if len(again.programs) != len(s.programs) {
		t.Errorf("%d of %d programs come back", len(again.programs), len(s.programs))
	}
}
