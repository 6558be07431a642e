package require

import (
	"errors"
	"strings"
	"testing"
)

var big = Node{Name: "big", Numbers: map[string]float64{"cpus": 16, "mem": 64 << 30, "load": 0.5, "speed": 1, "gpus": 2}, Features: []string{"avx512f"}, Tags: []string{"lab"}}
var small = Node{Name: "small", Numbers: map[string]float64{"cpus": 2, "mem": 4 << 30, "load": 0.1, "speed": 2}}

func TestHolds(t *testing.T) {
	for text, want := range map[string][2]bool{
		`cpus>=4 && mem>=8GiB && feature("avx512f") && tag("lab")`: {true, false},
		`load < 1`:                       {true, true},
		`! (cpus > 4)`:                   {false, true},
		`name == "small"`:                {false, true},
		`name != 'small' || load > 7`:    {true, false},
		`cpus * speed / 2 >= 2 + 1`:      {true, false},
		`-load < -0.4`:                   {true, false},
		`gpus >= 1`:                      {true, false},
		`!(gpus >= 1)`:                   {false, false}, // it is not known whether it has one
		`gpus >= 1 || cpus == 2`:         {true, true},
		`gpus < 1 && false`:              {false, false},
		`mem > .5T`:                      {false, false},
		`(((load<1)))&&true`:             {true, true},
		`tag("lab") || tag('x') && cpus`: {},
	} {
		e, err := Parse(text)
		if err != nil {
			if want != ([2]bool{}) {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if got := [2]bool{e.Holds(big), e.Holds(small)}; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestErrorsSayWhere(t *testing.T) {
	for text, want := range map[string]string{
		``:                        "column 1: the expression ends too early",
		`load <`:                  "column 7: the expression ends",
		`load = 1`:                `column 6: "=" means nothing here; did you mean ==?`,
		`cpus >= 4 & mem > 1`:     "column 11",
		`mem >= 8GB`:              `column 9: "GB" is no unit`,
		`feature(avx)`:            "column 9: feature() wants a word",
		`feature("avx"`:           "column 14",
		`colour("red")`:           "column 1: there is no colour()",
		`cpus`:                    "column 1: this is a number, and a condition is wanted",
		`cpus && load < 1`:        "column 1: this is a number; && joins conditions",
		`name > "a"`:              "column 6: a word cannot be compared with >",
		`name == 3`:               "column 6: a word cannot be compared with a number",
		`load < 1 load`:           `column 10: "load" is not expected here`,
		`(load < 1`:               "column 10",
		`tag("x`:                  "column 5: a word begins here",
		`name + 1 < 2`:            "column 6: + wants numbers",
		`1.2.3 < load`:            `column 1: "1.2.3" is no number`,
		`load < 1 ? 2`:            `column 10: "?" means nothing`,
		strings.Repeat("(", 1000): "column 101: too deep",
	} {
		_, err := Parse(text)
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s…", text, err, want)
		}
	}
}

func TestOrder(t *testing.T) {
	for text, want := range map[string]string{"load": "small", "-mem": "big", "speed*cpus": "small", "gpus": "big", "load > 1": "", "load,": "", "load -mem": "small", "name": ""} {
		o, err := ParseOrder(text)
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if ns := []Node{big, small}; want == "" {
			t.Errorf("%s is an order", text)
		} else if o.Sort(ns); text != "load -mem" && ns[0].Name != want {
			t.Errorf("%s: %s first", text, ns[0].Name)
		}
	}
}

func TestIndices(t *testing.T) {
	e, err := Parse("gpus > 1 && temperature < 80 && gpus < 9 && load < 1")
	if err != nil || strings.Join(e.Indices(), " ") != "gpus temperature" {
		t.Errorf("%v, %v", e.Indices(), err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`cpus>=4 && mem>=8GiB && feature("avx512f") || !tag('x')`, "load, -mem", "((((", `"`, "1..2", "\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if e, err := Parse(s); err == nil {
			e.Holds(big)
			e.Holds(Node{})
		}
		if o, err := ParseOrder(s); err == nil {
			o.Sort([]Node{big, small, {}})
		}
	})
}
