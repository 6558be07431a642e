package ferry

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"

	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/procfs"
	"mosix/internal/region"
	"mosix/internal/tracer"
)

// errTampered says that a guest has changed what injected calls need.
var errTampered = errors.New("it has tampered with the shared page")

// trust makes sure that calls which are injected from now on are ours, and only then takes the filter from the threads that
// make them. Every thread is held, so what is found cannot change before they run: the code is ours byte for byte, and the
// whole region is still the memory in which this agent writes the table of calls. A guest that mapped a page of its own in
// there would have its own table run, without its filter.
func (t *returner) trust() error {
	if err := untouched(t.p); err != nil {
		if errors.Is(err, errTampered) {
			t.g.Spoiled(err)
		}
		return fmt.Errorf("the guest of %v cannot be asked for its state: %w", t.id, err)
	}
	for _, x := range t.p.Held() {
		if err := kern.SetOptions(x.TID, kern.OptSuspendFilter); err != nil {
			return err
		}
	}
	return nil
}

// untouched reports how a region differs from what was planted.
func untouched(p *tracer.Process) error {
	maps, err := procfs.Default.Maps(p.PID)
	if err != nil {
		return fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	if err := wholeRegion(maps, p.Region); err != nil {
		return err
	}
	want := p.Code.Bytes
	have := make([]byte, len(want))
	r := mem.Range{Start: p.Region.Base, End: p.Region.Base + mem.Addr(len(have))}
	if n, err := kern.ReadVM(p.PID, have, r); err != nil || n != len(have) || !bytes.Equal(have, want) {
		return fmt.Errorf("%w: its code is not ours any more", errTampered)
	}
	return nil
}

// wholeRegion holds the mappings of a process to the region: all of it, in its place, shared, of the very memory that the
// agent has.
func wholeRegion(maps []procfs.Area, g *region.Region) error {
	fi, err := g.File.Stat()
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%w: %s has no inode", errTampered, g.File.Name())
	}
	at, end := g.Range().Start, g.Range().End
	for _, a := range maps {
		if a.End <= at || a.Start >= end {
			continue
		}
		ours := a.Start == at && a.Shared && a.Inode == st.Ino && a.Dev == device(st.Dev) && a.Offset == uint64(at-g.Base)
		if !ours {
			return fmt.Errorf("%w: %v is not the memory that was planted", errTampered, a.Range)
		}
		at = a.End
	}
	if at != end {
		return fmt.Errorf("%w: its mapping ends at %v instead of %v", errTampered, at, end)
	}
	return nil
}

// device splits the number that stat gives as maps shows it.
func device(d uint64) procfs.Dev {
	return procfs.Dev{Major: uint32(d>>8&0xfff | d>>32&^0xfff), Minor: uint32(d&0xff | d>>12&0xffffff00)}
}
