package guest

import (
	"mosix/internal/tracer"
)

// Freeze stops every thread of the guest, each with a definite outcome of the call that it was in. quit is asked meanwhile
// whether to give up: home may be out of reach. Signals that had not been queued yet are returned, in their order.
func (g *Guest) Freeze(p *tracer.Process, quit func() bool) ([]Returned, error) {
	if err := g.awaitBirths(quit); err != nil {
		return nil, err
	}
	g.hands.Lock()
	defer g.hands.Unlock()
	g.mu.Lock()
	g.leaving, g.holding = true, true
	g.mu.Unlock()
	p.Quit = quit
	err := p.SeizeAllWith(func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.holding = false
		for _, c := range g.calls {
			g.release(c)
		}
		return nil
	})
	p.Quit = nil
	g.unheard(p.Held()...)
	g.wake(p.Held()...)
	g.unsuspend(p.Held()...)
	if err == nil {
		err = g.link.Hold() // signals that come later find the process at home
	}
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var waiting []Returned
	for _, s := range g.signals {
		waiting = append(waiting, Returned{TID: s.tid, Process: s.process, Info: s.info})
	}
	g.signals = nil
	return waiting, nil
}

// Stay ends what Freeze began, before the threads are released: what they ask from then on is served.
func (g *Guest) Stay() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaving, g.holding, g.homeward, g.closing = false, false, false, false
}

// Resume undoes Freeze, after Stay and when the threads were released: the guest goes on here.
func (g *Guest) Resume(again []Returned) {
	g.mu.Lock()
	halted := g.halted
	g.mu.Unlock()
	g.halt(halted) // also takes back what stops it no longer
	g.link.Unhold()
	for _, s := range again {
		g.Signal(s.TID, s.Info, !s.Process)
	}
}
