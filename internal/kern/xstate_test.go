package kern

import (
	"encoding/binary"
	"errors"
	"testing"
)

// area is an XSAVE area of n bytes whose system saves the sets of enabled, with something in those of used.
func area(n int, enabled, used uint64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	clear(b[512:576])
	binary.LittleEndian.PutUint64(b[464:], enabled)
	binary.LittleEndian.PutUint64(b[512:], used)
	return b
}

// TestFitXState: registers go to processors with more sets, and to those with fewer where the others were not used.
func TestFitXState(t *testing.T) {
	small, large := area(832, 0b111, 0b111), area(2696, 0x2e7, 0b11)
	for _, c := range []struct {
		what   string
		b, own []byte
		keep   int
		err    error
	}{
		{"to more sets", small, large, 832, nil},
		{"to fewer sets, not used", large, small, 832, nil},
		{"to fewer sets, used", area(2696, 0x2e7, 0b11100111), small, 0, ErrRegisterSets},
		{"to the same sets", large, area(2696, 0x2e7, 0), 2696, nil},
	} {
		got, err := fitXState(c.b, c.own)
		if !errors.Is(err, c.err) || err == nil && len(got) != len(c.own) {
			t.Errorf("%s: %d bytes, %v; want %d, %v", c.what, len(got), err, len(c.own), c.err)
			continue
		}
		for i := range got {
			if want := byte(0); i < c.keep && got[i] != c.b[i] || i >= c.keep && got[i] != want {
				t.Errorf("%s: byte %d is %d", c.what, i, got[i])
				break
			}
		}
	}
	if _, err := fitXState(small[:100], large); err == nil {
		t.Error("an area that is cut off is taken")
	}
}
