package homeproxy

import (
	"fmt"
	"strings"
)

// Document writes the table for people: docs/syscalls.md, which a test compares.
func Document() string {
	var b strings.Builder
	b.WriteString(documentHead)
	b.WriteString("| class | calls | for some arguments | where the call runs |\n|---|---|---|---|\n")
	for _, n := range Counts() {
		fmt.Fprintf(&b, "| %v | %d | %d | %s |\n", n.Class, n.Calls, n.Partly, n.Class.Text())
	}
	fmt.Fprintf(&b, "\n%d calls; a number that is not here comes home.\n\n## All calls\n\n", len(table))
	b.WriteString("| nr | name | class | arguments | waits | note |\n|---|---|---|---|---|---|\n")
	for i := range table {
		r := &table[i]
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s |\n", r.Nr, r.Name, r.classes(), describeArgs(r.Args), r.waits(), r.Note)
	}
	b.WriteString("\n## Calls whose meaning depends on an argument\n")
	for i := range table {
		r := &table[i]
		if len(r.Subs) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n### %s, by %s\n\n| value | name | class | arguments | note |\n|---|---|---|---|---|\n", r.Name, r.Args[r.By].Name)
		for _, s := range r.Subs {
			args := "as above"
			if s.Args != nil {
				args = describeArgs(s.Args)
			}
			fmt.Fprintf(&b, "| %#x | %s | %v | %s | %s |\n", s.Sel, s.Name, s.Class, args, s.Note)
		}
		fmt.Fprintf(&b, "| other | | %v | | |\n", r.Class)
	}
	return b.String()
}

const documentHead = `# System calls of a guest

Generated from the table of package homeproxy by ` + "`go test ./homeproxy -run TestDocument -rewrite`" + `; do not edit.

The filter of a guest allows what is of class Guest, by number and where a condition stands there by argument. Everything
else is notified to the host's agent. The column *waits* says whether the call can wait for something outside, and with
which code it starts again when a stop or a signal cuts it short: 512 and 514 are made again, 516 is continued by
restart_syscall, EINTR is what the program sees. A star says that the thread's signal mask travels with the call.

How arguments are written: *fd* a descriptor of home, *path* a string, *in*, *out*, *inout* a structure and its bytes,
*data* and *iovec* buffers of a transfer, which goes in pieces of at most 1 MiB.

`

// classes names the class of r and those that its arguments can give it.
func (r *Row) classes() string {
	seen := map[Class]bool{r.Class: true}
	out := r.Class.String()
	add := func(c Class) {
		if !seen[c] {
			seen[c] = true
			out += ", " + c.String()
		}
	}
	for _, rule := range r.Rules {
		add(rule.Class)
	}
	for _, s := range r.Subs {
		add(s.Class)
	}
	return out
}

func (r *Row) waits() string {
	star := ""
	if r.Mask {
		star = "*"
	}
	switch {
	case !r.Blocks:
		return star
	case r.Restart == 0:
		return "EINTR" + star
	}
	return fmt.Sprint(r.Restart) + star
}

func describeArgs(args []Arg) string {
	var out []string
	for _, a := range args {
		s := a.Name
		switch a.Kind {
		case FD:
			s += " fd"
		case Ptr:
			s += " own"
		case Path:
			s += " path"
		case StructIn:
			s += fmt.Sprintf(" in %d", a.Size)
		case StructOut:
			s += fmt.Sprintf(" out %d", a.Size)
		case StructInOut:
			s += fmt.Sprintf(" inout %d", a.Size)
		case InArr, SockIn, OptIn, MsgBufIn, Sigset, SigmaskArg, CapDataIn, HandleIn, SizedIn, MqEvent, XattrIn:
			s += " in"
		case OutArr, SockOut, OptOut, MsgBufOut, CapData, XattrOut:
			s += " out"
		case InOutArr, FDSet, LenPtr, CapHeader, HandleOut, IfConf:
			s += " inout"
		case DataIn:
			s += " data in"
		case DataOut:
			s += " data out"
		case IOVecIn, MsgIn, MMsgIn:
			s += " iovec in"
		case IOVecOut, MsgOut, MMsgOut:
			s += " iovec out"
		}
		if a.InPlace {
			s += " in place"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}
