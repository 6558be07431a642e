package thaw

import (
	"fmt"
	"os"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// Ahead lists the calls that prepare the shadow pid, while its guest still runs, for the areas want that will come: what it does
// not have of its own memory is mapped, and what was closed when its memory was given back is opened. Memory can then be put in at full speed
// before the guest is held, and nothing that is full has to be opened afterwards. Fill does the rest.
func Ahead(pid int, g *region.Region, want []image.Area) ([]stub.Call, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	cur, _ := image.ParseMaps(b, g.Range())
	return ahead(cur, want), nil
}

func ahead(cur, want []image.Area) []stub.Call {
	var calls []stub.Call
	for _, p := range pieces(cur, want) {
		switch {
		case p.Prot == abi.ProtNone:
		case p.cur == nil && !p.File && !p.GrowsDown:
			c := mapCall(p.Area, open(p.Area))
			c.Args[3] = c.Args[3]&^abi.MapFixed | abi.MapFixedNoReplace
			calls = append(calls, c)
		case p.stays() && p.cur.Prot == abi.ProtNone && !p.cur.Shared:
			calls = append(calls, tracer.NewCall(abi.SysMprotect, uint64(p.Start), p.Len(), uint64(open(p.Area))))
		}
	}
	return calls
}
