package thaw

import (
	"fmt"
	"os"

	"mosix/internal/image"
	"mosix/internal/tracer"
)

func areasOf(p *tracer.Process) ([]image.Area, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.PID))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	as, _ := image.ParseMaps(b, p.Region.Range())
	return as, nil
}
