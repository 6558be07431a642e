package cli

import (
	"fmt"
	"strconv"

	"mosix/homeproxy"
)

// callsReport is what check --syscalls --json prints.
type callsReport struct {
	Calls   int          `json:"calls"`
	Classes []classCount `json:"classes"`
	// ComeHome are the calls that bring a process home whatever their arguments, with the reason.
	ComeHome []callReason `json:"come_home"`
}

type classCount struct {
	Class  string `json:"class"`
	Calls  int    `json:"calls"`
	Partly int    `json:"for_some_arguments"`
	Where  string `json:"where"`
}

type callReason struct {
	Number uint32 `json:"number"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func countCalls() callsReport {
	r := callsReport{Calls: len(homeproxy.Rows()), ComeHome: []callReason{}}
	for _, n := range homeproxy.Counts() {
		r.Classes = append(r.Classes, classCount{n.Class.String(), n.Calls, n.Partly, n.Class.Text()})
	}
	for _, row := range homeproxy.Rows() {
		if row.Class == homeproxy.ComeHome && len(row.Rules) == 0 && len(row.Subs) == 0 {
			r.ComeHome = append(r.ComeHome, callReason{row.Nr, row.Name, row.Note})
		}
	}
	return r
}

func (a *app) printCalls(r callsReport) error {
	if a.json {
		return a.printJSON(r)
	}
	t := table{columns: []column{{title: "CLASS"}, {"CALLS", true}, {"FOR SOME ARGUMENTS", true}, {title: "WHERE THEY RUN"}}}
	for _, c := range r.Classes {
		t.add(c.Class, strconv.Itoa(c.Calls), strconv.Itoa(c.Partly), c.Where)
	}
	if err := t.print(a.out, a.width); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "\n%d calls. These bring a process home whatever their arguments:\n\n", r.Calls)
	t = table{columns: []column{{title: "NAME"}, {title: "WHY"}}}
	for _, c := range r.ComeHome {
		t.add(c.Name, c.Reason)
	}
	return t.print(a.out, a.width)
}
