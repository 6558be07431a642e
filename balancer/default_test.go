package balancer_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
)

func one(name string, load float64, age time.Duration) balancer.Node {
	return balancer.Node{Name: id.Node(name), CPUs: 1, Speed: 1, Load: load, Exported: load, True: load, Now: load, Mean: load, Age: age}
}

func old(pid int, cpu time.Duration) balancer.Candidate {
	return balancer.Candidate{Process: id.Process{Home: "n1", PID: id.HomePID(pid)}, CPU: cpu, Ready: cpu, ReadyLast: 1, Bytes: 1 << 20, Residency: cpu}
}

func names(ms []balancer.Move) (out []id.Node) {
	for _, m := range ms {
		out = append(out, m.Ask...)
	}
	return out
}

// The process that has computed longest gains most; three nodes are asked for it, the two that look best among them.
func TestDefaultAsksThree(t *testing.T) {
	v := balancer.View{Self: one("n1", 3, 0), Costs: balancer.DefaultCosts(),
		Nodes:     []balancer.Node{one("n2", 2, 0), one("n3", 0, time.Second), one("n4", 0.2, 0), one("n5", 1, 0), one("n6", 4, 0)},
		Processes: []balancer.Candidate{old(101, 5*time.Second), old(102, 60*time.Second), old(103, 3*time.Second)}}
	d := balancer.NewDefault().Decide(v, time.Hour, rand.New(rand.NewPCG(1, 1)))
	if len(d.Moves) == 0 || d.Moves[0].Process.PID != 102 || len(d.Moves[0].Ask) != 3 {
		t.Fatalf("%+v", d)
	}
	for _, want := range []id.Node{"n3", "n4"} {
		if !slices.Contains(d.Moves[0].Ask, want) {
			t.Errorf("%v are asked, without %s", d.Moves[0].Ask, want)
		}
	}
	all := names(d.Moves)
	if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("a node is asked twice: %v", all)
	}
	if d.Why == "" || !strings.Contains(d.Moves[0].Reason, "slowdown") {
		t.Errorf("no reason: %q, %q", d.Moves[0].Reason, d.Why)
	}
}

