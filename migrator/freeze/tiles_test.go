package freeze

import "testing"

// TestTiles: this machine may have none; what the area of one that has says is known.
func TestTiles(t *testing.T) {
	x := make([]byte, 11008)
	for bits, want := range map[uint32]bool{0: false, 0x2ff: false, 1 << 17: true, 1<<18 | 7: true, 1 << 19: false} {
		for i := range 4 {
			x[512+i] = byte(bits >> (8 * i))
		}
		if got := tiles(x); got != want {
			t.Errorf("components %#x: %v", bits, got)
		}
	}
	if tiles(nil) || tiles(x[:515]) {
		t.Error("a state that is too short has tiles")
	}
}
