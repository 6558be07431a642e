package homeproxy

import (
	"encoding/binary"
	"time"
)

// forever is a timeout beyond which nobody counts; longer ones are taken for none.
const forever = 100 * 365 * 24 * time.Hour

// Timeout returns how long the call of r would wait at most. ok is false where it has no limit, an absolute one, or one that
// is not valid: such a call needs no shortening when it is made again.
func (r *Request) Timeout() (d time.Duration, ok bool) {
	form, cell := r.timeout()
	switch {
	case form == TimeoutMillis:
		ms := int32(uint32(r.Args[Lookup(r.Nr).TimeoutArg]))
		return time.Duration(ms) * time.Millisecond, ms >= 0
	case cell == nil:
		return 0, false
	}
	sec, part := binary.LittleEndian.Uint64(cell), binary.LittleEndian.Uint64(cell[8:])
	unit, per := time.Nanosecond, uint64(time.Second)
	if form == TimeoutTimeval {
		unit, per = time.Microsecond, 1e6
	}
	if sec >= uint64(forever/time.Second) || part >= per {
		return 0, false
	}
	return time.Duration(sec)*time.Second + time.Duration(part)*unit, true
}

// SetTimeout replaces the timeout of a request for which Timeout said ok: for a call that a mere stop has ended with EINTR
// and that is made again for the time that remains. d below 0 counts as 0; parts of a unit are rounded up.
func (r *Request) SetTimeout(d time.Duration) {
	d = max(d, 0)
	form, cell := r.timeout()
	switch {
	case form == TimeoutMillis:
		r.Args[Lookup(r.Nr).TimeoutArg] = uint64((d + time.Millisecond - 1) / time.Millisecond)
	case cell == nil:
	case form == TimeoutTimeval:
		us := uint64((d + time.Microsecond - 1) / time.Microsecond)
		binary.LittleEndian.PutUint64(cell, us/1e6)
		binary.LittleEndian.PutUint64(cell[8:], us%1e6)
	default:
		binary.LittleEndian.PutUint64(cell, uint64(d/time.Second))
		binary.LittleEndian.PutUint64(cell[8:], uint64(d%time.Second))
	}
}

// timeout finds the form of r's relative timeout and, for those in memory, the 16 bytes of it.
func (r *Request) timeout() (TimeoutForm, []byte) {
	row := Lookup(r.Nr)
	form := row.Timeout
	if row.Nr == nrClockNanosleep && r.Args[1]&timerAbstime != 0 {
		form = TimeoutAbs
	}
	switch form {
	case TimeoutTimespec, TimeoutTimeval:
		for _, b := range r.In {
			if uint64(b.Addr) == r.Args[row.TimeoutArg] && len(b.Data) == sizeTimespec {
				return form, b.Data
			}
		}
		return NoTimeout, nil
	case TimeoutMillis:
		return form, nil
	}
	return NoTimeout, nil
}
