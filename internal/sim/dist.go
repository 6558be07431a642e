package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Dist is a distribution of positive numbers.
type Dist interface {
	Draw(rng *rand.Rand) float64
	Mean() float64
	String() string // as Parse reads it
}

// Fixed is always the same number.
type Fixed float64

// Draw implements Dist.
func (d Fixed) Draw(*rand.Rand) float64 { return float64(d) }

// Mean implements Dist.
func (d Fixed) Mean() float64  { return float64(d) }
func (d Fixed) String() string { return "fixed:" + number(float64(d)) }

// Exp is the exponential distribution of that mean.
type Exp float64

// Draw implements Dist.
func (d Exp) Draw(rng *rand.Rand) float64 { return rng.ExpFloat64() * float64(d) }

// Mean implements Dist.
func (d Exp) Mean() float64  { return float64(d) }
func (d Exp) String() string { return "exp:" + number(float64(d)) }

// Pareto is the bounded Pareto distribution: what lies between Lower and Upper of one whose tail falls with x^-Shape. Lifetimes of
// UNIX processes have a shape near 1 (Harchol-Balter and Downey 1997).
type Pareto struct{ Shape, Lower, Upper float64 }

// Draw implements Dist, by the inverse of the distribution function.
func (d Pareto) Draw(rng *rand.Rand) float64 {
	below := 1 - math.Pow(d.Lower/d.Upper, d.Shape)
	return d.Lower / math.Pow(1-rng.Float64()*below, 1/d.Shape)
}

// Mean implements Dist.
func (d Pareto) Mean() float64 {
	below := 1 - math.Pow(d.Lower/d.Upper, d.Shape)
	if d.Shape == 1 {
		return d.Lower * math.Log(d.Upper/d.Lower) / below
	}
	a := d.Shape
	return math.Pow(d.Lower, a) / below * a / (a - 1) * (math.Pow(d.Lower, 1-a) - math.Pow(d.Upper, 1-a))
}

func (d Pareto) String() string {
	return "pareto:" + number(d.Shape) + ":" + number(d.Lower) + ":" + number(d.Upper)
}

// LogNormal has the median Median; its logarithm has the standard deviation Sigma.
type LogNormal struct{ Median, Sigma float64 }

// Draw implements Dist.
func (d LogNormal) Draw(rng *rand.Rand) float64 {
	return d.Median * math.Exp(d.Sigma*rng.NormFloat64())
}

// Mean implements Dist.
func (d LogNormal) Mean() float64 { return d.Median * math.Exp(d.Sigma*d.Sigma/2) }

func (d LogNormal) String() string { return "lognormal:" + number(d.Median) + ":" + number(d.Sigma) }

// Empirical draws from what was measured, each value equally often.
type Empirical struct {
	Name   string
	Values []float64
}

// Draw implements Dist.
func (d Empirical) Draw(rng *rand.Rand) float64 { return d.Values[rng.IntN(len(d.Values))] }

// Mean implements Dist.
func (d Empirical) Mean() float64 {
	sum := 0.0
	for _, v := range d.Values {
		sum += v
	}
	return sum / float64(len(d.Values))
}

func (d Empirical) String() string { return "file:" + d.Name }

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// ParseDist reads a distribution: fixed:V, exp:MEAN, pareto:SHAPE:LOWER:UPPER or lognormal:MEDIAN:SIGMA. value reads a number of its
// kind, such as Seconds or Bytes; shapes and sigmas are plain numbers. (file:PATH is read by who may read files, with ParseValues.)
func ParseDist(s string, value func(string) (float64, error)) (Dist, error) {
	kind, rest, _ := strings.Cut(s, ":")
	args := strings.Split(rest, ":")
	plain := func(t string) (float64, error) { return strconv.ParseFloat(t, 64) }
	form := map[string][]func(string) (float64, error){
		"fixed": {value}, "exp": {value}, "pareto": {plain, value, value}, "lognormal": {value, plain},
	}
	readers, ok := form[kind]
	if !ok {
		return nil, fmt.Errorf("distribution %q: %q is not known: want fixed:V, exp:MEAN, pareto:SHAPE:LOWER:UPPER, lognormal:MEDIAN:SIGMA or file:PATH", s, kind)
	}
	if len(args) != len(readers) {
		return nil, fmt.Errorf("distribution %q: %s takes %d numbers, these are %d", s, kind, len(readers), len(args))
	}
	v := make([]float64, len(args))
	for i, read := range readers {
		var err error
		if v[i], err = read(args[i]); err != nil {
			return nil, fmt.Errorf("distribution %q: %q: %w", s, args[i], err)
		}
		if !(v[i] > 0) || math.IsInf(v[i], 1) {
			if kind != "lognormal" || i != 1 || v[i] != 0 {
				return nil, fmt.Errorf("distribution %q: %q is not above 0", s, args[i])
			}
		}
	}
	switch kind {
	case "fixed":
		return Fixed(v[0]), nil
	case "exp":
		return Exp(v[0]), nil
	case "lognormal":
		return LogNormal{v[0], v[1]}, nil
	}
	if v[2] <= v[1] {
		return nil, fmt.Errorf("distribution %q: the upper bound is not above the lower one", s)
	}
	return Pareto{v[0], v[1], v[2]}, nil
}

// ParseValues reads the numbers of a file, one in each line; empty lines and those that begin with # are left out.
func ParseValues(name, text string, value func(string) (float64, error)) (Empirical, error) {
	d := Empirical{Name: name}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		v, err := value(line)
		if err == nil && !(v > 0) {
			err = fmt.Errorf("%q is not above 0", line)
		}
		if err != nil {
			return d, fmt.Errorf("%s, line %d: %w", name, n, err)
		}
		d.Values = append(d.Values, v)
	}
	if len(d.Values) == 0 {
		return d, fmt.Errorf("%s has no numbers", name)
	}
	return d, nil
}

// Seconds reads a time: a plain number of seconds, or with a unit as Go writes durations.
func Seconds(s string) (float64, error) {
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		return v, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time: want seconds, or a number with a unit such as 50ms", s)
	}
	return d.Seconds(), nil
}

// Bytes reads a size: a plain number of bytes, or with KiB, MiB, GiB or TiB.
func Bytes(s string) (float64, error) {
	t, factor := s, 1.0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if u, ok := strings.CutSuffix(s, unit); ok {
			t, factor = u, math.Exp2(float64(10*(i+1)))
		}
	}
	v, err := strconv.ParseFloat(t, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no size: want bytes, or a number with KiB, MiB, GiB or TiB", s)
	}
	return v * factor, nil
}
