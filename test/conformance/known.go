package conformance

// fault is a case that is known not to hold in some modes, and why.
type fault struct {
	modes []Mode
	why   string
	// sometimes: it depends on the moment. Such a fault may hold in a run without being struck from the table.
	sometimes bool
}

var (
	away  = []Mode{Forwarded, Moving}
	moved = []Mode{Moving}
)

// known lists all faults that are known, by the names of their cases. Whoever mends one strikes its line.
var known = map[string]fault{}

// knownFault is the line of a case in a mode.
func knownFault(c Case, mode Mode) (fault, bool) {
	f, ok := known[c.String()]
	for _, m := range f.modes {
		if ok && m == mode {
			return f, true
		}
	}
	return fault{}, false
}
