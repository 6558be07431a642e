package workloads

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"mosix/test/cluster"
)

// TestAlternations: two copies that run at once give themselves away, one that moves does not.
func TestAlternations(t *testing.T) {
	for _, c := range []struct {
		name string
		runs []int // which copy wrote the next stamp
		want int
	}{
		{"never moved", []int{1, 1, 1}, 0},
		{"moved once", []int{1, 1, 2, 2, 2}, 1},
		{"moved and home again", []int{1, 2, 2, 1}, 2},
		{"both at once", []int{1, 2, 1, 2, 1, 2, 1, 2}, 7},
	} {
		var events []event
		for i, who := range c.runs {
			// read in another order than they were written: copy by copy
			events = append(events, event{stamp: uint64(1000 + i), copy: who, counter: uint64(i)})
		}
		for i := range events {
			j := (i * 5) % len(events)
			events[i], events[j] = events[j], events[i]
		}
		if got := alternations(events); got != c.want {
			t.Errorf("%s: %d alternations, want %d", c.name, got, c.want)
		}
	}
}

// TestWatchSeesTwo starts a second process that counts in a page of the same name under the same number, as a second copy
// would, and wants the watch to see that both ran.
func TestWatchSeesTwo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to read the memory of others")
	}
	w := Workload{Name: "page", Uses: []string{"page"}}
	build(t, w)
	m := Machine{Bin: programs.Dir, Dir: t.TempDir()}
	token := fmt.Sprintf("two-%d", os.Getpid())
	start := func() (Process, uint64, int) {
		var said sharedBuffer
		// without randomisation both have their page at one address, as copies do
		p, err := m.Start([]string{"setarch", "-R", m.Bin + "/" + Program("page"), token}, false, nil, &said)
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() {
			if err := p.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			if status, err := p.Wait(); status != 7 || err != nil {
				t.Errorf("the page ended with %d, %v; want 7", status, err)
			}
		})
		pid, err := awaitPID(&said, nil)
		if err != nil {
			t.Fatal(err)
		}
		var address uint64
		if _, err := fmt.Sscanf(said.String(), "page %x", &address); err != nil {
			t.Fatal(err)
		}
		return p, address, pid
	}
	_, address, pid := start()
	watch := NewWatch(token, pid, address)
	defer watch.Stop()
	if took, ok := cluster.Until(5*time.Second, func() bool { return len(watch.Running(time.Time{})) == 1 }); !ok {
		t.Fatalf("the watch saw nothing count within %v", took)
	}
	if n := watch.Alternations(); n != 0 {
		t.Fatalf("%d alternations of one copy", n)
	}
	_, address2, second := start()
	if address2 != address {
		t.Skipf("pages at %x and %x: no second copy can be played", address, address2)
	}
	watch.mu.Lock()
	watch.others = map[int]bool{}
	watch.copies[second] = &copyOfPage{} // its number is another, which a copy's would not be
	watch.mu.Unlock()
	if _, ok := cluster.Until(5*time.Second, func() bool { return watch.Alternations() > 10 }); !ok {
		t.Errorf("two copies ran at once, and the watch counts %d alternations", watch.Alternations())
	}
}