// A process that has just begun is not worth its move, nor is one that would fare no better; both are said why.
func TestDefaultStays(t *testing.T) {
	for name, v := range map[string]balancer.View{
		"alone": {Self: one("n1", 1, 0), Nodes: []balancer.Node{one("n2", 0, 0)}, Processes: []balancer.Candidate{old(101, time.Minute)}},
		"young": {Self: one("n1", 2, 0), Nodes: []balancer.Node{one("n2", 0, 0)}, Processes: []balancer.Candidate{old(101, time.Second), old(102, time.Second)}},
		"large": {Self: one("n1", 2, 0), Nodes: []balancer.Node{one("n2", 0, 0)}, Processes: []balancer.Candidate{
			{Process: id.Process{Home: "n1", PID: 7}, CPU: 3 * time.Second, Ready: 3 * time.Second, ReadyLast: 1, Bytes: 4 << 30, Residency: time.Minute}}},
		"equal":  {Self: one("n1", 2, 0), Nodes: []balancer.Node{one("n2", 1.6, 0)}, Processes: []balancer.Candidate{old(101, time.Minute), old(102, time.Minute)}},
		"nobody": {Self: one("n1", 5, 0), Processes: []balancer.Candidate{old(101, time.Minute)}},
	} {
		v.Costs = balancer.DefaultCosts()
		if d := balancer.NewDefault().Decide(v, time.Hour, rand.New(rand.NewPCG(1, 1))); len(d.Moves) > 0 || d.Why == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// What begins on an idle node begins there; on a busy one others are asked, a few at a time, until one is free or enough have said no.
func TestDefaultPlaces(t *testing.T) {
	p := balancer.NewDefault()
	rng := rand.New(rand.NewPCG(1, 1))
	life := balancer.Birth{Life: 8 * time.Second, Cost: 50 * time.Millisecond}
	var others []balancer.Node
	for i := range 40 {
		others = append(others, one("m"+string(rune('A'+i)), 1, time.Second))
	}
	if d := p.Place(balancer.View{Self: one("n1", 0, 0), Nodes: others}, life, nil, time.Hour, rng); !d.Done || d.To != "" {
		t.Errorf("idle: %+v", d)
	}
	busy := balancer.View{Self: one("n1", 1, 0), Nodes: others}
	if d := p.Place(busy, balancer.Birth{Life: 10 * time.Millisecond, Cost: 50 * time.Millisecond}, nil, time.Hour, rng); !d.Done || d.To != "" {
		t.Errorf("busy, and it will soon be over: %+v", d)
	}
	var told []balancer.Told
	rounds := 0
	for {
		d := p.Place(busy, life, told, time.Hour, rng)
		if d.Done {
			if d.To != "" || rounds != p.Asks {
				t.Errorf("nobody takes it: %+v after %d rounds", d, rounds)
			}
			break
		}
		rounds++
		for _, n := range d.Ask {
			if slices.ContainsFunc(told, func(x balancer.Told) bool { return x.Node == n }) {
				t.Errorf("%s is asked twice", n)
			}
			told = append(told, balancer.Told{Node: n, Answer: balancer.Answer{Why: "busy", There: 2}})
		}
	}
	told[3].Answer = balancer.Answer{OK: true, There: 1}
	if d := p.Place(busy, life, told[:6], time.Hour, rng); !d.Done || d.To != told[3].Node {
		t.Errorf("one is free: %+v", d)
	}
}

// Only an idle node asks for work, and only those that have some; it is given what gains most.
func TestDefaultPulls(t *testing.T) {
	p := balancer.NewDefault()
	rng := rand.New(rand.NewPCG(1, 1))
	others := []balancer.Node{one("n2", 1, 0), one("n3", 3, 0), one("n4", 2, time.Second), one("n5", 0, 0)}
	got := p.Pull(balancer.View{Self: one("n1", 0, 0), Nodes: others}, time.Hour, rng)
	if slices.Sort(got); !slices.Equal(got, []id.Node{"n3", "n4"}) {
		t.Errorf("asks %v, want n3 and n4", got)
	}
	just := one("n1", 0, 0)
	just.True = 0.7
	for _, self := range []balancer.Node{one("n1", 1, 0), just} {
		if got := p.Pull(balancer.View{Self: self, Nodes: others}, time.Hour, rng); len(got) > 0 {
			t.Errorf("with %.1f now and %.1f in the last period it asks %v", self.Now, self.True, got)
		}
	}
	v := balancer.View{Self: one("n1", 3, 0), Costs: balancer.DefaultCosts(), Processes: []balancer.Candidate{old(101, 5*time.Second), old(102, 50*time.Second)}}
	if m, no := p.Give(v, one("n9", 0, 0), time.Hour, rng); no != "" || m.Process.PID != 102 || m.To != "n9" {
		t.Errorf("%+v, %s", m, no)
	}
	if m, no := p.Give(v, one("n9", 2.4, 0), time.Hour, rng); no == "" {
		t.Errorf("it gives %+v to a node that is busy by now", m)
	}
}

// Who may not go to the node that looks best goes to the next, and is not asked for there.
func TestBarredNodes(t *testing.T) {
	c := old(101, time.Minute)
	c.Barred = map[id.Node]string{"n3": "a rule"}
	v := balancer.View{Self: one("n1", 3, 0), Costs: balancer.DefaultCosts(), Nodes: []balancer.Node{one("n2", 0.3, 0), one("n3", 0, 0)}, Processes: []balancer.Candidate{c}}
	for _, p := range []balancer.Policy{balancer.NewDefault(), balancer.NewMosix()} {
		for _, m := range p.Decide(v, time.Hour, rand.New(rand.NewPCG(1, 1))).Moves {
			if m.To == "n3" || slices.Contains(m.Ask, "n3") {
				t.Errorf("%s: %+v", p.Name(), m)
			}
		}
	}
	d := balancer.NewDefault().Decide(v, time.Hour, rand.New(rand.NewPCG(1, 1)))
	if len(d.Moves) != 1 || d.Moves[0].To != "n2" {
		t.Errorf("%+v", d)
	}
	told := []balancer.Told{}
	if p := balancer.NewDefault().Place(v, balancer.Birth{Life: time.Minute, Barred: c.Barred}, told, 0, rand.New(rand.NewPCG(1, 1))); p.Done || slices.Contains(p.Ask, "n3") {
		t.Errorf("%+v", p)
	}
	if n, why := balancer.Best(v, c); n.Name != "n2" {
		t.Errorf("%s is best: %s", n.Name, why)
	}
}

// A place that was booked is kept although it would not help any more; not where the node takes nobody, or has no room.
func TestBookedPlaces(t *testing.T) {
	v := balancer.View{Self: one("n2", 5, 0)}
	o := balancer.Offer{Process: id.Process{Home: "n1", PID: 7}, From: "n1", Load: 2, CPUs: 1, Speed: 1, Ready: 1, Bytes: 1 << 20}
	if a := balancer.Accept(v, o, 0); a.OK {
		t.Errorf("it would not help, and is taken: %+v", a)
	}
	o.Booked = true
	if a := balancer.Accept(v, o, 0); !a.OK {
		t.Errorf("a booked place is not kept: %+v", a)
	}
	v.Self.Unfit = "blocked"
	if a := balancer.Accept(v, o, 0); a.OK {
		t.Errorf("a node that takes no guests takes one: %+v", a)
	}
	v.Self.Unfit, v.Self.MemTotal, v.Self.MemFree = "", 1<<30, 1<<20
	if a := balancer.Accept(v, o, 0); a.OK {
		t.Errorf("a node without room takes one: %+v", a)
	}
}
