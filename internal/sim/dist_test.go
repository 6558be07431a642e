package sim

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// What is drawn has the mean that Mean says.
func TestMeans(t *testing.T) {
	for _, s := range []string{"fixed:3", "exp:8", "pareto:1:1:3600", "pareto:1.5:1:100", "pareto:0.9:0.5:1000", "lognormal:32:1", "lognormal:5:0"} {
		d, err := ParseDist(s, Seconds)
		if err != nil {
			t.Fatal(err)
		}
		if d.String() != s {
			t.Errorf("%s is written as %s", s, d)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		sum := 0.0
		const n = 2_000_000
		for range n {
			v := d.Draw(rng)
			if p, ok := d.(Pareto); ok && (v < p.Lower || v > p.Upper) {
				t.Fatalf("%s: drew %v", s, v)
			}
			sum += v
		}
		if off := math.Abs(sum/n/d.Mean() - 1); off > 0.03 {
			t.Errorf("%s: mean of what is drawn %.4g, Mean %.4g", s, sum/n, d.Mean())
		}
	}
}

func TestParse(t *testing.T) {
	for _, x := range []struct{ s, err string }{
		{"weibull:1", "is not known"}, {"exp", "not a number"}, {"exp:", "\"\""}, {"exp:-1", "is not above 0"}, {"exp:0", "is not above 0"}, {"exp:1:2", "takes 1 numbers, these are 2"},
		{"pareto:1:5:4", "upper bound"}, {"pareto:x:1:2", "\"x\""}, {"lognormal:NaN:1", "is not above 0"}, {"lognormal:5s:-1", "is not above 0"}, {"exp:1 fortnight", "is no time"},
	} {
		_, err := ParseDist(x.s, Seconds)
		if x.err == "not a number" {
			if err == nil {
				t.Errorf("%q is read", x.s)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), x.err) {
			t.Errorf("%q: %v, want %q", x.s, err, x.err)
		}
	}
	if d, err := ParseDist("lognormal:32MiB:1", Bytes); err != nil || d != (LogNormal{32 << 20, 1}) {
		t.Errorf("%v, %v", d, err)
	}
	if d, err := ParseDist("exp:500ms", Seconds); err != nil || d != Exp(0.5) {
		t.Errorf("%v, %v", d, err)
	}
	d, err := ParseValues("f", "# seconds\n1\n\n 3 \n", Seconds)
	if err != nil || d.Mean() != 2 {
		t.Errorf("%v, %v", d, err)
	}
	for _, text := range []string{"", "# nothing\n", "1\nx\n", "0\n"} {
		if _, err := ParseValues("f", text, Seconds); err == nil || !strings.Contains(err.Error(), "f") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What cannot be played is refused, with what is wrong.
func TestRefused(t *testing.T) {
	for want, c := range map[string]Config{
		"rho": {Rho: 1}, "warmup": {Warmup: 1}, "loss": {Loss: 2}, "policy": {Policy: "best"}, "nodes": {Nodes: -1}, "speeds": {Speeds: []float64{0}},
		"bandwidth": {Bandwidth: -1}, "memories": {RAM: []uint64{0}},
	} {
		if _, err := Run(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
