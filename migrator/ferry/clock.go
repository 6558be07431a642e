package ferry

import (
	"mosix/internal/fault"
	"mosix/internal/kern"
	"mosix/migrator/thaw"
)

// ClockUncorrected, armed with an error, makes guests that come here read this node's clock instead of their home's: a test
// which then still finds home's time has not looked.
var ClockUncorrected = fault.Register("clock-uncorrected")

// correct leaves the plan's clock at home's, unless a test wants to see what happens without it.
func (t *target) correct(plan *thaw.Plan) {
	if ClockUncorrected.Hit() != nil {
		plan.Clocks.Real = t.env.Realtime() - (kern.Now(kern.ClockMonotonic) + plan.Clocks.Mono)
	}
}
