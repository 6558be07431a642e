package workloads

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// TestOwner: what the owner of a machine orders happens: guests leave when he is back, and none comes; processes that are locked, or whose
// node lets nobody go, are so.
func TestOwner(t *testing.T) {
	c := cluster.Start(t, lab.Options{Name: "owner", Nodes: 2})
	ctl := func(node id.Node, as lab.As, line string) (api.OwnerState, error) {
		out, err := c.Shell(node, as, "mosixctl "+line+" --json")
		var st api.OwnerState
		if err == nil {
			err = json.Unmarshal([]byte(out), &st)
		}
		return st, err
	}
	var pids []int
	for range 4 {
		out, err := c.Shell("n1", cluster.User1, "sleep 600 > /dev/null 2>&1 & echo $!")
		pid, err2 := strconv.Atoi(strings.TrimSpace(out))
		if err != nil || err2 != nil {
			t.Fatalf("%q, %v, %v", out, err, err2)
		}
		pids = append(pids, pid)
	}
	defer func() { _, _ = c.Shell("n1", cluster.User1, strings.Trim(fmt.Sprint("kill ", pids), "[]")) }()
	away := func() (n int) {
		for _, pid := range pids {
			if p, err := c.Process("n1", pid); err == nil && p.Where == "n2" {
				n++
			}
		}
		return n
	}
	send := func() (refused string) {
		for _, pid := range pids {
			r, err := c.Migrate("n1", cluster.User1, pid, "n2")
			if err != nil {
				t.Fatal(err)
			}
			if r.Result != api.ResultMoved {
				refused = fmt.Sprint(r.Refusals, r.Error)
			}
		}
		return refused
	}
	if why := send(); why != "" || away() != len(pids) {
		t.Fatalf("%d of %d are away: %s", away(), len(pids), why)
	}
	if _, err := ctl("n2", cluster.User1, "owner here"); err == nil {
		t.Error("an ordinary user says who owns the machine")
	}
	if st, err := ctl("n2", cluster.Root, "owner here"); err != nil || !st.Present {
		t.Fatalf("%+v, %v", st, err)
	}
	began := time.Now()
	for away() > 0 {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%d guests are there still", away())
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("all have gone %.1f s after the owner came", time.Since(began).Seconds())
	if why := send(); !strings.Contains(why, "its owner is at the machine") {
		t.Errorf("guests come to a machine whose owner is there: %q", why)
	}
	for _, step := range []struct{ line, refused string }{{"owner gone", ""}, {"block", "it is blocked"}, {"unblock", ""}} {
		if _, err := ctl("n2", cluster.Root, step.line); err != nil {
			t.Fatal(err)
		}
		if why := send(); (why == "") != (step.refused == "") || !strings.Contains(why, step.refused) {
			t.Errorf("after %s: %q", step.line, why)
		}
		if step.refused == "" {
			if st, err := ctl("n1", cluster.Root, "bring"); err != nil || st.Moved != len(pids) || away() != 0 {
				t.Errorf("bring after %s: %+v, %v, %d away", step.line, st, err, away())
			}
		}
	}
	if why := send(); why != "" {
		t.Fatal(why)
	}
	if st, err := ctl("n2", cluster.Root, "expel"); err != nil || st.Moved != len(pids) || away() != 0 {
		t.Errorf("expel: %+v, %v, %d away", st, err, away())
	}
	if _, err := ctl("n1", cluster.User1, fmt.Sprintf("lock %d", pids[0])); err != nil {
		t.Error(err)
	}
	if st, err := ctl("n1", cluster.Root, "setspeed 2"); err != nil || st.Speed != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := ctl("n1", cluster.Root, "stay"); err != nil {
		t.Error(err)
	}
	if _, err := c.AgentKill("n1"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AgentStart("n1"); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if st, err := ctl("n1", cluster.Root, "owner"); err == nil {
			if !st.Stay || st.Speed != 2 {
				t.Errorf("a new agent does not know what was ordered: %+v", st)
			}
			break
		} else if time.Since(began) > 20*time.Second {
			t.Fatal(err)
		}
	}
	out, err := c.Shell("n2", cluster.Root, "mosixctl events")
	for _, want := range []string{"somebody is at the machine: by command", "the owner is back: 4 guests went", "by command: block"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("the events do not say %q: %v\n%s", want, err, out)
		}
	}
	out, err = c.Shell("n1", cluster.Root, fmt.Sprintf("mosixctl why-not %d", pids[0]))
	if err != nil || !strings.Contains(out, "policy     ") {
		t.Errorf("%v\n%s", err, out)
	}
}
