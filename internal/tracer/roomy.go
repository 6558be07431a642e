package tracer

import "mosix/internal/kern"

// Roomy lifts the limits of the process on memory, where it has some, until done is called: what is mapped for it meanwhile is not
// its own doing. An agent that dies in between leaves them lifted.
func (p *Process) Roomy() (done func()) {
	const none = ^uint64(0)
	var undo []func()
	for _, what := range []int{kern.LimitAS, kern.LimitData, kern.LimitMemlock} {
		soft, hard, err := kern.Limit(p.PID, what)
		if err != nil || soft == none {
			continue
		}
		if kern.SetLimitOf(p.PID, what, none, none) == nil { // without the right to it the limit stands
			undo = append(undo, func() { _ = kern.SetLimitOf(p.PID, what, soft, hard) }) // it has ended
		}
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}
