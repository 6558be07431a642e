package pages

import (
	"testing"

	"mosix/internal/mem"
)

// TestShelfForgetsWhatWasUnmapped holds memory for two areas, one of which is gone in the end, and one of which has shrunk.
func TestShelfForgetsWhatWasUnmapped(t *testing.T) {
	var s Shelf
	data := make([]byte, 4*mem.PageSize)
	s.Hold(mem.Range{Start: 0x10000, End: 0x14000}, data)
	s.Hold(mem.Range{Start: 0x20000, End: 0x22000}, data[:2*mem.PageSize])
	s.Within([]mem.Range{{Start: 0x8000, End: 0x12000}, {Start: 0x30000, End: 0x31000}})
	if got := s.Bytes(); got != 2*mem.PageSize {
		t.Errorf("%d bytes are still held, want two pages", got)
	}
	for _, p := range s.held {
		if p.Range != (mem.Range{Start: 0x10000, End: 0x12000}) || uint64(len(p.data)) != p.Len() {
			t.Errorf("%v with %d bytes is held", p.Range, len(p.data))
		}
	}
}
