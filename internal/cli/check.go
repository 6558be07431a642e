package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mosix/internal/feature"
)

// Verdicts of a probe.
const (
	probeOK      = "ok"
	probeMissing = "missing" // the kernel does not have it
	probeUnknown = "unknown" // it could not be found out, for the reason that is given
)

// checkReport is what check --json prints.
type checkReport struct {
	OK     bool         `json:"ok"` // nothing that is required is missing or unknown
	Probes []checkProbe `json:"probes"`
}

// checkProbe is one property of the kernel.
type checkProbe struct {
	Name     string `json:"name"`
	Since    string `json:"since"`             // version of Linux; empty where that says nothing
	Need     string `json:"need"`              // what mosix needs it for
	Without  string `json:"without,omitempty"` // what happens where an optional one is missing
	Required bool   `json:"required"`          // nothing moves without it
	Verdict  string `json:"verdict"`
	Error    string `json:"error,omitempty"`
}

func (a *app) checkCommand() *cobra.Command {
	var calls bool
	c := a.jsonFlag(&cobra.Command{
		Use:   "check",
		Short: "Try whether this kernel has all that mosix needs",
		Long: `Try each thing that mosix needs of the kernel, one after the other, and say what is there. Some probes need root; as another
user they are unknown.

With --syscalls nothing is tried: it says how many system calls of a process that is away run where, and which bring it home.
Each of them, with the reason, stands in docs/syscalls.md.

Exit status: 0 only if nothing that is required is missing or unknown.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if calls {
				return a.printCalls(countCalls())
			}
			return a.printCheck(check(probeKernel()))
		},
	})
	c.Flags().BoolVar(&calls, "syscalls", false, "count the system calls by where they run for a process that is away")
	return c
}

// probeKernel tries everything that internal/feature knows.
func probeKernel() []checkProbe {
	var out []checkProbe
	for _, f := range feature.All() {
		p := checkProbe{Name: f.Name, Since: f.Since, Need: f.Why, Without: f.Without, Required: f.Required(), Verdict: probeOK}
		if err := f.Err(); err != nil {
			p.Verdict, p.Error = probeUnknown, err.Error()
			if errors.Is(err, feature.ErrNotSupported) {
				p.Verdict = probeMissing
			}
		}
		out = append(out, p)
	}
	return out
}

func check(ps []checkProbe) checkReport {
	r := checkReport{OK: true, Probes: ps}
	for _, p := range ps {
		if p.Required && p.Verdict != probeOK {
			r.OK = false
		}
	}
	return r
}

func (a *app) printCheck(r checkReport) error {
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
		if !r.OK {
			return exitWith(ExitFailed, nil)
		}
		return nil
	}
	t := table{columns: []column{{title: "VERDICT"}, {title: "PROBE"}, {title: "SINCE"}, {title: "NEEDED FOR"}}}
	for _, p := range r.Probes {
		verdict := p.Verdict
		if !p.Required && verdict != probeOK {
			verdict += " (optional)"
		}
		t.add(verdict, p.Name, p.Since, p.Need)
	}
	if err := t.print(a.out, a.width); err != nil {
		return err
	}
	for _, p := range r.Probes {
		if p.Verdict == probeOK {
			continue
		}
		fmt.Fprintf(a.out, "\n%s\n", printable(p.Error)) // begins with the probe's name
		if !p.Required {
			fmt.Fprintf(a.out, "  without it %s\n", p.Without)
		}
	}
	if !r.OK {
		return exitWith(ExitFailed, errors.New("this kernel does not have all that mosix needs, or it could not be found out (see above)"))
	}
	return nil
}
