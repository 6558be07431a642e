package node

import (
	"testing"
	"time"
)

func TestTalk(t *testing.T) {
	type look struct {
		calls, bytes uint64
		children     int
		cpu          time.Duration
		stays        bool
	}
	tests := []struct {
		name  string
		looks []look
	}{
		{"computes", []look{{100, 1 << 20, 0, time.Second, true}, {102, 1 << 20, 0, 2 * time.Second, false}}},
		{"hashes a file in blocks of 32 KiB", []look{{1000, 32 << 20, 0, time.Second, true}, {2200, 70 << 20, 0, 1100 * time.Millisecond, true}}},
		{"reads at its start alone", []look{{0, 0, 0, time.Millisecond, true}, {1000, 1 << 20, 0, 50 * time.Millisecond, true}, {1001, 1 << 20, 0, time.Second, true},
			{1001, 1 << 20, 0, 2 * time.Second, false}}},
		{"has hardly run since", []look{{0, 0, 0, time.Second, true}, {500, 0, 0, 1001 * time.Millisecond, true}, {501, 0, 0, 2 * time.Second, false}}},
		{"forks all the time", []look{{0, 0, 0, time.Second, true}, {0, 0, 300, 2 * time.Second, true}}},
		{"forks now and then", []look{{0, 0, 0, time.Second, true}, {0, 0, 3, 2 * time.Second, false}}},
		{"writes much later", []look{{0, 0, 0, time.Second, true}, {0, 0, 0, 2 * time.Second, false}, {0, 4 << 30, 0, 3 * time.Second, true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var x talk
			for i, l := range tt.looks {
				x.look(l.calls, l.bytes, l.children, l.cpu, callCost)
				if why := x.why(); (why != "") != l.stays {
					t.Errorf("look %d: why = %q (share %.2f), want stays = %v", i, why, x.share, l.stays)
				}
			}
		})
	}
}

func TestParseIO(t *testing.T) {
	const file = "rchar: 3000\nwchar: 40\nsyscr: 7\nsyscw: 2\nread_bytes: 99\nwrite_bytes: 98\ncancelled_write_bytes: 0\n"
	if calls, moved := parseIO([]byte(file)); calls != 9 || moved != 3040 {
		t.Errorf("parseIO = %d calls, %d bytes, want 9 and 3040", calls, moved)
	}
	calls, moved, err := readIO(1)
	if err == nil && (calls == 0 || moved == 0) {
		t.Errorf("the first process has made %d calls and moved %d bytes, want some", calls, moved)
	}
}
