package homeproxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"mosix/internal/mem"
)

// The form of requests and results on the wire: unsigned varints (results zigzag), each blob as address, length, bytes.
// What follows the last field is ignored, so that a later version can add to the end.

const (
	maxBlobs   = 8192    // more than any call has: 1024 messages with four parts each
	maxPayload = 2 << 20 // bytes of all blobs together; a slot holds MaxData

	// MaxFrame is the longest request or result on the wire, in bytes.
	MaxFrame = maxPayload + maxBlobs*20 + 128
)

// ErrMalformed is what a decoder returns for bytes that no encoder makes.
var ErrMalformed = errors.New("homeproxy: malformed call on the wire")

// Bits of the flags, of a request and of a result.
const (
	requestMore    = 1
	requestHeard   = 2 // the number follows the blobs
	requestDevice  = 4
	resultRegular  = 1
	resultLeft     = 2 // what remained of its time follows the blobs
	resultAtHome   = 4
	resultView     = 3 // the first bit of View, which has three
	resultDevice   = 6 // the first bit of Device, which has two
	resultHomeward = 1 << 8
)

// AppendRequest appends r to b.
func AppendRequest(b []byte, r Request) []byte {
	b = binary.AppendUvarint(b, uint64(r.Nr))
	for _, a := range r.Args {
		b = binary.AppendUvarint(b, a)
	}
	b = binary.AppendUvarint(b, r.Mask)
	var flags uint64
	if r.More {
		flags |= requestMore
	}
	if r.Heard != 0 {
		flags |= requestHeard
	}
	if r.Device {
		flags |= requestDevice
	}
	b = appendBlobs(binary.AppendUvarint(b, flags), r.In)
	if r.Heard != 0 {
		b = binary.AppendUvarint(b, r.Heard)
	}
	return b
}

// ParseRequest decodes a request. Its blobs share memory with b.
func ParseRequest(b []byte) (Request, error) {
	d := decoder{b: b}
	var r Request
	nr := d.uvarint()
	if nr > low32 {
		d.err = true
	}
	r.Nr = uint32(nr)
	for i := range r.Args {
		r.Args[i] = d.uvarint()
	}
	r.Mask = d.uvarint()
	flags := d.uvarint()
	r.More, r.Device = flags&requestMore != 0, flags&requestDevice != 0
	r.In = d.blobs()
	if flags&requestHeard != 0 {
		r.Heard = d.uvarint()
	}
	if d.err {
		return Request{}, fmt.Errorf("%w: request of %d bytes", ErrMalformed, len(b))
	}
	return r, nil
}

// AppendResult appends r to b.
func AppendResult(b []byte, r Result) []byte {
	b = binary.AppendVarint(b, r.Ret)
	var flags uint64
	if r.Regular {
		flags |= resultRegular
	}
	if r.AtHome {
		flags |= resultAtHome
	}
	if r.Homeward {
		flags |= resultHomeward
	}
	if r.Left > 0 {
		flags |= resultLeft
	}
	flags |= uint64(r.View&7)<<resultView | uint64(r.Device&3)<<resultDevice
	b = appendBlobs(binary.AppendUvarint(b, flags), r.Out)
	if r.Left > 0 {
		b = binary.AppendUvarint(b, uint64(r.Left))
	}
	return b
}

// ParseResult decodes a result. Its blobs share memory with b.
func ParseResult(b []byte) (Result, error) {
	d := decoder{b: b}
	var r Result
	r.Ret = d.varint()
	flags := d.uvarint()
	r.Regular, r.AtHome, r.Homeward = flags&resultRegular != 0, flags&resultAtHome != 0, flags&resultHomeward != 0
	r.View, r.Device = View(flags>>resultView&7), Device(flags>>resultDevice&3)
	r.Out = d.blobs()
	if flags&resultLeft != 0 {
		r.Left = time.Duration(d.uvarint() & (1<<63 - 1))
	}
	if d.err {
		return Result{}, fmt.Errorf("%w: result of %d bytes", ErrMalformed, len(b))
	}
	return r, nil
}

func appendBlobs(b []byte, blobs []Blob) []byte {
	b = binary.AppendUvarint(b, uint64(len(blobs)))
	for _, x := range blobs {
		b = binary.AppendUvarint(b, uint64(x.Addr))
		b = binary.AppendUvarint(b, uint64(len(x.Data)))
		b = append(b, x.Data...)
	}
	return b
}

// decoder reads fields and remembers the first failure.
type decoder struct {
	b   []byte
	err bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.err, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.err, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) blobs() []Blob {
	count := d.uvarint()
	// Each blob takes two bytes at least: a count beyond that is a lie, and no memory is set aside for it.
	if count > maxBlobs || count > uint64(len(d.b)/2) {
		d.err = true
		return nil
	}
	if count == 0 {
		return nil
	}
	out := make([]Blob, 0, count)
	total := uint64(0)
	for i := uint64(0); i < count && !d.err; i++ {
		addr, n := d.uvarint(), d.uvarint()
		if total += n; d.err || n > uint64(len(d.b)) || total > maxPayload {
			d.err = true
			return nil
		}
		out = append(out, Blob{mem.Addr(addr), d.b[:n:n]})
		d.b = d.b[n:]
	}
	return out
}
