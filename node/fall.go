package node

import "time"

// fall follows how free memory becomes less: a process that grows is sent away while there is still time for its move.
type fall struct {
	free uint64
	last [2]float64 // bytes per second, in the last two periods
}

// add takes the free memory at the end of a period. expected says that somebody is on the way here, whose memory has a place already.
func (f *fall) add(free uint64, period time.Duration, expected bool) {
	rate := 0.0
	if period > 0 && !expected && free < f.free {
		rate = float64(f.free-free) / period.Seconds()
	}
	f.free, f.last = free, [2]float64{f.last[1], rate}
}

// rate is how many bytes per second have been lost in each of the last two periods, at least: what falls once says nothing.
func (f *fall) rate() uint64 { return uint64(min(f.last[0], f.last[1])) }
