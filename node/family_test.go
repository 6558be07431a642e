package node

import (
	"os/exec"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/region"
	"mosix/internal/stub"
)

// page makes the shared page of a shadow in state s, of the family whose first member is number first.
func page(t *testing.T, s, first uint32, lease time.Duration) *region.Region {
	t.Helper()
	f, err := kern.Memfd("mosix-test", uint64(stub.RegionSize(1)))
	if err != nil {
		t.Fatal(err)
	}
	g, err := region.Init(f, stub.Base, 1, stub.Load())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	h := g.Header()
	h.State, h.FamilyPID, h.FamilyStart, h.Epoch = s, first, uint64(first), 3
	h.LeaseEnd = uint64(kern.Now(kern.ClockBoottime) + int64(lease))
	return g
}

const (
	planted   = stub.StatePlanted
	parked    = stub.StateParked
	committed = stub.StateCommitted
	there     = stub.StateAway
	returning = stub.StateReturning
)

// TestAgree: what an agent left that died between two members of a family becomes the same for all.
func TestAgree(t *testing.T) {
	for _, c := range []struct {
		name       string
		have, want []uint32
	}{
		{"parked, and nothing was sent", []uint32{parked, parked, parked}, []uint32{parked, parked, parked}},
		{"committed at the first", []uint32{committed, parked, parked}, []uint32{committed, committed, committed}},
		{"some not parked yet", []uint32{parked, planted}, []uint32{parked, planted}},
		{"one was heard of", []uint32{committed, there}, []uint32{there, there}},
		{"one has its last image here", []uint32{returning, there}, []uint32{there, there}},
		{"all have", []uint32{returning, returning}, []uint32{returning, returning}},
	} {
		var all []found
		for _, s := range c.have {
			all = append(all, found{uid: 1000, g: page(t, s, 10, 0)})
		}
		// Neither a family of the same name of somebody else, nor one that moved alone, has a say.
		strange, alone := page(t, there, 10, 0), page(t, there, 0, 0)
		all = append(all, found{uid: 1001, g: strange}, found{uid: 1000, g: alone})
		agree(all)
		for i, want := range c.want {
			if got := all[i].g.Header().State; got != want {
				t.Errorf("%s: member %d is in state %d, want %d", c.name, i, got, want)
			}
		}
		if strange.Header().State != there || alone.Header().State != there {
			t.Errorf("%s: others were changed", c.name)
		}
	}
}

// TestExpire: what the end of a lease means is the same for all of a family.
func TestExpire(t *testing.T) {
	const over, lasts = -time.Second, time.Minute
	type member struct {
		state uint32
		lease time.Duration
	}
	for _, c := range []struct {
		name  string
		all   []member
		ends  bool   // the first is decided about
		state uint32 // in which it is then
		both  bool   // and so is the second, when its turn comes
	}{
		{"alone, its lease lasts", []member{{committed, lasts}}, false, committed, false},
		{"alone, not confirmed", []member{{committed, over}}, true, committed, false},
		{"alone, known to run there", []member{{there, over}}, true, there, false},
		{"the other's lease lasts", []member{{committed, over}, {committed, lasts}}, false, committed, false},
		{"neither was heard of", []member{{committed, over}, {committed, over}}, true, committed, true},
		{"the other was heard of", []member{{committed, over}, {there, lasts}}, true, there, false},
		{"both on their way home", []member{{returning, over}, {returning, over}}, true, returning, true},
		{"one on its way home", []member{{returning, over}, {there, over}}, true, there, true},
	} {
		n := &Node{records: map[id.Process]*record{}}
		var all []*away
		for i, m := range c.all {
			p := id.Process{Home: "n1", PID: id.HomePID(10 + i), Start: 1}
			a := &away{n: n, epoch: 3, region: page(t, m.state, 10, m.lease), ended: make(chan struct{})}
			if len(c.all) > 1 {
				a.first = id.Process{Home: "n1", PID: 10, Start: 10}
			}
			a.r = &record{id: p, away: a}
			n.records[p] = a.r
			all = append(all, a)
		}
		if got := all[0].expire(); got != c.ends {
			t.Errorf("%s: decided %v, want %v", c.name, got, c.ends)
		}
		if got := all[0].region.Header().State; got != c.state {
			t.Errorf("%s: state %d, want %d", c.name, got, c.state)
		}
		if len(all) > 1 {
			n.mu.Lock()
			if c.ends {
				all[0].r.away = nil // it is home, or no more
			}
			n.mu.Unlock()
			if got := all[1].expire(); got != c.both {
				t.Errorf("%s: the second is decided about: %v, want %v", c.name, got, c.both)
			}
		}
	}
}

// TestClaimAll: the word to commit comes too late where one of the guests was heard of again.
func TestClaimAll(t *testing.T) {
	a, b := &away{}, &away{seen: 1}
	if claimAll([]*away{a, b}) || a.claimed || b.claimed {
		t.Error("a guest that goes on there was claimed")
	}
	b.seen = 0
	if !claimAll([]*away{a, b}) || !a.claimed || !b.claimed {
		t.Error("guests that nobody has heard of were not claimed")
	}
}

// TestHasGuest: a home lets its process go on when its host has no guest of it. So nobody says that who may have one.
func TestHasGuest(t *testing.T) {
	p := id.Process{Home: "n1", PID: 7, Start: 9}
	for name, c := range map[string]struct {
		n    *Node
		home id.Node
		want bool
	}{
		"none":                {&Node{}, "n1", false},
		"here":                {&Node{guests: map[id.Process]*tenant{p: {}}}, "n1", true},
		"ending":              {&Node{leaving: map[id.Process]int{p: 1}}, "n1", true},
		"another home's word": {&Node{}, "n2", true},
	} {
		if got := c.n.hasGuest(c.home, p); got.Has != c.want || got.Op != opHasGuest {
			t.Errorf("%s: %+v, want %v", name, got, c.want)
		}
	}
	n := &Node{}
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	n.leaveAlone(c.Process.Pid)
	if !n.hasGuest("n1", p).Has {
		t.Error("a guest may run that this agent could not take up, and it says that there is none")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // killed
	if n.hasGuest("n1", p).Has {
		t.Error("what this agent could not take up has ended, and it says that there may be a guest")
	}
}
