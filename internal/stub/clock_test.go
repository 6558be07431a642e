package stub

import (
	"testing"

	"pgregory.net/rapid"
)

// TestClockNeverGoesBack follows a home whose clock drifts, is set forward and backward, and reads the guest's clock all the
// time: it never goes back, and comes to what home says.
func TestClockNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := int64(5e12)
		line := ClockLine{Offset: 1_700_000_000e9}
		want := line.Offset
		last := m + line.At(m)
		read := func() {
			if now := m + line.At(m); now < last {
				t.Fatalf("at %d the clock goes back by %d ns: %+v", m, last-now, line)
			} else {
				last = now
			}
		}
		for range rapid.IntRange(1, 25).Draw(t, "updates") {
			want += rapid.SampledFrom([]int64{0, 400_000, -400_000, 40_000_000, -90_000_000, 3e9, -2e9, 1, -1}).Draw(t, "home")
			for range rapid.IntRange(0, 5).Draw(t, "reads") {
				m += rapid.Int64Range(1, 8e8).Draw(t, "later")
				read()
			}
			next := line.Next(m, want)
			if next.Offset != want && next.At(next.Base-1) < line.At(next.Base-1)-1 {
				t.Fatalf("%+v does not go on where %+v is", next, line)
			}
			line = next
			for range 20 { // around the place where it begins
				m += rapid.Int64Range(1, 200_000).Draw(t, "soon")
				read()
			}
		}
		for range 12 {
			m += 9e9
			read()
			line = line.Next(m, want)
		}
		m += 9e9
		if d := line.At(m) - want; d > 10 || d < -10 {
			t.Fatalf("the clock is %d ns off although home's has not changed", d)
		}
	})
}

// TestClockOfAStoppedThread: one that has looked at its clock an hour before the line that it finds is not sent anywhere.
func TestClockOfAStoppedThread(t *testing.T) {
	l := ClockLine{Base: 1e16, Span: 1 << 33, Offset: 5, Rate: 1 << 27, Before: 1 << 27}
	if got := l.At(1e16 - 3600e9); got != 5 {
		t.Errorf("it is %d off", got)
	}
	if got := l.At(1e16 + 3600e9); got != 5+1<<32 {
		t.Errorf("after the span it is %d", got)
	}
}
