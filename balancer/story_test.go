package balancer_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"mosix/balancer"
	"mosix/balancer/load"
	"mosix/internal/id"
)

// TestStories plays the transcripts in testdata. Verbs:
//
//	self NAME, node NAME   cpus= speed= exported= mean= true= age= free= total= promised= falls= unfit=
//	process PID@HOME       cpu= ready= last= bytes= residency= left=NODE/AGO unmovable= talk= written= (MiB/s)
//	attempt PID@HOME NODE  at= outcome= ready=
//	decide at= policy=     what the policy does with the view so far
//	accept PID@HOME        from= load= cpus= ready= bytes= explicit, relief: what self answers to this offer
//	best PID@HOME          where an order without a name would send it
//	reset                  forget the view
//	cluster                cpus=, lines "start NODE COUNT CPUSECONDS AT": a whole run, with every decision
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := story{view: balancer.View{Costs: balancer.Costs{Fixed: 100 * time.Millisecond, Bandwidth: 100 << 20}}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.do(t, d)
		})
	})
}

type story struct{ view balancer.View }

func (s *story) do(t *testing.T, d *datadriven.TestData) string {
	a := args{t, d}
	switch d.Cmd {
	case "reset":
		s.view = balancer.View{Costs: s.view.Costs}
	case "self":
		s.view.Self = a.node()
	case "node":
		s.view.Nodes = append(s.view.Nodes, a.node())
	case "process":
		s.view.Processes = append(s.view.Processes, a.candidate())
	case "attempt":
		s.view.Attempts = append(s.view.Attempts, balancer.Attempt{
			Process: a.process(), To: id.Node(d.CmdArgs[1].Key), At: a.duration("at", 0), Ready: a.number("ready", 1),
			Outcome: map[string]balancer.Outcome{"pending": balancer.Pending, "moved": balancer.Moved, "refused": balancer.Refused,
				"failed": balancer.Failed}[a.text("outcome", "pending")],
		})
	case "decide":
		p, err := balancer.ByName(a.text("policy", "mosix"))
		if err != nil {
			t.Fatal(err)
		}
		dec := p.Decide(s.view, a.duration("at", time.Minute), rand.New(rand.NewPCG(1, 1)))
		var b strings.Builder
		for _, m := range dec.Moves {
			fmt.Fprintf(&b, "%s → %s: %s\n", m.Process, m.To, m.Reason)
		}
		return b.String() + "no more: " + dec.Why + "\n"
	case "accept":
		ans := balancer.Accept(s.view, balancer.Offer{
			Process: a.process(), From: id.Node(a.text("from", "n1")), Load: a.number("load", 0), CPUs: a.number("cpus", 1), Speed: a.number("speed", 1),
			Ready: a.number("ready", 1), Bytes: a.bytes("bytes", 8<<20), Explicit: d.HasArg("explicit"), Relief: d.HasArg("relief"),
		}, 0)
		return fmt.Sprintf("%v: %s\nnow at %.2f\n", map[bool]string{true: "accepted", false: "refused"}[ans.OK], ans.Why, ans.Load)
	case "best":
		to, why := balancer.Best(s.view, a.candidate())
		return fmt.Sprintf("%q: %s\n", to.Name, why)
	case "cluster":
		return a.cluster()
	default:
		d.Fatalf(t, "no such verb")
	}
	return ""
}

// args reads the arguments of one verb.
type args struct {
	t *testing.T
	d *datadriven.TestData
}

func (a args) text(key, missing string) string {
	for _, c := range a.d.CmdArgs {
		if c.Key == key && len(c.Vals) > 0 {
			return strings.ReplaceAll(c.Vals[0], "_", " ")
		}
	}
	return missing
}

func (a args) number(key string, missing float64) float64 {
	s := a.text(key, "")
	if s == "" {
		return missing
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		a.d.Fatalf(a.t, "%s: %v", key, err)
	}
	return f
}

func (a args) duration(key string, missing time.Duration) time.Duration {
	s := a.text(key, "")
	if s == "" {
		return missing
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		a.d.Fatalf(a.t, "%s: %v", key, err)
	}
	return v
}

// bytes reads a number of MiB.
func (a args) bytes(key string, missing uint64) uint64 {
	return uint64(a.number(key, float64(missing>>20)) * (1 << 20))
}

func (a args) process() id.Process {
	pid, home, err := id.ParsePID(a.d.CmdArgs[0].Key)
	if err != nil {
		a.d.Fatalf(a.t, "%v", err)
	}
	return id.Process{Home: home, PID: pid}
}

func (a args) node() balancer.Node {
	l := a.number("load", 0)
	return balancer.Node{
		Name: id.Node(a.d.CmdArgs[0].Key), CPUs: a.number("cpus", 0.5), Speed: a.number("speed", 1), Exported: a.number("exported", l),
		Mean: a.number("mean", l), True: a.number("true", l), Load: l, Now: l, Age: a.duration("age", time.Second), MemFree: a.bytes("free", 1<<30),
		MemTotal: a.bytes("total", 2<<30), MemPromised: a.bytes("promised", 0), MemFalls: a.bytes("falls", 0), Unfit: a.text("unfit", ""),
	}
}

func (a args) candidate() balancer.Candidate {
	c := balancer.Candidate{
		Process: a.process(), CPU: a.duration("cpu", 5*time.Second), Ready: a.duration("ready", 10*time.Second), ReadyLast: a.number("last", 1),
		Bytes: a.bytes("bytes", 8<<20), Residency: a.duration("residency", 10*time.Second), Unmovable: a.text("unmovable", ""),
		Talk: a.number("talk", 0), Written: a.number("written", 0) * (1 << 20),
	}
	if l := a.text("left", ""); l != "" {
		node, ago, _ := strings.Cut(l, "/")
		v, err := time.ParseDuration(ago)
		if err != nil {
			a.d.Fatalf(a.t, "left: %v", err)
		}
		c.Left = append(c.Left, balancer.Departure{Node: id.Node(node), Ago: v})
	}
	return c
}

// cluster plays a whole run and prints what was decided and how it ended.
func (a args) cluster() string {
	var caps []load.Capacity
	for _, s := range strings.Split(a.text("cpus", "1"), "/") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			a.d.Fatalf(a.t, "cpus: %v", err)
		}
		caps = append(caps, load.Capacity{CPUs: f, Speed: 1})
	}
	c := newCluster(balancer.NewMosix(), uint64(a.number("seed", 1)), caps...)
	for _, line := range strings.Split(a.d.Input, "\n") {
		var node, count int
		var work, at float64
		if _, err := fmt.Sscanf(line, "start n%d %d %f %f", &node, &count, &work, &at); err != nil {
			a.d.Fatalf(a.t, "%q: %v", line, err)
		}
		for range count {
			c.start(c.nodes[node-1], time.Duration(at*1e9), work)
		}
	}
	c.run(a.duration("until", time.Minute))
	fmt.Fprintf(&c.log, "at %s: running on the nodes %v, %d moves, back and forth %d\n", c.now, c.counts(), len(c.moves), len(c.backAndForth()))
	return c.log.String()
}
