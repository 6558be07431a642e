package thaw

import (
	"errors"

	"mosix/internal/abi"
	"mosix/internal/mem"
	"mosix/internal/tracer"
)

// LeaveEntries lets every held thread of a process at home that has made some of the first instructions of a clock's function make
// the rest of them: in a guest a jump stands in their place (see PatchClocks), in the middle of which it could not go on. The
// instructions after them stay what they are. They are not stepped over: under some hypervisors a clock that is read one
// instruction at a time changes before each of them, and is read for ever.
func LeaveEntries(p *tracer.Process) error {
	v, err := vdsoOf(p)
	if errors.Is(err, errNoVDSO) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := clockEntries(p, v)
	if err != nil {
		return err
	}
	for _, t := range p.Held() {
		for _, e := range entries {
			if err := t.Leave(mem.Range{Start: e.at + 1, End: e.at + jumpSize}, jumpSize); err != nil {
				return err
			}
		}
	}
	return nil
}

// InVDSO reports whether a held thread of a process at home is in the middle of the vDSO's code. In a copy on a host with another
// kernel it would find the kernel's pages empty, and might take that for a time.
func InVDSO(p *tracer.Process) bool {
	v, err := vdsoOf(p)
	if err != nil {
		return false
	}
	for _, t := range p.Held() {
		if t.Regs.OrigRAX == abi.NoCall && v.at.Contains(mem.Addr(t.Regs.RIP)) {
			return true
		}
	}
	return false
}
