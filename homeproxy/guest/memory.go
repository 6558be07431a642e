package guest

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"mosix/internal/kern"
	"mosix/internal/mem"
)

// ReadMemory and WriteMemory are the guest's memory, by its own rights: what it could not read or write itself fails.
func (g *Guest) ReadMemory(a mem.Addr, b []byte) (int, error) {
	return some(kern.ReadVM(g.PID, b, mem.Range{Start: a, End: a + mem.Addr(len(b))}))
}

// WriteMemory copies b into the guest.
func (g *Guest) WriteMemory(a mem.Addr, b []byte) (int, error) {
	g.writes.RLock()
	defer g.writes.RUnlock()
	return some(kern.WriteVM(g.PID, b, mem.Range{Start: a, End: a + mem.Addr(len(b))}))
}

// Writers keeps others from writing into the guest by WriteMemory while it is locked. It is held for a moment only: see
// pages.Source.
func (g *Guest) Writers() sync.Locker { return &g.writes }

// some keeps the error for where nothing was copied.
func some(n int, err error) (int, error) {
	if n > 0 {
		return n, nil
	}
	return n, err
}

// Writable implements homeproxy.Prober. Where this kernel cannot tell, all may be written: then the answer shows it.
func (g *Guest) Writable(a mem.Addr, n int) int {
	g.mapsMu.Lock()
	defer g.mapsMu.Unlock()
	for fresh := false; ; fresh = true {
		if g.maps == nil {
			f, err := os.Open(fmt.Sprintf("/proc/%d/maps", g.PID))
			if err != nil {
				return n
			}
			g.maps = f
		}
		may, err := writable(g.maps, a, n)
		if err == nil {
			return may
		}
		if fresh || !errors.Is(err, kern.ESRCH) { // an exec has given it new memory
			return n
		}
		g.maps.Close()
		g.maps = nil
	}
}

func (g *Guest) forgetMaps() {
	g.mapsMu.Lock()
	defer g.mapsMu.Unlock()
	if g.maps != nil {
		g.maps.Close()
		g.maps = nil
	}
}

func writable(maps *os.File, a mem.Addr, n int) (int, error) {
	for at := a; at < a+mem.Addr(n); {
		end, ok, err := kern.AreaAt(maps, at)
		if errors.Is(err, kern.ErrNoArea) || err == nil && !ok {
			return int(at - a), nil
		}
		if err != nil {
			return 0, err
		}
		at = end
	}
	return n, nil
}
