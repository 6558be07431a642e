// Package wire is the form in which agents speak with each other: length, type, epoch, payload. Its one invariant: numbers on
// the wire are written here, one by one, and never change their meaning; bytes after the end of a known payload are ignored.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"mosix/internal/id"
	"mosix/internal/pack"
)

// Versions of the protocol that this agent speaks, both inclusive.
//
// History:
//
//	1  2026-11  first
//	2  2026-11  Masks, Pends; Attached has the signals of signalfds at its end, Signal whether it is for one thread
//	3  2026-11  File; areas say of which object they are parts; Grant has home's realtime, Usage and Died what was used away, at their ends
//	4  2026-11  Member; Offer has the others of a family at its end
//	5  2026-11  Attached says at its end that its lease is short: the host asks for the long one, and says that it has it, before anything else
//	6  2026-11  Offer says whether memory is short; a result that shows a part of /proc/PID/status has all of it besides; images of form 7
//	7  2026-11  Usage says at its end how the guest talks with home
const (
	MinVersion = 6
	MaxVersion = 7
)

// MaxFrame is the largest payload, in bytes.
const MaxFrame = 8 << 20

// Type is what a frame means.
type Type uint8

// Frames of a move, from source to target unless said otherwise.
const (
	Hello    Type = 1  // both ways, first: version range
	Offer    Type = 2  // what would come
	Accept   Type = 3  // target: a place is reserved
	Refuse   Type = 4  // target: no, with reasons
	Ping     Type = 5  // source
	Pong     Type = 6  // target's clocks
	Prepare  Type = 7  // build the empty process
	Prepared Type = 8  // target: done
	Layout   Type = 9  // areas, and ranges to empty
	Pages    Type = 10 // memory
	RoundEnd Type = 11
	RoundAck Type = 12 // target: everything before RoundEnd is in place
	Final    Type = 13 // the image
	Ready    Type = 14 // target: only Run is missing
	Commit   Type = 15 // the one irreversible message
	Running  Type = 16 // target: it runs here
	Abort    Type = 17 // either: it stays, or goes on, where it was
	Beat     Type = 18 // either, again and again: this agent lives and the way is open
	File     Type = 19 // how long an object is of which the process has parts, and some of its content
	Member   Type = 20 // of which member of the family the next Prepare, Layout, Pages and File are; the first at the beginning
)

// Frames of a guest's service; the host dials.
const (
	Attach   Type = 32 // host: which guest
	Attached Type = 33 // home
	Call     Type = 34 // host: a forwarded call
	Result   Type = 35 // home: its result
	Signal   Type = 36 // home: a signal that reached the shadow
	Cancel   Type = 37 // host: end call seq of a thread, with a definite outcome
	Lease    Type = 38 // host: asks for renewal
	Grant    Type = 39 // home: renewed, from the moment the host asked
	Died     Type = 40 // host: the guest ended with this wait status
	Stop     Type = 41 // home: the shadow was stopped (1) or continued (0)
	Recall   Type = 42 // home: bring it home
	Kill     Type = 43 // home: the process is no more
	Usage    Type = 44 // host: CPU time used so far
	Hold     Type = 45 // host: signals stay in the shadow's ring from now on (1), or no longer (0)
	Held     Type = 46 // home: so it is; every Signal before this frame was sent before
	Masks    Type = 56 // host: what the guest's threads block, and signals that pend at home again
	Pends    Type = 57 // home: signals pend in the shadow, for its threads block what the guest was last known to block
)

// ErrVersion says that two agents share no version.
var ErrVersion = errors.New("the two agents share no version of the protocol")

// Frame is one message.
type Frame struct {
	Type    Type
	Epoch   id.Epoch
	Payload []byte
}

const headBytes = 4 + 1 + 8

// Append adds the frame's bytes to b.
func (f Frame) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Payload)))
	b = append(b, byte(f.Type))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.Epoch))
	return append(b, f.Payload...)
}

// Head is the part of Append before the payload, for senders that write both at once.
func (f Frame) Head() [headBytes]byte {
	var h [headBytes]byte
	binary.LittleEndian.PutUint32(h[:], uint32(len(f.Payload)))
	h[4] = byte(f.Type)
	binary.LittleEndian.PutUint64(h[5:], uint64(f.Epoch))
	return h
}

// Read takes one frame from r.
func Read(r io.Reader) (Frame, error) {
	return ReadInto(r, func(n int) []byte { return make([]byte, n) })
}

// ReadInto is Read; the payload is put into what space gives for its length.
func ReadInto(r io.Reader, space func(n int) []byte) (Frame, error) {
	var h [headBytes]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	n := binary.LittleEndian.Uint32(h[:])
	f := Frame{Type: Type(h[4]), Epoch: id.Epoch(binary.LittleEndian.Uint64(h[5:]))}
	if n > MaxFrame {
		return f, fmt.Errorf("a frame of type %d announces %d bytes, the limit is %d", f.Type, n, MaxFrame)
	}
	if n > 0 {
		f.Payload = space(int(n))
		if _, err := io.ReadFull(r, f.Payload); err != nil {
			return f, err
		}
	}
	return f, nil
}

// HelloPayload is this agent's range of versions.
func HelloPayload() []byte {
	w := &pack.Writer{}
	w.U32(MinVersion)
	w.U32(MaxVersion)
	return w.B
}

// Agree returns the highest version that both sides speak.
func Agree(hello []byte) (uint32, error) {
	r := pack.NewReader(hello)
	lo, hi := r.U32(), r.U32()
	if r.Err() != nil {
		return 0, fmt.Errorf("a first frame that cannot be read: %w", r.Err())
	}
	v := min(hi, MaxVersion)
	if v < lo || v < MinVersion {
		return 0, fmt.Errorf("%w: here %d to %d, there %d to %d; bring both to the same release", ErrVersion, MinVersion, MaxVersion, lo, hi)
	}
	return v, nil
}
