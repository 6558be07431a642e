package stub

// ClockLine is how a guest's realtime follows from its monotonic clock m, in nanoseconds:
//
//	m + Offset + (max(m-Base, …), at most Span) * Rate / 2^ClockBits
//
// with Before in place of Rate for m below Base, so that a line begins where the last one is just then, and a clock that is
// slewed never jumps. After Span it stands at what it was slewed to, also when no agent is there any more.
type ClockLine struct {
	Base, Span, Offset, Rate, Before int64
	_                                [3]int64
}

// ClockBits is the scale of a rate, and clockReach how far below Base a line is looked at: a thread may have been stopped
// between reading its clock and looking, however long.
const (
	ClockBits  = 28
	clockReach = 1 << 31
)

// At is the difference of realtime to the monotonic clock at m. The assembly computes the same.
func (l *ClockLine) At(m int64) int64 {
	d, rate := m-l.Base, l.Rate
	if d < 0 {
		rate = l.Before
	}
	if d < -clockReach {
		d = 0
	}
	d = min(d, l.Span)
	return l.Offset + d*rate>>ClockBits
}

// ClockNear is how long before its beginning a line must have been written, in ns: who has read the old one beyond that would see
// the clock go back.
const ClockNear = 1e6

// ClockSettles is when a correction that is under way has ended, in ns, except for a large one.
const ClockSettles = clockLead + clockFast

// Limits of a correction.
const (
	clockLead   = 2e7 // ns: a new line begins that much later, so that nobody is on it while it is written
	clockFast   = 2e9 // ns: what is to be corrected is spread over this time
	ClockJump   = 1e8 // ns: what is more behind than this jumps, as a clock that is set
	clockSlowly = 2   // a clock that is ahead runs at half its speed at the slowest
)

// Next is the line that leads from l to the difference want, at the time m of the monotonic clock. It never goes back: where
// the clock is ahead it is slowed down until it is right.
func (l *ClockLine) Next(m, want int64) ClockLine {
	if m < l.Base { // it has not even begun
		return *l
	}
	at := m + clockLead
	end := l.Base + l.Span
	n := ClockLine{Base: at}
	switch {
	case end >= at:
		n.Before = l.Rate
	case end > m: // the rate changes on the way: begin where it does
		n.Base, n.Before = end, l.Rate
	}
	n.Offset = l.At(n.Base)
	diff := want - n.Offset
	if diff > ClockJump {
		return ClockLine{Base: m, Offset: want}
	}
	n.Span = clockFast
	if diff < 0 {
		n.Span = max(n.Span, -diff*clockSlowly)
	}
	n.Span = min(n.Span, 1<<33) // so that the product fits: a large difference takes several lines
	n.Rate = max(min(int64(float64(diff)/float64(n.Span)*(1<<ClockBits)), 1<<(ClockBits-1)), -1<<(ClockBits-1))
	return n
}
