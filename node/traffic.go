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

// What a forwarded call costs a guest: a round trip, and copying on both sides. Assumed from forwarded calls seen on machines of its kind; not measured on this one.
const (
	callCost  = 150 * time.Microsecond
	byteCost  = 2.0                  // nanoseconds
	birthCost = 5 * time.Millisecond // of a process that is made away: home makes it first
)

// talkMost is how long a process may wait for home, in seconds per second of its computing. Above, home is the place for it,
// however busy: it would keep two agents busy in place of a processor. Below it, the policy weighs it against the gain.
const talkMost = 1.0

// talk is how much a process at home reads, writes and forks: before its first move nobody else counts its calls.
type talk struct {
	calls, bytes uint64
	children     int
	cpu          time.Duration
	share        float64 // seconds that its calls would wait, per second of computing, averaged over the last looks
	known        bool    // share was measured
	seen         bool    // in this period
}

// look takes what the process has read and written so far, in calls and bytes, how many children it was seen to have, and the CPU time
// that it has used.
func (t *talk) look(calls, bytes uint64, children int, cpu time.Duration) {
	const enough = 5 * time.Millisecond // less computing says nothing
	t.seen = true
	if used := cpu - t.cpu; t.cpu > 0 {
		if used < enough {
			return
		}
		if calls >= t.calls && bytes >= t.bytes {
			share := (waitFor(calls-t.calls, bytes-t.bytes) + float64(children-t.children)*float64(birthCost)) / float64(used)
			if t.known {
				share = (share + t.share) / 2
			}
			t.share, t.known = share, true
		}
	}
	t.calls, t.bytes, t.children, t.cpu = calls, bytes, children, cpu
}

// waitFor is how long a guest waits for calls that move so many bytes, ns.
func waitFor(calls, bytes uint64) float64 {
	return float64(calls)*float64(callCost) + float64(bytes)*byteCost
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
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.talks[p]
	if t == nil {
		t = &talk{}
		b.talks[p] = t
	}
	t.look(calls, bytes, s.Children, s.CPU)
	return t.share, t.why()
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
