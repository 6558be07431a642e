package workloads

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// startAway starts a command of user1 on n1, which ends with the test, and moves it to n2.
func startAway(t *testing.T, c *cluster.Cluster, command string) (pid int) {
	t.Helper()
	out, err := c.Shell("n1", cluster.User1, command+" > /dev/null 2>&1 & echo $!")
	pid, err2 := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || err2 != nil {
		t.Fatalf("%q, %v, %v", out, err, err2)
	}
	t.Cleanup(func() { _, _ = c.Shell("n1", cluster.User1, fmt.Sprintf("kill -KILL %d", pid)) })
	if r, err := c.Migrate("n1", cluster.User1, pid, "n2"); err != nil || r.Result != api.ResultMoved {
		t.Fatalf("%v: %s %v %s", err, r.Result, r.Refusals, r.Error)
	}
	return pid
}

// TestLookedAt: a process that is away comes home when a debugger has attached to it, and when somebody else sets a limit that its guest's
// kernel keeps.
func TestLookedAt(t *testing.T) {
	w := Workload{Name: "looked-at", Uses: []string{"attacher"}}
	build(t, w)
	files, _ := programs.BuildAll([]Workload{w})
	c := cluster.Start(t, lab.Options{Name: "looked", Nodes: 2, Bind: files})
	for name, look := range map[string]string{"debugger": Program("attacher") + " %d", "limit": "prlimit --pid %d --data=500000000"} {
		t.Run(name, func(t *testing.T) {
			pid := startAway(t, c, "sleep 300")
			time.Sleep(1200 * time.Millisecond) // its limits have been looked at
			if p, err := c.Process("n1", pid); err != nil || p.Where != "n2" {
				t.Fatalf("it is at %q before anybody looks: %v", p.Where, err)
			}
			if _, err := c.Shell("n1", cluster.User1, fmt.Sprintf(look, pid)); err != nil {
				t.Fatal(err)
			}
			for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
				if p, err := c.Process("n1", pid); err == nil && p.Where == "n1" {
					break
				}
				if time.Since(began) > 20*time.Second {
					t.Fatalf("it did not come home\n%s", c.Says(pid))
				}
			}
		})
	}
}
