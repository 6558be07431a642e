package gossip_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"mosix/gossip"
	"mosix/internal/id"
)

// The files in testdata tell stories of one machine. Verbs:
//
//	machine NAME roster=(a,b,…) [vector=N] [fanout=N] [urgent=N] [forget=N] [seed=N]
//	update load=MILLI          the node measures its load
//	tick                       a period is over
//	step from=NODE kind=KIND   a message arrives; one entry a line: NODE load=MILLI age=DURATION
//	advance DURATION           time passes
//	remove NODE                membership says that a node has left
//	view                       what the node knows
//
// Each prints what the machine wants to send.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		s := story{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.do(t, d) })
	})
}

type story struct {
	m   *gossip.Machine
	now time.Duration
}

func (s *story) do(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "machine":
		var conf gossip.Config
		seed := 1
		var roster []id.Node
		for _, a := range d.CmdArgs[1:] {
			switch a.Key {
			case "roster":
				for _, v := range a.Vals {
					roster = append(roster, id.Node(v))
				}
			case "vector":
				a.Scan(t, 0, &conf.Vector)
			case "fanout":
				a.Scan(t, 0, &conf.Fanout)
			case "urgent":
				a.Scan(t, 0, &conf.Urgent)
			case "forget":
				a.Scan(t, 0, &conf.Forget)
			case "seed":
				a.Scan(t, 0, &seed)
			default:
				d.Fatalf(t, "no such argument: %s", a.Key)
			}
		}
		s.now = 0
		s.m = gossip.New(id.Node(d.CmdArgs[0].Key), gossip.NewList(roster...), rand.New(rand.NewPCG(uint64(seed), 0)), conf)
	case "update":
		var load int
		d.ScanArgs(t, "load", &load)
		s.m.Update(gossip.Entry{LoadMilli: uint32(load)}, s.now)
	case "tick":
		s.m.Tick(s.now)
	case "advance":
		by, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		s.now += by
	case "remove":
		s.m.Remove(id.Node(d.CmdArgs[0].Key))
	case "step":
		var from, kind string
		d.ScanArgs(t, "from", &from)
		d.ScanArgs(t, "kind", &kind)
		kinds := map[string]gossip.Kind{"push": gossip.KindPush, "ack": gossip.KindAck, "urgent": gossip.KindUrgent}
		msg := gossip.Message{Kind: kinds[kind]}
		for line := range strings.Lines(d.Input) {
			var node, age string
			var load uint32
			if _, err := fmt.Sscanf(line, "%s load=%d age=%s", &node, &load, &age); err != nil {
				d.Fatalf(t, "%q: %v", line, err)
			}
			a, err := time.ParseDuration(age)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			msg.Entries = append(msg.Entries, gossip.Entry{Node: id.Node(node), LoadMilli: load, Age: a})
		}
		s.m.Step(id.Node(from), msg, s.now)
	case "view":
		return entries(s.m.View(s.now))
	default:
		d.Fatalf(t, "no such verb: %s", d.Cmd)
	}
	var b strings.Builder
	for _, p := range s.m.Ready().Send {
		fmt.Fprintf(&b, "→ %s %s\n", p.To, p.Msg.Kind)
		for line := range strings.Lines(entries(p.Msg.Entries)) {
			b.WriteString("    " + line)
		}
	}
	if b.Len() == 0 {
		return "ok\n"
	}
	return b.String()
}

func entries(list []gossip.Entry) string {
	if len(list) == 0 {
		return "nothing\n"
	}
	var b strings.Builder
	for _, e := range list {
		fmt.Fprintf(&b, "%s load=%d age=%v\n", e.Node, e.LoadMilli, e.Age)
	}
	return b.String()
}
