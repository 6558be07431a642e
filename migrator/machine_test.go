package migrator

import (
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// drawing reads a drawing of doc.go: a chain of states, and below it a line that leads from some of them to another.
func drawing(t *testing.T, title string) map[[2]State]bool {
	t.Helper()
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "\n// "+title)
	lines := regexp.MustCompile(`(?m)^//\t(.*)$`).FindAllStringSubmatch(rest, 2)
	if !ok || len(lines) != 2 {
		t.Fatalf("doc.go has no drawing of two lines after %q", title)
	}
	ascii := strings.NewReplacer("→", ">", "─", "-", "└", "+", "┴", "+") // a byte for each column
	chain, fan := ascii.Replace(lines[0][1]), ascii.Replace(lines[1][1])
	out := map[[2]State]bool{}
	above := map[int]State{}
	var last State
	for _, at := range regexp.MustCompile(`\w+`).FindAllStringIndex(chain, -1) {
		s := State(chain[at[0]:at[1]])
		for i := at[0]; i < at[1]; i++ {
			above[i] = s
		}
		if last != "" {
			out[[2]State{last, s}] = true
		}
		last = s
	}
	line, to, ok := strings.Cut(fan, "> ")
	if !ok {
		t.Fatalf("the second line of the drawing after %q leads nowhere: %s", title, fan)
	}
	for i, c := range line {
		if c != '+' {
			continue
		}
		if above[i] == "" {
			t.Errorf("a line to %s begins below no state, in column %d", to, i)
		}
		out[[2]State{above[i], State(to)}] = true
	}
	return out
}

// TestDrawing: the drawings show the ways that the tables have, all of them and no others.
func TestDrawing(t *testing.T) {
	for title, rules := range map[string]map[key]rule{"The source": sourceRules, "The target": targetRules} {
		drawn := drawing(t, title)
		ways := map[[2]State]bool{}
		for k, r := range rules {
			if k.at != r.to {
				ways[[2]State{k.at, r.to}] = true
			}
		}
		for w := range ways {
			if !drawn[w] {
				t.Errorf("%s may go from %s to %s, the drawing does not show it", title, w[0], w[1])
			}
		}
		for w := range drawn {
			if !ways[w] {
				t.Errorf("%s is drawn to go from %s to %s, and cannot", title, w[0], w[1])
			}
		}
	}
}

// TestEnds: where a move has ended, nothing more happens; until then it can fail.
func TestEnds(t *testing.T) {
	for _, side := range []map[key]rule{sourceRules, targetRules} {
		states := map[State]bool{}
		for k, r := range side {
			states[k.at], states[r.to] = true, true
		}
		for s := range states {
			var events []Event
			for k := range side {
				if k.at == s {
					events = append(events, k.ev)
				}
			}
			if ended(s) && len(events) > 0 {
				t.Errorf("a move that is %s still meets %v", s, events)
			}
			for _, ev := range []Event{Lost, Failed, DoAbort} {
				if _, ok := side[key{s, ev}]; !ended(s) && !ok {
					t.Errorf("there is no rule for a move that is %s and meets %s", s, ev)
				}
			}
		}
	}
}

