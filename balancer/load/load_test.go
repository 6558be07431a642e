package load

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mosix/internal/id"
)

func TestFilters(t *testing.T) {
	tests := []struct {
		name          string
		in            []float64
		own, exported []float64
	}{
		{"rises", []float64{8, 8, 8}, []float64{3, 4.875, 6.046875}, []float64{8, 8, 8}},
		{"falls", []float64{8, 0, 0}, []float64{3, 0, 0}, []float64{8, 7, 6.125}},
		{"burst", []float64{0, 16, 0, 0}, []float64{0, 6, 0, 0}, []float64{0, 16, 14, 12.25}},
		{"pause", []float64{4, 4, 0, 4}, []float64{1.5, 2.4375, 0, 1.5}, []float64{4, 4, 3.5, 4}},
		{"broken measurements count as none", []float64{math.NaN(), -1, math.Inf(1), 8}, []float64{0, 0, 0, 3}, []float64{0, 0, 0, 8}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var own Own
			var exp Exported
			for i, l := range tt.in {
				if got := own.Add(l); math.Abs(got-tt.own[i]) > 1e-9 {
					t.Errorf("own view after %v = %g, want %g", tt.in[:i+1], got, tt.own[i])
				}
				if got := exp.Add(l); math.Abs(got-tt.exported[i]) > 1e-9 {
					t.Errorf("exported view after %v = %g, want %g", tt.in[:i+1], got, tt.exported[i])
				}
			}
		})
	}
}

func TestCapacity(t *testing.T) {
	tests := []struct {
		name                string
		c                   Capacity
		value, alone, load3 float64 // load3: slowdown where three processes run
	}{
		{"unknown is one standard processor", Capacity{}, 1, 1, 3},
		{"half a processor", Capacity{CPUs: 0.5}, 0.5, 2, 6},
		{"two processors", Capacity{CPUs: 2, Speed: 1}, 2, 1, 1.5},
		{"eight processors serve three at once", Capacity{CPUs: 8, Speed: 1}, 8, 1, 1},
		{"eight fast ones faster", Capacity{CPUs: 8, Speed: 2}, 16, 0.5, 0.5},
		{"one slow one", Capacity{CPUs: 1, Speed: 0.5}, 0.5, 2, 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.c.Value(); got != tt.value {
				t.Errorf("Value = %g, want %g", got, tt.value)
			}
			if got := tt.c.Alone(); got != tt.alone {
				t.Errorf("Alone = %g, want %g", got, tt.alone)
			}
			if got := tt.c.Slowdown(tt.c.Of(3)); got != tt.load3 {
				t.Errorf("slowdown of three = %g, want %g", got, tt.load3)
			}
		})
	}
}

var (
	p1 = id.Process{Home: "n1", PID: 101}
	p2 = id.Process{Home: "n1", PID: 102}
)

// A process that arrives in the middle of a period counts exactly once at every moment: before, while and after the
// measurement takes it over.
func TestPromiseIsTakenOver(t *testing.T) {
	m := Meter{Capacity: Capacity{CPUs: 0.5}}
	steps := []struct {
		name   string
		do     func()
		now    time.Duration
		expect float64 // True
		bytes  uint64
	}{
		{"idle", func() { m.Sample(0, 1*time.Second) }, 1 * time.Second, 0, 0},
		{"accepted", func() { m.Promise(p1, 1, 100, 1100*time.Millisecond) }, 1100 * time.Millisecond, 2, 100},
		{"accepted twice", func() { m.Promise(p1, 1, 100, 1100*time.Millisecond) }, 1100 * time.Millisecond, 2, 100},
		{"not here at the next sample", func() { m.Sample(0, 2*time.Second) }, 2 * time.Second, 2, 100},
		{"arrived", func() { m.Arrived(p1, 2250*time.Millisecond) }, 2250 * time.Millisecond, 2, 0},
		{"measured for three quarters", func() { m.Sample(1.5, 3*time.Second) }, 3 * time.Second, 2, 0},
		{"another one", func() { m.Promise(p2, 1, 50, 3*time.Second) }, 3100 * time.Millisecond, 4, 50},
		{"the other one aborts", func() { m.Cancel(p2) }, 3200 * time.Millisecond, 2, 0},
		{"measured in full", func() { m.Sample(2, 4*time.Second) }, 4 * time.Second, 2, 0},
		{"ended", func() { m.Sample(0, 5*time.Second) }, 5 * time.Second, 0, 0},
	}
	for _, s := range steps {
		s.do()
		if got := m.True(s.now); math.Abs(got-s.expect) > 1e-9 {
			t.Errorf("%s: True = %g, want %g", s.name, got, s.expect)
		}
		if got := m.PromisedBytes(s.now); got != s.bytes {
			t.Errorf("%s: PromisedBytes = %d, want %d", s.name, got, s.bytes)
		}
	}
}

