package workloads

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/test/cluster"
)

// TestPlaced: a command goes where --select lets it and --order wants it, begins where the policy sees room, and stays where a rule keeps it; a
// node takes no more guests than it is to.
func TestPlaced(t *testing.T) {
	c := cluster.Start(t, lab.Options{Name: "placed", Nodes: 3, CPUs: []float64{0.5}, Policy: "default", Configure: func(node id.Node, conf *config.Config) {
		conf.Tags, conf.Indices, conf.Rules = []string{"all", "is-" + string(node)}, "echo gpus $(hostname | tr -d n)", "/tmp/rules.toml" // of the node
		if node == "n3" {
			conf.Guests.User.Most = 1
		}
	}})
	if out, err := c.Shell("n1", cluster.Root, `printf '[[rule]]\ncommand = "sleep"\nmove = "never"\n' > /tmp/rules.toml`); err != nil {
		t.Fatal(out, err)
	}
	var pids []int
	defer func() { _, _ = c.Shell("n1", cluster.Root, strings.Trim(fmt.Sprint("kill -9 ", pids), "[]")) }()
	run := func(options, command string) (int, string) {
		t.Helper()
		out, err := c.Shell("n1", cluster.User1, "mosixctl run "+options+" -- "+command+" > /tmp/out 2>&1 & echo $!")
		pid, err2 := strconv.Atoi(strings.TrimSpace(out))
		if err != nil || err2 != nil {
			t.Fatalf("%s: %q, %v, %v", options, out, err, err2)
		}
		pids = append(pids, pid)
		said, _ := c.Shell("n1", cluster.User1, "cat /tmp/out")
		return pid, said
	}
	where := func(pid int) id.Node {
		p, err := c.Process("n1", pid)
		if err != nil {
			return ""
		}
		return p.Where
	}
	goesTo := func(pid int, want id.Node) {
		t.Helper()
		if _, ok := cluster.Until(30*time.Second, func() bool { return where(pid) == want }); !ok {
			said, _ := c.Shell("n1", cluster.User1, "cat /tmp/out")
			t.Errorf("it is on %s, want %s\n%s\n%s", where(pid), want, said, c.Says(pid))
		}
	}
	for _, node := range []string{"n2", "n3"} { // until n1 has heard of it
		if _, ok := cluster.Until(30*time.Second, func() bool {
			_, err := c.Shell("n1", cluster.User1, `mosixctl run --select 'tag("is-`+node+`")' -- true 2> /dev/null`)
			return err == nil
		}); !ok {
			t.Fatal("n1 does not know what", node, "has")
		}
	}
	const turns = "sh -c 'while :; do :; done'"
	third, _ := run(`--select 'tag("is-n3") && memtotal > 1MiB'`, turns)
	goesTo(third, "n3")
	second, _ := run(`--select 'gpus >= 2 && tag("all")' --order gpus`, turns)
	goesTo(second, "n2")

	// n3 has one guest of this user, and takes no other.
	if r, err := c.Migrate("n1", cluster.User1, second, "n3"); err != nil || !strings.Contains(r.Refusals.String(), "at most") {
		t.Errorf("a second guest of one user: %+v, %v", r, err)
	}
	for options, want := range map[string]string{`--select 'tag("moon")'`: "none of 3 nodes fits", `--select 'cpus >'`: "column 7", `--select 'moons > 1'`: `no node has an index "moons"`,
		`--order 'load &'`: "column 6"} {
		out, err := c.Shell("n1", cluster.User1, "mosixctl run "+options+" -- true 2>&1; echo status $?")
		if err != nil || !strings.Contains(out, want) || !strings.Contains(out, "status 125") {
			t.Errorf("%s: %q, %v, want %s and status 125", options, out, err, want)
		}
	}
	// It stays where --select wants it although its node is crowded.
	for range 3 {
		run("--on home", turns)
	}
	sleeper, _ := run("", "sleep 600")
	// One that is not told otherwise leaves the crowd.
	if _, ok := cluster.Until(60*time.Second, func() bool {
		away := 0
		for _, pid := range pids[2:5] {
			if w := where(pid); w != "n1" && w != "" {
				away++
			}
		}
		return away > 0
	}); !ok {
		t.Error("nobody leaves a node of half a processor with three that compute")
	}
	if w := where(sleeper); w != "" && w != "n1" {
		t.Errorf("a command whose rule is never to move is on %s", w)
	}
	if w := where(third); w != "n3" {
		t.Errorf("a process that is to be on n3 is on %s", w)
	}
}
