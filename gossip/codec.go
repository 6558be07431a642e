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

	codecVersion = 1
	maxNameBytes = 64
	maxMemoryMiB = math.MaxUint64 >> 20
)

// ErrMalformed says that bytes are no message of this protocol.
var ErrMalformed = errors.New("malformed gossip message")

// Wire format, version 1. Numbers are unsigned varints:
//
//	version 1 | kind 1 | number of entries | entries
//	entry: length of the rest | name 1+n | load | upper | cpus | speed (all in thousandths) | total memory, free memory (MiB) |
//	       guests | away | capability bits | reserve (thousandths) | age (ms)
//
// A later version may put fields behind the last one, in an entry and in the message; they are ignored.

// appendEntry appends e as it travels.
func appendEntry(b []byte, e *Entry) []byte {
	var body [maxNameBytes + 1 + 11*binary.MaxVarintLen64]byte
	n := e.Node[:min(len(e.Node), maxNameBytes)]
	p := append(body[:0], byte(len(n)))
	p = append(p, n...)
	for _, v := range [...]uint64{
		uint64(e.LoadMilli), uint64(e.UpperMilli), uint64(e.CPUMilli), uint64(e.SpeedMilli), e.MemTotal >> 20, e.MemFree >> 20,
		uint64(e.Guests), uint64(e.Away), e.Caps, uint64(e.ReserveMilli), uint64((max(e.Age, 0) + time.Millisecond - 1) / time.Millisecond), // up: no entry grows younger on its way
	} {
		p = binary.AppendUvarint(p, v)
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
	e := Entry{
		Node:      id.Node(name),
		LoadMilli: f.milli(), UpperMilli: f.milli(), CPUMilli: f.milli(), SpeedMilli: f.milli(),
		MemTotal: f.upTo(maxMemoryMiB) << 20, MemFree: f.upTo(maxMemoryMiB) << 20,
		Guests: f.milli(), Away: f.milli(), Caps: f.uvarint(), ReserveMilli: f.milli(),
		Age: time.Duration(f.upTo(math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond,
	}
	if r.bad || f.bad || e.Node == "" {
		r.bad = true
		return Entry{}, false
	}
	return e, true
}