func TestPromiseExpires(t *testing.T) {
	var m Meter
	m.Sample(0, time.Second)
	m.Promise(p1, 2, 1<<20, time.Second)
	if got := m.Exported(time.Second + Hold - 1); got != 2 {
		t.Errorf("exported just before the promise expires = %g, want 2", got)
	}
	if got := m.Exported(time.Second + Hold); got != 0 {
		t.Errorf("exported when it has expired = %g, want 0", got)
	}
	m.Sample(0, time.Second+Hold)
	if len(m.in) != 0 {
		t.Errorf("%d promises are kept for ever", len(m.in))
	}
}

// Deciding again right after a departure must not count the process that went: that would send one too many.
func TestDepartureCountsAtOnce(t *testing.T) {
	m := Meter{Capacity: Capacity{CPUs: 0.5}}
	for i := 1; i <= 40; i++ { // until the slow view has caught up
		m.Sample(18, time.Duration(i)*time.Second)
	}
	if got := m.Mean(40 * time.Second); math.Abs(got-18) > 1e-6 {
		t.Fatalf("mean = %g, want 18", got)
	}
	m.Leaving(p1, 1, 40*time.Second)
	m.Leaving(p2, 1, 40*time.Second)
	if got := m.Mean(40 * time.Second); math.Abs(got-14) > 1e-6 {
		t.Errorf("mean with two on their way = %g, want 14", got)
	}
	m.Stays(p2)
	m.Left(p1, 40*time.Second+500*time.Millisecond)
	m.Sample(17, 41*time.Second) // p1 was here for half of it
	if got := m.Mean(41 * time.Second); math.Abs(got-16) > 1e-6 {
		t.Errorf("mean after one left in the middle of the period = %g, want 16", got)
	}
	if got := m.True(41 * time.Second); math.Abs(got-16) > 1e-6 {
		t.Errorf("true load after one left in the middle of the period = %g, want 16", got)
	}
	m.Sample(16, 42*time.Second)
	m.Sample(16, 43*time.Second)
	if got := m.Mean(43 * time.Second); got != 16 || len(m.out) != 0 {
		t.Errorf("mean = %g with %d departures kept, want 16 and none", got, len(m.out))
	}
}

// The invariant of the package, whatever happens in which order.
func TestViewsErrOnTheSafeSide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Meter{Capacity: Capacity{CPUs: rapid.Float64Range(0.1, 16).Draw(t, "cpus")}}
		var now time.Duration
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond
			p := id.Process{Home: "n1", PID: id.HomePID(rapid.IntRange(1, 5).Draw(t, "pid"))}
			switch rapid.IntRange(0, 6).Draw(t, "verb") {
			case 0, 1:
				m.Sample(rapid.Float64Range(0, 50).Draw(t, "load"), now)
			case 2:
				m.Promise(p, 1, 1, now)
			case 3:
				m.Arrived(p, now)
			case 4:
				m.Cancel(p)
			case 5:
				m.Leaving(p, 1, now)
			case 6:
				m.Left(p, now)
			}
			measured, promised := m.Measured().Load, m.Promised(now)
			if e := m.Exported(now); e < measured+promised-1e-9 {
				t.Fatalf("exported %g is below measured %g + promised %g", e, measured, promised)
			}
			if o := m.Mean(now); o < 0 || o > measured+1e-9 {
				t.Fatalf("own view %g is not between 0 and measured %g", o, measured)
			}
			if tr := m.True(now); tr < 0 || tr > measured+promised+1e-9 {
				t.Fatalf("true load %g is not between 0 and measured %g + promised %g", tr, measured, promised)
			}
			if len(m.in) > 5 || len(m.out) > 5 {
				t.Fatalf("%d promises and %d departures of 5 processes", len(m.in), len(m.out))
			}
		}
	})
}