// TestWhatCannotBeChangesNothing steps each end, in each state, by each event that has no rule there.
func TestWhatCannotBeChangesNothing(t *testing.T) {
	const lease = 10 * time.Second
	events := []Event{Accepted, Refused, Prepared, Froze, SentAll, BeReady, DidPark, DoCommit, IsRun, Lost, Failed, DoAbort, LeaseEnd, GotFinal, "Nonsense"}
	tried := 0
	for _, end := range []*End{NewSource(), NewTarget(lease)} {
		states := map[State]bool{}
		for k, r := range end.rules {
			states[k.at], states[r.to] = true, true
		}
		for s := range states {
			for _, ev := range events {
				if _, ok := end.rules[key{s, ev}]; ok {
					continue
				}
				e := *end
				e.State, e.ready = s, time.Second
				was := e
				act, err := e.On(ev, 5*time.Second)
				if err == nil || act != Ignore || e.State != was.State || e.ready != was.ready {
					t.Errorf("%s meets %s: %q, %v, then %s, ready at %v", s, ev, act, err, e.State, e.ready)
				}
				if err != nil && (!strings.Contains(err.Error(), string(s)) || !strings.Contains(err.Error(), string(ev))) {
					t.Errorf("%v does not say that %s met %s", err, s, ev)
				}
				tried++
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d pairs were tried", tried)
	}
}

// TestCommitAndTheLease: a Commit is taken until the lease is over, and not at that moment any more.
func TestCommitAndTheLease(t *testing.T) {
	const lease = 10 * time.Second
	for _, c := range []struct {
		ready, commit time.Duration
		want          State
	}{
		{0, 0, Running}, {0, lease - 1, Running}, {0, lease, Dropped}, {0, time.Hour, Dropped},
		{time.Hour, time.Hour + lease - 1, Running}, {time.Hour, time.Hour + lease, Dropped},
		{-time.Hour, -time.Hour + lease - 1, Running}, {-time.Hour, 0, Dropped}, // a clock may begin anywhere
	} {
		e := NewTarget(lease)
		for _, ev := range []Event{Accepted, GotFinal} {
			if _, err := e.On(ev, c.ready-time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := e.On(BeReady, c.ready); err != nil {
			t.Fatal(err)
		}
		act, err := e.On(DoCommit, c.commit)
		if e.State != c.want || err != nil || (act == Go) != (c.want == Running) || (act == Discard) != (c.want == Dropped) {
			t.Errorf("ready at %v, Commit at %v: %s, %s, %v, want %s", c.ready, c.commit, e.State, act, err, c.want)
		}
	}
}

// TestTwoMovesAreApart: the tables are shared, nothing else is.
func TestTwoMovesAreApart(t *testing.T) {
	rules := maps.Clone(sourceRules)
	a, b := NewSource(), NewSource()
	if _, err := a.On(Accepted, 0); err != nil || a.State != Preparing || b.State != Offered {
		t.Errorf("one is %s, the other %s, %v", a.State, b.State, err)
	}
	if !maps.Equal(rules, sourceRules) {
		t.Error("a step changed the table")
	}
}

func TestNextRound(t *testing.T) {
	const kib = 1 << 10
	rounds := func(bytes ...uint64) (out []Round) {
		for _, b := range bytes {
			out = append(out, Round{Bytes: b, Took: time.Millisecond})
		}
		return out
	}
	for _, c := range []struct {
		name  string
		done  []Round
		limit int
		again bool
		why   string
	}{
		{"stop and copy", nil, 0, false, "first"},
		{"the first", nil, 1, true, "first"},
		{"one is the limit", rounds(64 << 20), 1, false, "1 rounds are the limit"},
		{"a second always pays", rounds(64 << 20), 5, true, "less"},
		{"also when the first was small", rounds(4 * kib), 5, true, "less"},
		{"little is left", rounds(64<<20, 100*kib), 5, false, "only 100 KiB"},
		{"just little enough", rounds(64<<20, 512*kib), 5, false, "only 512 KiB"},
		{"not little enough", rounds(64<<20, 512*kib+1), 5, true, "less"},
		{"nothing was written", rounds(64<<20, 0), 5, false, "only 0 KiB"},
		{"a third is tried, whatever the second was", rounds(64<<20, 60<<20), 5, true, "less"},
		{"it shrinks", rounds(64<<20, 16<<20, 8<<20), 5, true, "less"},
		{"by a fifth", rounds(64<<20, 10<<20, 8<<20), 5, true, "less"},
		{"by less than a fifth", rounds(64<<20, 10<<20, 8<<20+1), 5, false, "as fast as we copy"},
		{"it grows", rounds(64<<20, 10<<20, 20<<20), 5, false, "sent 20480 KiB, the one before it 10240"},
		{"it shrinks, but the limit is reached", rounds(64<<20, 16<<20, 8<<20, 4<<20, 2<<20), 5, false, "5 rounds"},
		{"far beyond the limit", rounds(64<<20, 16<<20, 8<<20), 2, false, "2 rounds"},
		{"a process without memory", rounds(0), 5, true, "less"},
	} {
		again, why := NextRound(c.done, c.limit)
		if again != c.again || !strings.Contains(why, c.why) {
			t.Errorf("%s: %v, %q, want %v, %q", c.name, again, why, c.again, c.why)
		}
	}
}

// TestRoundsEnd: whatever a process writes, there are no more rounds than the limit.
func TestRoundsEnd(t *testing.T) {
	for _, first := range []uint64{0, 1, 1 << 20, 1 << 63, 1<<64 - 1} {
		for _, shrink := range []uint64{1, 2, 100} {
			var done []Round
			for b := first; ; b /= shrink {
				again, why := NextRound(done, 7)
				if why == "" {
					t.Fatal("no reason")
				}
				if !again {
					break
				}
				if done = append(done, Round{Bytes: b}); len(done) > 7 {
					t.Fatal(fmt.Sprint("a round beyond the limit: ", done))
				}
			}
		}
	}
}

// What a round sends was written during the one before it; the first sends everything.
func TestWritten(t *testing.T) {
	for _, tt := range []struct {
		name   string
		rounds []Round
		want   float64
	}{
		{"none", nil, 0},
		{"one tells nothing", []Round{{1 << 30, time.Second}}, 0},
		{"a tenth again", []Round{{100 << 20, time.Second}, {10 << 20, 100 * time.Millisecond}, {1 << 20, time.Hour}}, (11 << 20) / 1.1},
		{"clocks that stand still", []Round{{1, 0}, {1, 0}}, 0},
	} {
		if got := Written(tt.rounds); math.Abs(got-tt.want) > 1 {
			t.Errorf("%s: %.0f bytes per second, want %.0f", tt.name, got, tt.want)
		}
	}
}
