package homeproxy

// Classes lists the classes, in the order in which people are told of them.
func Classes() []Class { return []Class{Guest, Home, Both, ComeHome, Refuse} }

// Text says where a call of class c runs.
func (c Class) Text() string {
	switch c {
	case Guest:
		return "on the host, untouched: only the guest's own memory and threads"
	case Home:
		return "in the shadow at home; the result travels back"
	case Both:
		return "answered by the host's agent, or both sides take part"
	case ComeHome:
		return "the process moves home and the call runs there, natively"
	}
	return "nowhere: home's kernel would refuse it too"
}

// Count is how many calls there are of a class.
type Count struct {
	Class Class
	Calls int
	// Partly counts the calls of other classes that are of this one for some arguments.
	Partly int
}

// Counts counts the table.
func Counts() []Count {
	out := make([]Count, 0, len(Classes()))
	for _, c := range Classes() {
		n := Count{Class: c}
		for i := range table {
			switch r := &table[i]; {
			case r.Class == c:
				n.Calls++
			case r.canBe(c):
				n.Partly++
			}
		}
		out = append(out, n)
	}
	return out
}

// canBe reports whether Classify can say c for some arguments.
func (r *Row) canBe(c Class) bool {
	for _, rule := range r.Rules {
		if rule.Class == c {
			return true
		}
	}
	for _, s := range r.Subs {
		if s.Class == c {
			return true
		}
	}
	return r.Class == c
}
