package thaw

import (
	"errors"

	"mosix/internal/mem"
	"mosix/internal/tracer"
)

// LeaveEntries lets every held thread of a process at home that has made some of the first instructions of a clock's function make
// the rest of them: in a guest a jump stands in their place (see PatchClocks), in the middle of which it could not go on. The
// instructions after them stay what they are. They are not stepped over: under some hypervisors a clock that is read one
// instruction at a time changes before each of them, and is read for ever.
func LeaveEntries(p *tracer.Process) error {
	entries, err := clockEntries(p)
	if errors.Is(err, errNoVDSO) {
		return nil
	}
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
