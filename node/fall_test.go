package node

import (
	"testing"
	"time"
)

func TestFall(t *testing.T) {
	var f fall
	for i, x := range []struct {
		free     uint64 // MiB
		expected bool
		want     uint64 // MiB per second
	}{
		{400, false, 0},
		{300, false, 0}, // once
		{260, false, 80},
		{200, false, 80},
		{210, false, 0}, // it rises
		{110, true, 0},  // by a guest that arrives
		{80, false, 0},
		{50, false, 60},
	} {
		f.add(x.free<<20, 500*time.Millisecond, x.expected)
		if got := f.rate() >> 20; got != x.want {
			t.Errorf("look %d: free memory falls by %d MiB per second, want %d", i, got, x.want)
		}
	}
	f = fall{}
	f.add(1<<30, 0, false) // the first look has no period
	f.add(1<<29, 0, false)
	if f.rate() != 0 {
		t.Error("without a period there is a rate")
	}
}
