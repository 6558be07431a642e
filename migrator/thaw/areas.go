package thaw

import (
	"fmt"
	"os"

	"mosix/internal/image"
	"mosix/internal/region"
	"mosix/internal/tracer"
)

// Known reads the areas of a shadow with what the process has advised for them. It costs time where much memory is in use.
func Known(pid int, g *region.Region) ([]image.Area, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	as, _ := image.ParseMaps(b, g.Range())
	return as, nil
}

func areasOf(p *tracer.Process) ([]image.Area, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.PID))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	as, _ := image.ParseMaps(b, p.Region.Range())
	return as, nil
}
