package thaw

import (
	"slices"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/region"
	"mosix/internal/tracer"
)

// waiting are the signals that wait outside of the kernel for a process that comes home, in the order in which they came.
type waiting struct {
	own    map[int][]abi.Siginfo // by thread
	shared []abi.Siginfo
}

// waitingFor sorts what an image has, what was recorded for its guest and has not got there, and what our own stop has taken from the
// shadow. Until all is queued again the record has all of it.
func waitingFor(p *tracer.Process, f *image.Family, recorded []region.Signal, stopped []abi.Siginfo) (w waiting, err error) {
	m := &f.Members[0]
	w = waiting{own: map[int][]abi.Siginfo{}, shared: slices.Clone(m.Pending)}
	for i := range m.Threads {
		w.own[int(m.Threads[i].TID)] = slices.Clone(m.Threads[i].Pending)
	}
	for _, sig := range recorded {
		if _, there := w.own[sig.TID]; there && sig.Info.Code() == abi.SITkill {
			w.own[sig.TID] = append(w.own[sig.TID], sig.Info)
		} else {
			w.shared = append(w.shared, sig.Info)
		}
	}
	w.shared = append(w.shared, stopped...)
	if len(recorded)+len(stopped) == 0 {
		return w, nil
	}
	whole := *f
	whole.Members = []image.Process{*m}
	all := &whole.Members[0]
	all.Pending, all.Threads = w.shared, slices.Clone(m.Threads)
	for i := range all.Threads {
		all.Threads[i].Pending = w.own[int(all.Threads[i].TID)]
	}
	return w, p.Region.PutRecord(whole.Encode())
}
