package node

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
	"mosix/node/api"
)

// events is what happened here lately, for people who ask why.
type events struct {
	list []api.Event
	last uint64
	same string // the last decision to do nothing, without its numbers
}

const mostEvents = 2000

// event remembers e. Node.mu is not held.
func (n *Node) event(e api.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events.last++
	e.Seq, e.UnixMS = n.events.last, time.Now().UnixMilli()
	n.events.list = append(n.events.list, e)
	if len(n.events.list) > mostEvents {
		n.events.list = slices.Clone(n.events.list[mostEvents/2:])
	}
}

var numbers = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// decided remembers a decision. One that does nothing for the same reason as the last, with other numbers, is no news.
func (n *Node) decided(v balancer.View, d balancer.Decision) {
	why := numbers.ReplaceAllString(d.Why, "0")
	n.mu.Lock()
	same := len(d.Moves) == 0 && n.events.same == why
	if n.events.same = why; len(d.Moves) > 0 {
		n.events.same = ""
	}
	n.mu.Unlock()
	if same {
		return
	}
	in := n.inputs(v)
	for _, m := range d.Moves {
		n.sends(m, in)
	}
	if len(d.Moves) == 0 {
		n.event(api.Event{Kind: api.EventDecision, Text: "no move: " + d.Why, Inputs: in})
	}
}

// sends remembers the decision to send a process away.
func (n *Node) sends(m balancer.Move, in *api.DecisionInputs) {
	n.event(api.Event{Kind: api.EventDecision, PID: m.Process.PID, Home: m.Process.Home, To: m.To, Text: fmt.Sprintf("move %s to %s: %s", m.Process, m.To, m.Reason), Inputs: in})
}

// inputs is what a policy saw, for people.
func (n *Node) inputs(v balancer.View) *api.DecisionInputs {
	in := &api.DecisionInputs{Policy: n.balance.policy.Name(), Mean: v.Self.Mean, Load: v.Self.True, MemFree: v.Self.MemFree, Processes: []api.ProcessInput{}, Nodes: []api.NodeInput{}}
	for _, c := range v.Processes {
		in.Processes = append(in.Processes, api.ProcessInput{PID: c.Process.PID, Home: c.Process.Home, CPUSeconds: c.CPU.Seconds(), Ready: c.ReadyLast, Bytes: c.Bytes, Talk: c.Talk, Unmovable: c.Unmovable})
	}
	for _, x := range v.Nodes {
		in.Nodes = append(in.Nodes, api.NodeInput{Name: x.Name, Exported: x.Exported, Load: x.Load, AgeSeconds: x.Age.Seconds(), Unfit: x.Unfit})
	}
	for _, a := range v.Attempts {
		if a.Outcome == balancer.Pending {
			in.Pending++
		}
	}
	return in
}

// moveText tells of a move that has ended.
func moveText(m api.Move) string {
	p := id.Process{Home: m.Home, PID: m.PID}
	switch m.Result {
	case api.ResultMoved:
		return fmt.Sprintf("%s moved from %s to %s (%s): frozen for %.1f ms, %.1f ms in all", p, m.From, m.To, m.Cause, m.FreezeMS, m.TotalMS)
	case api.ResultRefused:
		var why []string
		for _, r := range m.Refusals { // what was seen of the process is its owner's
			why = append(why, r.Why)
		}
		return fmt.Sprintf("%s did not go from %s to %s (%s): %s", p, m.From, m.To, m.Cause, strings.Join(why, "; "))
	}
	return fmt.Sprintf("%s did not get from %s to %s (%s); mosixctl moves says why", p, m.From, m.To, m.Cause)
}
