package node

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"mosix/internal/id"
	"mosix/node/sampler"
)

// What a forwarded call costs a guest: a round trip, which is measured for each pair of nodes, and what is done for it on both sides, and
// copying, which are assumed from forwarded calls seen on machines of its kind.
const (
	callCost  = 150 * time.Microsecond // until it is measured
	callHere  = 60 * time.Microsecond  // of it the two kernels and both agents, besides the round trip between these
	byteCost  = 2.0                    // nanoseconds
	birthCost = 5 * time.Millisecond   // of a process that is made away: home makes it first
)

// talkMost is how long a process may wait for home, in seconds per second of its computing. Above, home is the place for it,
// however busy: it would keep two agents busy in place of a processor. Below it, the policy weighs it against the gain.
const talkMost = 1.0

// talkKept is how long it is remembered of a process that has come home how it talked away: many calls are not counted at home.
const talkKept = 10 * time.Minute

// talk is how much a process asks of its home. Before its first move nobody counts its calls, but what it reads, writes and forks is known.
type talk struct {
	calls, bytes uint64
	children     int
	cpu          time.Duration
	share        float64 // seconds that its calls would wait, per second of computing, averaged over the last looks
	known        bool    // share was measured
	seen         bool    // in this period
}

// look takes what the process has read and written so far, in calls and bytes, how many children it was seen to have, and the CPU time
// that it has used, and what a call costs.
func (t *talk) look(calls, bytes uint64, children int, cpu, cost time.Duration) {
	const enough = 5 * time.Millisecond // less computing says nothing
	t.seen = true
	if used := cpu - t.cpu; t.cpu > 0 {
		if used < enough {
			return
		}
		if calls >= t.calls && bytes >= t.bytes {
			share := (waitFor(calls-t.calls, bytes-t.bytes, cost) + float64(children-t.children)*float64(birthCost)) / float64(used)
			if t.known {
				share = (share + t.share) / 2
			}
			t.share, t.known = share, true
		}
	}
	t.calls, t.bytes, t.children, t.cpu = calls, bytes, children, cpu
}

// waitFor is how long a guest waits for calls that move so many bytes, ns.
func waitFor(calls, bytes uint64, cost time.Duration) float64 {
	return float64(calls)*float64(cost) + float64(bytes)*byteCost
}

// why says why the process stays at home, or "".
func (t *talk) why() string {
	switch {
	case !t.known:
		return "how much it reads and writes has not been measured yet"
	case t.share > talkMost:
		return fmt.Sprintf("it reads, writes and forks so much that away it would wait %.1f s for each second of computing", t.share)
	}
	return ""
}

// chatter tells how much a process at home talks with it, and why that forbids to leave.
func (b *balance) chatter(p id.Process, s sampler.Process) (float64, string) {
	calls, bytes, err := readIO(s.PID)
	if err != nil {
		return 0, "" // it has ended, or this kernel does not count
	}
	cost := b.anyPrice()
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.talkOf(p)
	t.look(calls, bytes, s.Children, s.CPU, cost)
	return t.share, t.why()
}

// guestTalk tells how long a guest waits for home, in seconds per second of its computing.
func (b *balance) guestTalk(t *tenant, s sampler.Process) float64 {
	did := t.g.Traffic()
	cost := b.priceTo(t.g.Process.Home)
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.talkOf(t.g.Process)
	x.look(did.Calls, did.Bytes, int(did.Births), s.CPU, cost)
	return x.share
}

// talkOf finds or begins what is known of how a process talks. The caller holds mu.
func (b *balance) talkOf(p id.Process) *talk {
	t := b.talks[p]
	if t == nil {
		t = &talk{}
		b.talks[p] = t
	}
	return t
}

// forgetTalks forgets what was not looked at since the last time.
func (b *balance) forgetTalks() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, t := range b.talks {
		if !t.seen {
			delete(b.talks, p)
		}
		t.seen = false
	}
}

// readIO reads how many calls that read or write a process has made, and how many bytes they have moved.
func readIO(pid int) (calls, moved uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, 0, err
	}
	calls, moved = parseIO(b)
	return calls, moved, nil
}

func parseIO(b []byte) (calls, moved uint64) {
	for line := range bytes.Lines(b) {
		name, value, _ := bytes.Cut(line, []byte(": "))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
		if err != nil {
			continue
		}
		switch string(name) {
		case "rchar", "wchar":
			moved += n
		case "syscr", "syscw":
			calls += n
		}
	}
	return calls, moved
}
