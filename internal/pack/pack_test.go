package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// field is one value of a message.
type field struct {
	kind byte
	n    uint64
	b    []byte
}

const kinds = 6

func (f field) write(w *Writer) {
	switch f.kind {
	case 0:
		w.U8(uint8(f.n))
	case 1:
		w.Bool(f.n&1 != 0)
	case 2:
		w.U32(uint32(f.n))
	case 3:
		w.U64(f.n)
	case 4:
		w.Bytes(f.b)
	case 5:
		w.String(string(f.b))
	}
}

// read takes a value of f's kind; n and b are what it found.
func (f field) read(r *Reader) (n uint64, b []byte) {
	switch f.kind {
	case 0:
		n = uint64(r.U8())
	case 1:
		if r.Bool() {
			n = 1
		}
	case 2:
		n = uint64(r.U32())
	case 3:
		n = r.U64()
	case 4:
		b = r.Bytes()
	case 5:
		b = []byte(r.String())
	}
	return n, b
}

func (f field) value() uint64 {
	switch f.kind {
	case 0:
		return uint64(uint8(f.n))
	case 1:
		return f.n & 1
	case 2:
		return uint64(uint32(f.n))
	case 3:
		return f.n
	}
	return 0
}

func anyFields() *rapid.Generator[[]field] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) field {
		f := field{kind: rapid.ByteRange(0, kinds-1).Draw(t, "kind")}
		if f.kind < 4 {
			f.n = rapid.Uint64().Draw(t, "n")
		} else {
			f.b = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "b")
		}
		return f
	}), 0, 12)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := anyFields().Draw(t, "fields")
		var w Writer
		for _, f := range fs {
			f.write(&w)
		}
		r := NewReader(append(w.B, "rest"...))
		for i, f := range fs {
			n, b := f.read(r)
			if r.Err() != nil || n != f.value() || !bytes.Equal(b, f.b) {
				t.Fatalf("field %d: read %d, %x, %v, want %d, %x", i, n, b, r.Err(), f.value(), f.b)
			}
		}
		if string(r.Rest()) != "rest" {
			t.Fatalf("%q is left", r.Rest())
		}
	})
}

// TestEveryCutIsSeen cuts a message at each of its bytes: what was read before the cut is right, what comes after it is zero,
// and the fault is ErrShort.
func TestEveryCutIsSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := anyFields().Draw(t, "fields")
		var w Writer
		ends := make([]int, len(fs))
		for i, f := range fs {
			f.write(&w)
			ends[i] = len(w.B)
		}
		cut := rapid.IntRange(0, len(w.B)).Draw(t, "cut")
		r := NewReader(w.B[:cut])
		for i, f := range fs {
			n, b := f.read(r)
			if whole := ends[i] <= cut; whole && (r.Err() != nil || n != f.value() || !bytes.Equal(b, f.b)) {
				t.Fatalf("field %d lies before the cut and reads %d, %x, %v", i, n, b, r.Err())
			} else if !whole && (!errors.Is(r.Err(), ErrShort) || n != 0 || len(b) != 0 || len(r.Rest()) != 0) {
				t.Fatalf("field %d lies behind the cut and reads %d, %x, %v, %d bytes left", i, n, b, r.Err(), len(r.Rest()))
			}
		}
	})
}

func TestTheFirstFaultSticks(t *testing.T) {
	mine := errors.New("mine")
	r := NewReader([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	r.U8()
	r.Fail(mine)
	r.Fail(ErrShort)
	if v := r.U32(); v != 0 || !errors.Is(r.Err(), mine) {
		t.Errorf("after a fault: read %d, %v", v, r.Err())
	}
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		announced uint32
		room      int // bytes behind the number
		size      int
		ok        bool
	}{
		{0, 0, 8, true}, {1, 8, 8, true}, {1, 7, 8, false}, {2, 16, 8, true}, {3, 16, 8, false},
		{5, 5, 1, true}, {6, 5, 1, false}, {5, 5, 0, true}, {6, 5, 0, false},
		{1<<32 - 1, 100, 1, false}, {1 << 31, 100, 1000, false},
	} {
		b := append(binary.LittleEndian.AppendUint32(nil, c.announced), make([]byte, c.room)...)
		r := NewReader(b)
		n := r.Count(c.size)
		if c.ok && (n != int(c.announced) || r.Err() != nil) {
			t.Errorf("%+v: %d, %v", c, n, r.Err())
		}
		if !c.ok && (n != 0 || !errors.Is(r.Err(), ErrShort)) {
			t.Errorf("%+v: %d, %v, want no elements and %v", c, n, r.Err(), ErrShort)
		}
	}
}

// FuzzReader reads what it is given by a plan that it is given too: nothing panics, nothing is read twice, and the bytes that
// were taken and those that are left are the input.
func FuzzReader(f *testing.F) {
	var w Writer
	for k := range byte(kinds) {
		field{kind: k, n: 1<<40 + 3, b: []byte("abc")}.write(&w)
	}
	f.Add([]byte{0, 1, 2, 3, 4, 5}, w.B)
	f.Add([]byte{4, 4}, []byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{6, 3}, []byte{0xff, 0xff, 0xff, 0x7f, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{5}, []byte{2, 0, 0, 0, 'x'})
	f.Fuzz(func(t *testing.T, plan, data []byte) {
		r := NewReader(data)
		left := len(data)
		for _, k := range plan {
			failed := r.Err() != nil
			var n uint64
			var b []byte
			if k%(kinds+1) == kinds {
				n = uint64(r.Count(int(k)))
				if r.Err() == nil && n*uint64(max(k, 1)) > uint64(len(r.Rest())) {
					t.Fatalf("%d elements of %d bytes are believed, %d bytes are left", n, k, len(r.Rest()))
				}
			} else {
				n, b = field{kind: k % (kinds + 1)}.read(r)
			}
			if failed && (n != 0 || len(b) != 0) {
				t.Fatalf("after the fault %v: read %d, %x", r.Err(), n, b)
			}
			if r.Err() == nil && len(r.Rest()) > left || r.Err() == nil && !bytes.HasSuffix(data, r.Rest()) {
				t.Fatalf("%d bytes were left, now %d", left, len(r.Rest()))
			}
			if r.Err() != nil && len(r.Rest()) != 0 {
				t.Fatalf("%d bytes are left after %v", len(r.Rest()), r.Err())
			}
			left = len(r.Rest())
		}
	})
}
