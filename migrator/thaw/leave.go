package thaw

import (
	"errors"
	"slices"

	"mosix/internal/abi"
	"mosix/internal/mem"
	"mosix/internal/tracer"
)

// Clockwork is what a process at home reads its clocks with: the vDSO. One without has a nil Clockwork.
type Clockwork struct {
	p       *tracer.Process
	v       found
	entries []clockEntry
	others  []mem.Range // functions that read no clock
}

// ClockworkOf finds it.
func ClockworkOf(p *tracer.Process) (*Clockwork, error) {
	v, err := vdsoOf(p)
	if errors.Is(err, errNoVDSO) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w := &Clockwork{p: p, v: v}
	w.entries, w.others, err = clockEntries(p, v)
	return w, err
}

// FinishEntries lets every held thread that has made some of the first instructions of a clock's function make the rest of them: in a
// guest a jump stands in their place (see PatchClocks), in the middle of which it could not go on. The instructions after them stay
// what they are.
func (w *Clockwork) FinishEntries() error {
	if w == nil {
		return nil
	}
	for _, t := range w.p.Held() {
		for _, e := range w.entries {
			if err := t.Leave(mem.Range{Start: e.at + 1, End: e.at + jumpSize}, jumpSize); err != nil {
				return err
			}
		}
	}
	return nil
}

// Finish lets every held thread that is just reading a clock read it to the end, as far as that goes: elsewhere it would find the
// clock of that kernel, which is not home's. Under some hypervisors a clock that is read one instruction at a time changes before
// each, and is read for ever: Busy tells whether somebody is still there.
func (w *Clockwork) Finish() error {
	const most = 400 // instructions; to read a clock takes a hundred
	if w == nil {
		return nil
	}
	for _, t := range w.p.Held() {
		if !w.reads(t) {
			continue
		}
		if err := t.Leave(w.v.at, most); err != nil {
			return err
		}
	}
	return nil
}

// Busy reports whether a held thread is in the middle of code that would find other things on its host than here: the clock of that
// kernel or, where that has another vDSO (foreign), in a copy pages of the kernel that are empty, which it might take for a time.
func (w *Clockwork) Busy(foreign bool) bool {
	return w != nil && slices.ContainsFunc(w.p.Held(), func(t *tracer.Thread) bool { return foreign && w.runs(t) || w.reads(t) })
}

// runs reports whether a thread is in the code, and not in a call.
func (w *Clockwork) runs(t *tracer.Thread) bool {
	return t.Regs.OrigRAX == abi.NoCall && w.v.at.Contains(mem.Addr(t.Regs.RIP))
}

// reads reports whether a thread is in the middle of reading a clock: in what belongs to no other function.
func (w *Clockwork) reads(t *tracer.Thread) bool {
	return w.runs(t) && !slices.ContainsFunc(w.others, func(r mem.Range) bool { return r.Contains(mem.Addr(t.Regs.RIP)) })
}
