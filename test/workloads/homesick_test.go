package workloads

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// TestHomesick: a guest that begins to ask its home all the time goes home by itself, and does not leave again, although home is crowded.
func TestHomesick(t *testing.T) {
	c := cluster.Start(t, lab.Options{Name: "homesick", Nodes: 2, CPUs: []float64{0.5}, Policy: "default"})
	start := func(command string) int {
		t.Helper()
		out, err := c.Shell("n1", cluster.User1, "sh -c '"+command+"' > /dev/null 2>&1 & echo $!")
		pid, err2 := strconv.Atoi(strings.TrimSpace(out))
		if err != nil || err2 != nil {
			t.Fatalf("%q, %v, %v", out, err, err2)
		}
		t.Cleanup(func() { _, _ = c.Shell("n1", cluster.Root, "kill -9 "+strconv.Itoa(pid)) })
		return pid
	}
	row := func(pid int) api.Process {
		p, err := c.Process("n1", pid)
		if err != nil {
			t.Fatalf("the process is no more: %v", err)
		}
		return p
	}
	// It computes for some seconds, and then looks at a file for ever, which at home is counted by nobody.
	talker := start("i=0; while [ $i -lt 8000000 ]; do i=$((i+1)); done; while :; do test -e /etc/passwd; done")
	if r, err := c.Migrate("n1", cluster.User1, talker, "n2"); err != nil || r.Result != api.ResultMoved {
		t.Fatalf("%+v, %v", r, err)
	}
	var away api.Process
	if _, ok := cluster.Until(90*time.Second, func() bool {
		p := row(talker)
		if p.State == api.ProcessAway {
			away = p
		}
		return p.State == api.ProcessHome
	}); !ok {
		t.Fatalf("it asks home all the time, and stays away: %+v\n%s", away, c.Says(talker))
	}
	moves := row(talker).Moves
	for range 2 {
		start("while :; do :; done")
	}
	// One of the others leaves the crowd.
	var gone id.HomePID
	if _, ok := cluster.Until(60*time.Second, func() bool {
		var ps api.Processes
		if err := c.Mosixctl("n1", cluster.User1, &ps, "ps"); err != nil {
			t.Fatal(err)
		}
		for _, p := range ps.Processes {
			if p.State == api.ProcessAway && p.Home == "n1" {
				gone = p.PID
			}
		}
		return gone != 0
	}); !ok {
		t.Errorf("nobody leaves a node of half a processor with three that compute\n%s", c.Says(talker))
	}
	var out string
	if _, ok := cluster.Until(30*time.Second, func() bool {
		out, _ = c.Shell("n1", cluster.User1, "mosixctl why-not "+strconv.Itoa(talker))
		return strings.Contains(out, "away it waited for home")
	}); !ok {
		t.Errorf("why it stays: %q", out)
	}
	if p := row(talker); gone == id.HomePID(talker) || p.Moves != moves {
		t.Errorf("it left again: %+v", p)
	}
}
