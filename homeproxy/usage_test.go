package homeproxy

import (
	"encoding/binary"
	"testing"

	"mosix/internal/image"
)

// TestAddUsage: home's count and what was used away, with carry.
func TestAddUsage(t *testing.T) {
	le := binary.LittleEndian
	b := make([]byte, rusageSize)
	le.PutUint64(b, 3)
	le.PutUint64(b[8:], 999_999)
	le.PutUint64(b[16:], 1)
	le.PutUint64(b[32:], 5000)
	le.PutUint64(b[64:], 10)
	u := image.Usage{Run: 3, User: 2_000_001_999, Sys: 500_000_000, MinFlt: 7, MajFlt: 2, MaxRSS: 4000}
	AddRusage(b, u)
	for i, want := range map[int]uint64{0: 6, 8: 0, 16: 1, 24: 500_000, 32: 5000, 64: 17, 72: 2, 128: 0} {
		if got := le.Uint64(b[i:]); got != want {
			t.Errorf("word at %d is %d, want %d", i, got, want)
		}
	}
	clear(b)
	AddTimes(b[16:], u)
	if le.Uint64(b[16:]) != 201 || le.Uint64(b[24:]) != 50 || le.Uint64(b) != 0 {
		t.Errorf("times: %v", b[:32])
	}
	if Rusage([]Blob{{4096, b}}, 4096) == nil || Rusage([]Blob{{4096, b[:16]}}, 4096) != nil || Rusage([]Blob{{0, b}}, 0) != nil {
		t.Error("the output is found where it is not, or not where it is")
	}
}

// TestReaped: only the end of a child counts, and only where it is taken.
func TestReaped(t *testing.T) {
	word := func(a uint64, v uint32, n int) []Blob {
		b := make([]byte, n)
		binary.LittleEndian.PutUint32(b, v)
		return []Blob{{0, nil}, {4096, nil}, {8192, b}}[2:][:1:1]
	}
	for _, c := range []struct {
		nr   uint32
		args [6]uint64
		ret  int64
		out  []Blob
		gone bool
		want int
	}{
		{61, [6]uint64{0, 0, 0}, 5, nil, false, 5},
		{61, [6]uint64{0, 0, 0}, 0, nil, false, 0},
		{61, [6]uint64{0, 0, 0}, -10, nil, false, 0},
		{61, [6]uint64{0, 8192, 2}, 5, word(8192, 0x137f, 4), true, 0},
		{61, [6]uint64{0, 8192, 8}, 5, word(8192, 0xffff, 4), true, 0},
		{61, [6]uint64{0, 8192, 2}, 5, word(8192, 0x0100, 4), false, 5},
		{61, [6]uint64{0, 0, 2}, 5, nil, true, 5},
		{61, [6]uint64{0, 0, 2}, 5, nil, false, 0},
		{247, [6]uint64{0, 0, 8192 - 16, 4}, 0, word(8192, 7, 12), false, 7},
		{247, [6]uint64{0, 0, 8192 - 16, 4 | 0x01000000}, 0, word(8192, 7, 12), false, 0},
		{247, [6]uint64{0, 0, 8192 - 16, 6}, 0, word(8192, 7, 12), false, 0},
		{247, [6]uint64{0, 0, 8192 - 16, 6}, 0, word(8192, 7, 12), true, 7},
		{247, [6]uint64{0, 0, 0, 4}, 0, nil, true, 0},
		{0, [6]uint64{}, 5, nil, true, 0},
	} {
		if got := Reaped(c.nr, c.args, c.ret, c.out, func(int) bool { return c.gone }); got != c.want {
			t.Errorf("call %d %v with %d: %d, want %d", c.nr, c.args, c.ret, got, c.want)
		}
	}
}
