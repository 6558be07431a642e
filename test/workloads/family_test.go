package workloads

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// TestFamilyAsked: all members of a family are asked to move at the same time, again and again. One of them takes the others along, and
// the others are refused, or find themselves moved.
func TestFamilyAsked(t *testing.T) {
	var w Workload
	for _, x := range Table() {
		if x.Name == "family" {
			w = x
		}
	}
	build(t, w)
	files, _ := programs.BuildAll([]Workload{w})
	c := cluster.Start(t, lab.Options{Name: "family", Nodes: 3, Bind: files})
	n1 := Node{Cluster: c, Name: "n1"}
	want, err := Do(n1, w, "native", nil)
	if err != nil {
		t.Fatal(err)
	}
	for run := range 3 {
		var moved atomic.Int64
		r, err := Do(n1, w, fmt.Sprint("asked", run), func(pid int) error {
			for round := range 6 {
				b, err := c.Shell("n1", cluster.User1, fmt.Sprintf("pgrep -P %d || true", pid))
				if err != nil {
					return err
				}
				to := []string{"n2", api.ToHome, "n3", api.ToHome, "n2", "n3"}[round]
				var wg sync.WaitGroup
				for _, f := range append(strings.Fields(string(b)), strconv.Itoa(pid)) {
					member, err := strconv.Atoi(f)
					if err != nil {
						return err
					}
					for range 3 {
						wg.Go(func() {
							if r, err := c.Migrate("n1", cluster.User1, member, to); err == nil && r.Result == api.ResultMoved && r.From != id.Node(to) {
								moved.Add(1)
							}
						})
					}
				}
				wg.Wait()
				time.Sleep(200 * time.Millisecond)
			}
			return nil
		})
		if err == nil {
			err = w.Check(r)
		}
		if err == nil && !bytes.Equal(r.Out, want.Out) {
			err = fmt.Errorf("it prints\n%s\ninstead of\n%s", r.Out, want.Out)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, c.Says(r.PID))
		}
		for _, n := range c.Nodes() {
			if text, err := c.AgentLog(n.Name); err != nil || strings.Contains(text, "does not belong") || strings.Contains(text, "level=ERROR") {
				t.Fatalf("run %d: the agent of %s: %v\n%s", run, n.Name, err, c.Says(r.PID))
			}
		}
		if moved.Load() == 0 {
			t.Error("nothing was moved")
		}
	}
}
