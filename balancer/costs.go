package balancer

import (
	"math"
	"time"
)

// Costs is what a move costs the process that moves: c = Fixed + bytes / Bandwidth, learnt from past moves.
type Costs struct {
	Fixed     time.Duration
	Bandwidth float64 // bytes per second
	fit       fit
}

// Limits of what is believed: outliers must neither forbid moving for ever nor make it look free.
const (
	minFixed     = 5 * time.Millisecond
	maxFixed     = 5 * time.Second
	minBandwidth = 1 << 20
	maxBandwidth = 100 << 30
)

// forget is the weight of all earlier moves when one more is learnt: about the last twenty count.
const forget = 0.95

// fit holds the weighted sums of a linear regression of seconds (y) over bytes (x).
type fit struct{ w, x, y, xx, xy float64 }

func (f *fit) add(x, y, weight float64) {
	f.w += weight
	f.x += weight * x
	f.y += weight * y
	f.xx += weight * x * x
	f.xy += weight * x * y
}

// DefaultCosts are assumed until moves have been measured.
func DefaultCosts() Costs {
	c := Costs{Fixed: 50 * time.Millisecond, Bandwidth: 200 << 20}
	// The assumption enters the regression as two moves, so that the slope is defined from the first measurement on.
	for _, bytes := range []float64{0, 64 << 20} {
		c.fit.add(bytes, c.Fixed.Seconds()+bytes/c.Bandwidth, 1)
	}
	return c
}

// Of is the cost of moving that many bytes.
func (c Costs) Of(bytes uint64) time.Duration {
	s := c.Fixed.Seconds()
	if c.Bandwidth > 0 {
		s += float64(bytes) / c.Bandwidth
	}
	return time.Duration(s * float64(time.Second))
}

// Learn takes a measured move into account: the bytes that travelled and the time that it took.
func (c *Costs) Learn(bytes uint64, took time.Duration) {
	if took <= 0 {
		return
	}
	f := &c.fit
	f.w, f.x, f.y, f.xx, f.xy = f.w*forget, f.x*forget, f.y*forget, f.xx*forget, f.xy*forget
	f.add(float64(bytes), took.Seconds(), 1)
	slope := 0.0
	if d := f.w*f.xx - f.x*f.x; d > 0 {
		slope = (f.w*f.xy - f.x*f.y) / d
	}
	slope = math.Min(1.0/minBandwidth, math.Max(1.0/maxBandwidth, slope))
	c.Bandwidth = 1 / slope
	fixed := time.Duration((f.y - slope*f.x) / f.w * float64(time.Second))
	c.Fixed = min(maxFixed, max(minFixed, fixed))
}
