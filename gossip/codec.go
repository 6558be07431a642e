package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"mosix/internal/id"
)

const (
	// MaxMessageBytes bounds an encoded message, so that it stays under 1,400 bytes with the signature and the encryption
	// that its carrier adds.
	MaxMessageBytes = 1220

	codecVersion = 2
	maxNameBytes = 64
	maxMemoryMiB = math.MaxUint64 >> 20
)

// ErrMalformed says that bytes are no message of this protocol.
var ErrMalformed = errors.New("malformed gossip message")

// Wire format, version 2. Numbers are unsigned varints:
//
//	version 1 | kind 1 | number of entries | entries
//	entry: length of the rest | name 1+n | parts 1 | load | total memory, free memory (MiB) | age (10 ms), and of
//	       upper | cpus | speed | guests | away | capability bits | reserve    those that parts has, bit 0 to bit 6
//
// What parts does not have is as usual: upper as load, one processor of speed 1, and none of the rest. Loads, processors and speeds are in
// thousandths. A number of those and of memory whose last digits are zeros is sent without them: see short.
// A later version may put fields behind the last one, in an entry and in the message; they are ignored.

// Parts of an entry.
const (
	hasUpper = 1 << iota
	hasCPUs
	hasSpeed
	hasGuests
	hasAway
	hasCaps
	hasReserve
)

// short gives v, or v by unit where nothing is left of it, and in its last bit which: thousandths that are hundredths are a byte shorter.
func short(v, unit uint64) uint64 {
	if v%unit == 0 {
		return v / unit << 1
	}
	return v<<1 | 1
}

// Units of what is short.
const (
	unitLoad   = 10   // thousandths
	unitCPU    = 1000 // thousandths
	unitMemory = 16   // MiB
	unitAge    = 10 * time.Millisecond
)

// appendEntry appends e as it travels.
func appendEntry(b []byte, e *Entry) []byte {
	var body [maxNameBytes + 2 + 11*binary.MaxVarintLen64]byte
	n := e.Node[:min(len(e.Node), maxNameBytes)]
	p := append(body[:0], byte(len(n)))
	p = append(p, n...)
	at := len(p)
	p = append(p, 0)
	for _, v := range [...]uint64{
		short(uint64(e.LoadMilli), unitLoad), short(e.MemTotal>>20, unitMemory), short(e.MemFree>>20, unitMemory),
		uint64((max(e.Age, 0) + unitAge - 1) / unitAge), // up: no entry grows younger on its way
	} {
		p = binary.AppendUvarint(p, v)
	}
	for i, x := range [...]struct{ v, usual, sent uint64 }{
		{uint64(e.UpperMilli), uint64(e.LoadMilli), short(uint64(e.UpperMilli), unitLoad)},
		{uint64(e.CPUMilli), 1000, short(uint64(e.CPUMilli), unitCPU)},
		{uint64(e.SpeedMilli), 1000, short(uint64(e.SpeedMilli), unitLoad)},
		{uint64(e.Guests), 0, uint64(e.Guests)},
		{uint64(e.Away), 0, uint64(e.Away)},
		{e.Caps, 0, e.Caps},
		{uint64(e.ReserveMilli), 0, short(uint64(e.ReserveMilli), unitLoad)},
	} {
		if x.v != x.usual {
			p[at] |= 1 << i
			p = binary.AppendUvarint(p, x.sent)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

// Encode gives m as it travels: at most MaxMessageBytes, with as many of its entries, in their order, as that holds.
func (m Message) Encode() []byte {
	body := make([]byte, 0, MaxMessageBytes)
	n := 0
	for i := range m.Entries {
		longer := appendEntry(body, &m.Entries[i])
		if len(longer) > MaxMessageBytes-headerBytes {
			break
		}
		body, n = longer, n+1
	}
	b := append(make([]byte, 0, len(body)+headerBytes), codecVersion, byte(m.Kind))
	b = binary.AppendUvarint(b, uint64(n))
	return append(b, body...)
}

const headerBytes = 2 + 2 // a vector of 64 entries needs one byte of count; two allow for thousands

// Decode reads what Encode wrote.
func Decode(b []byte) (Message, error) {
	if len(b) < 3 || len(b) > math.MaxUint16 {
		return Message{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	if b[0] != codecVersion {
		return Message{}, fmt.Errorf("%w: version %d, this node reads %d", ErrMalformed, b[0], codecVersion)
	}
	m := Message{Kind: Kind(b[1])}
	if m.Kind < KindPush || m.Kind > KindUrgent {
		return Message{}, fmt.Errorf("%w: kind %d", ErrMalformed, b[1])
	}
	r := reader{b: b[2:]}
	count := r.uvarint()
	if count > uint64(len(r.b)) { // an entry has more bytes than one
		return Message{}, fmt.Errorf("%w: %d entries in %d bytes", ErrMalformed, count, len(r.b))
	}
	for range count {
		e, ok := r.entry()
		if !ok {
			return Message{}, fmt.Errorf("%w: bad entry", ErrMalformed)
		}
		m.Entries = append(m.Entries, e)
	}
	if r.bad {
		return Message{}, ErrMalformed
	}
	return m, nil
}

// reader takes values from the front of b; bad sticks.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// upTo reads a number that is not above limit.
func (r *reader) upTo(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) milli() uint32 { return uint32(r.upTo(math.MaxUint32)) }

// short reads what the function of that name gave, up to limit.
func (r *reader) short(unit, limit uint64) uint64 {
	v := r.uvarint()
	exact, v := v&1 != 0, v>>1
	if !exact {
		if v > limit/unit {
			r.bad = true
			return 0
		}
		return v * unit
	}
	if v > limit || v%unit == 0 { // there is one way to send a number
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) shortMilli(unit uint64) uint32 { return uint32(r.short(unit, math.MaxUint32)) }

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) entry() (Entry, bool) {
	f := reader{b: r.take(r.uvarint())}
	name := f.take(f.upTo(maxNameBytes)) // one byte: the limit is below 128
	parts := byte(0)
	if p := f.take(1); p != nil {
		parts = p[0]
	}
	e := Entry{
		Node: id.Node(name), LoadMilli: f.shortMilli(unitLoad), MemTotal: f.short(unitMemory, maxMemoryMiB) << 20, MemFree: f.short(unitMemory, maxMemoryMiB) << 20,
		Age: time.Duration(f.upTo(math.MaxInt64/uint64(unitAge))) * unitAge, CPUMilli: 1000, SpeedMilli: 1000,
	}
	e.UpperMilli = e.LoadMilli
	for _, x := range [...]struct {
		part byte
		into *uint32
		unit uint64
	}{{hasUpper, &e.UpperMilli, unitLoad}, {hasCPUs, &e.CPUMilli, unitCPU}, {hasSpeed, &e.SpeedMilli, unitLoad}} {
		if parts&x.part != 0 {
			*x.into = f.shortMilli(x.unit)
		}
	}
	if parts&hasGuests != 0 {
		e.Guests = f.milli()
	}
	if parts&hasAway != 0 {
		e.Away = f.milli()
	}
	if parts&hasCaps != 0 {
		e.Caps = f.uvarint()
	}
	if parts&hasReserve != 0 {
		e.ReserveMilli = f.shortMilli(unitLoad)
	}
	if r.bad || f.bad || e.Node == "" {
		r.bad = true
		return Entry{}, false
	}
	return e, true
}
