package workloads

import (
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

// TestBorrowedMemory: a guest that uses its parent's memory, until it executes a program, is not sent home before, whoever asks for
// it: what it writes there is its parent's.
func TestBorrowedMemory(t *testing.T) {
	w := Workload{Name: "vforks", Uses: []string{"vforks"}, Line: Program("vforks") + " SECONDS STOP", Stops: true}
	build(t, w)
	files, _ := programs.BuildAll([]Workload{w})
	c := cluster.Start(t, lab.Options{Name: "borrowed", Nodes: 2, Bind: files})
	m := Mover{Cluster: c, Home: "n1", Others: []id.Node{"n2"}}
	asked := 0
	r, err := Do(Node{Cluster: c, Name: "n1"}, w, "vforks", func(pid int) error {
		if _, err := m.move(w, pid, "n2"); err != nil {
			return err
		}
		for began := time.Now(); time.Since(began) < 10*time.Second && asked < 8; time.Sleep(50 * time.Millisecond) {
			b, err := c.Shell("n1", cluster.User1, fmt.Sprintf("pgrep -P %d || true", pid))
			if err != nil {
				return err
			}
			child, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				continue
			}
			if _, err := c.Migrate("n1", cluster.User1, child, api.ToHome); err == nil { // it may have ended
				asked++
			}
		}
		return nil
	})
	if err == nil {
		err = w.Check(r)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, c.Says(r.PID))
	}
	if asked == 0 {
		t.Error("no child was asked to go home")
	}
	t.Logf("%d children were asked to go home", asked)
}
