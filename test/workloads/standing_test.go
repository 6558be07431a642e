package workloads

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// TestStanding: a process that loses the right to be away, by a call that it makes there, is called home; one whose call changes
// nothing stays away.
func TestStanding(t *testing.T) {
	w := Workload{Name: "drop", Uses: []string{"drop"}}
	build(t, w)
	files, _ := programs.BuildAll([]Workload{w})
	c := cluster.Start(t, lab.Options{Name: "standing", Nodes: 2, Bind: files})
	for _, x := range []struct {
		word string
		away bool
		why  string // of the refusal afterwards
		as   lab.As
	}{
		{"nothing", true, "", cluster.Root},
		{"id", false, "undumpable", cluster.Root},
		{"hide", false, "undumpable", cluster.User1},
		{"realtime", false, "realtime", cluster.Root},
	} {
		t.Run(x.word, func(t *testing.T) {
			dir := "/tmp/drop-" + x.word
			var says sharedBuffer
			cmd := c.Command("n1", x.as, "sh", "-c", "mkdir "+dir+" && cd "+dir+" && exec work-drop "+x.word)
			cmd.Stdout, cmd.Stderr = &bytes.Buffer{}, &says
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { _ = cmd.Wait(); close(ended) }()
			defer func() {
				_, _ = c.Shell("n1", x.as, "touch "+dir+"/go "+dir+"/stop")
				<-ended
			}()
			pid, err := awaitPID(&says, ended)
			if err != nil {
				t.Fatal(err)
			}
			r, err := c.Migrate("n1", cluster.Root, pid, "n2", "--allow-privileged")
			if err != nil || r.Result != api.ResultMoved {
				t.Fatalf("%v: %s %v", err, r.Result, r.Refusals)
			}
			if _, err := c.Shell("n1", x.as, "touch "+dir+"/go"); err != nil {
				t.Fatal(err)
			}
			did := ""
			for began := time.Now(); did == "" && time.Since(began) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
				if _, rest, ok := strings.Cut(says.String(), "did "); ok && strings.Contains(rest, "\n") {
					did = strings.TrimSpace(rest)
				}
			}
			switch {
			case did == "0 0":
			case did != "" && x.word == "realtime":
				t.Logf("this machine gives no real-time policy: %s", did)
			default:
				t.Fatalf("its call ended with %q", did)
			}
			away := x.away || x.word == "realtime" && did != "0 0"
			p, err := c.Process("n1", pid)
			for began := time.Now(); err == nil && !away && p.Where != "n1" && time.Since(began) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
				p, err = c.Process("n1", pid)
			}
			if away {
				time.Sleep(time.Second)
				p, err = c.Process("n1", pid)
			}
			if err != nil || (p.Where == "n2") != away {
				t.Fatalf("afterwards it is on %s (%v); its call ended with %q", p.Where, err, did)
			}
			if away {
				return
			}
			r, err = c.Migrate("n1", cluster.Root, pid, "n2", "--allow-privileged")
			if err != nil || r.Result != api.ResultRefused || len(r.Refusals) == 0 || r.Refusals[0].What != x.why {
				t.Errorf("asked to move again: %v, %s %v", err, r.Result, r.Refusals)
			}
		})
	}
}
