package workloads

import (
	"fmt"
	"strings"
)

// Workload is one way to run one program.
type Workload struct {
	Name string
	Kind string // as the table of the acceptance names it
	Uses []string
	// Line is a shell line that runs it: SECONDS, STOP and ID stand for the least time, the stop file and a name that no
	// other run has. Without characters that only a shell knows it is run directly.
	Line   string
	Status int    // with which it ends
	After  string // a shell line, run at the end; what it prints is part of the output. ID as in Line
	Talk   bool   // it wants a terminal, and somebody to talk with
	InNode bool   // it can run in a node of a lab only, where nobody else changes what it looks at

	// Stops: a SIGSTOP and SIGCONT in the middle changes nothing. Natively it does where a wait ends with EINTR by a stop.
	Stops bool
	// MayRefuse: at times there is a reason not to move it, such as memory that it shares with a child just then.
	MayRefuse bool
}

// Table lists every workload.
func Table() []Workload {
	list := []Workload{
		c("compute", "single thread"),
		c("threads", "many threads"),
		c("float", "floating point with AVX"),
		c("heap", "large heap"),
		c("stack", "deep stack"),
		c("reader", "file reader"),
		c("direct", "file reader past the page cache"),
		{
			Name: "writer", Kind: "file writer with append", Uses: []string{"writer"}, Stops: true,
			Line:  "work-writer SECONDS STOP ID.d",
			After: `cd ID.d && ls && sha256sum log data && stat -c "%n %a %s %h" log data && cd .. && rm -r ID.d`,
		},
		{
			Name: "pipe", Kind: "pipe in the middle of a pipeline", Uses: []string{"gen", "filter"}, Stops: true,
			Line: `{ work-gen SECONDS STOP 2048 | { work-filter; echo "filter ended with $?" >&3; } | sha256sum; } 3>&1`,
		},
		{Name: "terminal", Kind: "terminal", Uses: []string{"terminal"}, Line: "work-terminal", Talk: true},
		c("tcpserver", "TCP server"),
		c("tcpclient", "TCP client"),
		c("signals", "signal handlers"),
		c("rtsignals", "real-time signals with values"),
		c("pending", "blocked signals, read where they pend"),
		c("timers", "timers"),
		c("clocks", "clocks that are read all the time"),
		c("sleep", "sleep"),
		c("waits", "timed waits that a stop ends"),
		c("epoll", "epoll with ignored signals arriving"),
		c("shared", "shared memory of one process"),
		c("family", "processes that share memory"),
		c("children", "processes and threads that come and go"),
		c("areas", "areas of every kind"),
		{Name: "maps", Kind: "what smaps shows of them", Uses: []string{"areas"}, Line: Program("areas") + " SECONDS STOP maps", Stops: true},
		c("mapfile", "files that are mapped"),
		c("faults", "faulting instructions"),
		c("memstat", "how much memory is in use"),
		c("comehome", "calls that come home"),
		c("world", "the world of its home"),
		c("identity", "ids, limits and scheduling"),
		c("objects", "descriptors of every kind"),
		c("cputime", "CPU time of its own"),
		{Name: "goruntime", Kind: "Go runtime", Uses: []string{"goruntime"}, Line: "work-goruntime SECONDS STOP", Stops: true},
		{Name: "python", Kind: "python3", Uses: []string{"python.py"}, Line: "work-python.py SECONDS STOP", Stops: true},
		{Name: "shell", Kind: "shell", Uses: []string{"shell.sh"}, Line: "work-shell.sh SECONDS STOP", Stops: true},
	}
	for _, e := range []struct {
		how    string
		status int
	}{{"exit7", 7}, {"term", 143}, {"kill", 137}, {"segv", 139}, {"abort", 134}, {"thread", 23}, {"main", 23}} {
		list = append(list, Workload{
			Name: "ends-" + e.how, Kind: "exit status", Uses: []string{"ends"}, Status: e.status, Stops: true,
			Line: "work-ends SECONDS STOP " + e.how,
		})
	}
	for i := range list {
		w := &list[i]
		switch w.Name {
		case "epoll": // a stop ends epoll_wait and its kin with EINTR, natively too
			w.Stops = false
		case "rtsignals", "pending", "waits", "tcpclient", "tcpserver": // they wait in sigtimedwait, recv with SO_RCVTIMEO, epoll_wait
			w.Stops = false
		case "objects": // it polls
			w.Stops = false
		case "signals", "sleep", "timers", "terminal": // every wait is counted, or timed, or has a terminal's foreground
			w.Stops = false
		case "world":
			w.InNode = true
		case "shared", "family", "areas", "maps":
			w.MayRefuse = true
		}
		if w.comesHome() { // it may be on its way just then
			w.MayRefuse = true
		}
	}
	return list
}

// Program is the file name of the program name: none that a shell would miss is hidden by it.
func Program(name string) string { return "work-" + name }

func c(name, kind string) Workload {
	return Workload{Name: name, Kind: kind, Uses: []string{name}, Line: Program(name) + " SECONDS STOP", Stops: true}
}

// Command is the command for one run, which is called run.
func (w Workload) Command(run string, seconds float64, stop string) []string {
	line := strings.NewReplacer("SECONDS", fmt.Sprint(seconds), "STOP", stop, "ID", run).Replace(w.Line)
	if strings.ContainsAny(line, "|;{}><$\"") {
		return []string{"sh", "-c", line}
	}
	return strings.Fields(line)
}

// EndCommand is what is run after the end, if anything.
func (w Workload) EndCommand(run string) []string {
	if w.After == "" {
		return nil
	}
	return []string{"sh", "-c", strings.ReplaceAll(w.After, "ID", run)}
}
