package workloads

import (
	"fmt"
	"testing"
	"time"

	"mosix/internal/lab"
	"mosix/migrator/ferry"
	"mosix/node/api"
	"mosix/test/cluster"
)

// TestKilledOnTheWayHome: a process that is killed at home in the middle of its homecoming has ended, and its guest ends.
func TestKilledOnTheWayHome(t *testing.T) {
	c := cluster.Start(t, lab.Options{Name: "killed", Nodes: 2})
	pid := startAway(t, c, "bash -c 'while :; do :; done'")
	point := ferry.AtComplete.Name()
	if err := c.Arm("n1", point+" delay 1s once"); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = c.Migrate("n1", cluster.User1, pid, api.ToHome) }() // it does not succeed
	if _, ok := cluster.Until(10*time.Second, func() bool { return c.Hit("n1", point) }); !ok {
		t.Fatal("it is not on its way home")
	}
	if _, err := c.Shell("n1", cluster.User1, fmt.Sprintf("kill -KILL %d", pid)); err != nil {
		t.Fatal(err)
	}
	guests := func() int {
		var st api.Status
		if err := c.Mosixctl("n2", cluster.User1, &st, "status"); err != nil {
			t.Fatal(err)
		}
		return nodeOf(st, "n2").Guests
	}
	if n := guests(); n != 1 {
		t.Errorf("%d guests are on n2 while it is on its way home", n)
	}
	gone := func() bool {
		_, err := c.Process("n1", pid)
		return guests() == 0 && err != nil
	}
	took, ok := cluster.Until(time.Minute, gone)
	t.Logf("after %v", took)
	if !ok {
		t.Errorf("%v after the process was killed at home %d guests are on n2, and home knows it still\n%s", took, guests(), c.Says(pid))
	}
}
