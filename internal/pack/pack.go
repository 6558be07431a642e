// Package pack writes and reads the compact binary form that images and frames share: little-endian fixed words and
// length-prefixed bytes. Its one invariant: a Reader never reads outside its input and never believes a length that the rest
// of the input cannot hold; the first fault sticks, and everything after it reads as zero.
package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrShort says that the input ends before what it announces.
var ErrShort = errors.New("the data is shorter than it says")

// Writer appends to B.
type Writer struct{ B []byte }

// U8 appends a byte.
func (w *Writer) U8(v uint8) { w.B = append(w.B, v) }

// Bool appends a truth value.
func (w *Writer) Bool(v bool) {
	if v {
		w.U8(1)
	} else {
		w.U8(0)
	}
}

// U32 appends four bytes.
func (w *Writer) U32(v uint32) { w.B = binary.LittleEndian.AppendUint32(w.B, v) }

// U64 appends eight bytes.
func (w *Writer) U64(v uint64) { w.B = binary.LittleEndian.AppendUint64(w.B, v) }

// Bytes appends a length and b.
func (w *Writer) Bytes(b []byte) {
	w.U32(uint32(len(b)))
	w.B = append(w.B, b...)
}

// String appends a length and s.
func (w *Writer) String(s string) {
	w.U32(uint32(len(s)))
	w.B = append(w.B, s...)
}

// Reader takes from the front of its input.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err is the first fault, or nil.
func (r *Reader) Err() error { return r.err }

// Rest is what was not read yet.
func (r *Reader) Rest() []byte { return r.b }

// Fail makes err the fault, if there was none.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *Reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.Fail(ErrShort)
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// U8 takes a byte.
func (r *Reader) U8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// Bool takes a truth value.
func (r *Reader) Bool() bool { return r.U8() != 0 }

// U32 takes four bytes.
func (r *Reader) U32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// U64 takes eight bytes.
func (r *Reader) U64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Bytes takes a length and that many bytes, as a slice of the input.
func (r *Reader) Bytes() []byte { return r.take(int(r.U32())) }

// String takes a length and that many bytes.
func (r *Reader) String() string { return string(r.Bytes()) }

// Count takes the number of elements that follow, each at least size bytes long; more than the input can hold is a fault.
func (r *Reader) Count(size int) int {
	n := int(r.U32())
	if r.err == nil && n > len(r.b)/max(size, 1) {
		r.Fail(fmt.Errorf("%d elements announced, room for %d: %w", n, len(r.b)/max(size, 1), ErrShort))
		return 0
	}
	return n
}
