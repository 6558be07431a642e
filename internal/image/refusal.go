package image

import "strings"

// Refusal is a reason why a process cannot move now. It is a value, not an error: the process is well, and stays where it is.
type Refusal struct {
	What     string `json:"what"`     // a stable word for programs: "seccomp", "privileged", "device-mapping", …
	Why      string `json:"why"`      // one sentence for people, with what they can do
	Evidence string `json:"evidence"` // what was seen: "Seccomp: 2 in /proc/4711/status"
}

func (r Refusal) String() string {
	if r.Evidence == "" {
		return r.Why
	}
	return r.Why + " (" + r.Evidence + ")"
}

// Refusals is every reason at once.
type Refusals []Refusal

func (rs Refusals) String() string {
	var b strings.Builder
	for i, r := range rs {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(r.String())
	}
	return b.String()
}
