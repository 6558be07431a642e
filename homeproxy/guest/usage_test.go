package guest

import (
	"testing"

	"mosix/homeproxy"
	"mosix/internal/id"
	"mosix/internal/image"
)

// TestClocksOfCPUTime: which clocks count CPU time, and whose.
func TestClocksOfCPUTime(t *testing.T) {
	g := &Guest{Process: id.Process{Home: "n1", PID: 100}, tids: map[id.HomePID]int{100: 5100, 101: 5101}}
	of := func(n int, low uint32) uint32 { return uint32(^int32(n))<<3 | low }
	for _, c := range []struct {
		clock uint32
		cpu   bool
		tid   id.HomePID
		own   bool
	}{
		{0, false, 0, false}, {1, false, 0, false}, {11, false, 0, false},
		{2, true, 0, true}, {3, true, 101, true},
		{of(0, 2), true, 0, true}, {of(100, 2), true, 0, true}, {of(100, 0), true, 0, true}, {of(100, 1), true, 0, true},
		{of(0, 6), true, 101, true}, {of(100, 6), true, 100, true}, {of(101, 6), true, 101, true},
		{of(102, 6), true, 102, false}, {of(7, 2), true, 0, false},
		{of(3, 3), false, 0, false}, // descriptor 3, a device
	} {
		if got := countsCPU(c.clock); got != c.cpu {
			t.Errorf("clock %#x counts CPU time: %v", c.clock, got)
		}
		if !c.cpu {
			continue
		}
		if tid, own := g.clockOwner(c.clock, 101); own != c.own || own && tid != c.tid {
			t.Errorf("clock %#x is that of %d, its own: %v", c.clock, tid, own)
		}
		row := homeproxy.Lookup(228)
		if row.Classify([6]uint64{uint64(c.clock)}) != homeproxy.Both {
			t.Errorf("clock %#x is %v", c.clock, row.Classify([6]uint64{uint64(c.clock)}))
		}
	}
	if clockPart(of(100, 1), image.Usage{Run: 9, User: 4}) != 4 || clockPart(1<<31|2, image.Usage{Run: 9, User: 4}) != 9 || clockPart(3, image.Usage{Run: 9, User: 4}) != 9 {
		t.Error("a clock counts another part")
	}
}

// TestWhereUsageIsRead: the output that is amended is the one that was asked for.
func TestWhereUsageIsRead(t *testing.T) {
	res := homeproxy.Result{Out: []homeproxy.Blob{{Addr: 4096, Data: make([]byte, 16)}}}
	if written(&res, 4096, 16) == nil || written(&res, 4096, 32) != nil || written(&res, 4112, 16) != nil {
		t.Error("the output is found where it is not, or not where it is")
	}
	if n := highest("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n"); n != 1234 || highest("") != 0 || highest("VmHWM:") != 0 {
		t.Errorf("VmHWM is %d", n)
	}
}
