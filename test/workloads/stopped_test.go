package workloads

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// TestStopped: a process that is stopped can be moved, stands still wherever it is, and goes on when it is continued at home.
func TestStopped(t *testing.T) {
	c := cluster.Start(t, lab.Options{Name: "stopped", Nodes: 2})
	cmd := c.Command("n1", cluster.User1, "bash", "-c", `while :; do i=$((i+1)); [ $((i%100)) = 0 ] && echo $i > /tmp/count; done`)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it is killed
	do := func(line string) string {
		t.Helper()
		out, err := c.Shell("n1", cluster.User1, line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return out
	}
	pid := cmd.PID()
	defer func() { _, _ = c.Shell("n1", cluster.User1, fmt.Sprintf("kill -KILL %d", pid)) }()
	count := func() string { return do("cat /tmp/count") }
	state := func() string { return do(fmt.Sprintf("awk '{print $3}' /proc/%d/stat", pid)) }
	if _, ok := cluster.Until(10*time.Second, func() bool { _, err := c.Shell("n1", cluster.User1, "cat /tmp/count"); return err == nil }); !ok {
		t.Fatal("it does not count")
	}
	move := func(to string) {
		t.Helper()
		if r, err := c.Migrate("n1", cluster.User1, pid, to); err != nil || r.Result != api.ResultMoved {
			t.Fatalf("move it to %s: %v %s %s %v", to, err, r.Result, r.Error, r.Refusals)
		}
	}
	still := func(where string) {
		t.Helper()
		if _, ok := cluster.Until(5*time.Second, func() bool { return strings.EqualFold(state(), "T") }); !ok {
			t.Errorf("%s it is %s, not stopped", where, state())
		}
		was := count()
		time.Sleep(300 * time.Millisecond)
		if now := count(); now != was {
			t.Errorf("%s it has counted from %s to %s while it was stopped", where, was, now)
		}
	}
	goes := func(where string) {
		t.Helper()
		was := count()
		if _, ok := cluster.Until(10*time.Second, func() bool { return count() != was }); !ok {
			t.Fatalf("%s it does not go on; it is %s", where, state())
		}
	}
	for round := range 3 {
		do(fmt.Sprintf("kill -STOP %d", pid))
		if _, ok := cluster.Until(5*time.Second, func() bool { return state() == "T" }); !ok {
			t.Fatalf("it does not stop: %s", state())
		}
		was := count()
		move("n2")
		if now := count(); now != was {
			t.Errorf("it has counted from %s to %s on its way", was, now)
		}
		still("away")
		if round == 1 {
			do(fmt.Sprintf("kill -CONT %d", pid))
			goes("continued away")
			do(fmt.Sprintf("kill -STOP %d", pid))
			still("stopped away")
		}
		move(api.ToHome)
		still("home again")
		if round == 2 {
			move("n2")
		}
		do(fmt.Sprintf("kill -CONT %d", pid))
		goes("continued")
	}
}
