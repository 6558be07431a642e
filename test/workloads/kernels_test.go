package workloads

import (
	"slices"
	"testing"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/migrator/thaw"
	"mosix/test/cluster"
)

// TestAnotherKernel moves to a node that takes home's vDSO for that of another kernel: programs take theirs along, and see no
// difference.
func TestAnotherKernel(t *testing.T) {
	names := []string{"clocks", "timers", "sleep", "waits", "world", "cputime", "signals", "threads", "children", "areas", "maps", "family", "goruntime", "python"}
	list := slices.DeleteFunc(Table(), func(w Workload) bool { return !slices.Contains(names, w.Name) })
	if len(list) != len(names) {
		t.Fatalf("%d of %d workloads are known", len(list), len(names))
	}
	files, _ := programs.BuildAll(list)
	c := cluster.Start(t, lab.Options{Name: "kernels", Nodes: 2, Bind: files})
	point := thaw.VDSODiffers.Name()
	if err := c.Arm("n2", point+" error"); err != nil {
		t.Fatal(err)
	}
	m := &Mover{Cluster: c, Home: "n1", Others: []id.Node{"n2"}}
	at := Node{Cluster: c, Name: "n1"}
	two := make(chan struct{}, 2)
	for _, w := range list {
		t.Run(w.Name, func(t *testing.T) {
			build(t, w)
			t.Parallel()
			two <- struct{}{}
			defer func() { <-two }()
			native, err := Do(at, w, w.Name+".native", nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Do(at, w, w.Name+".another-kernel", m.Again(w, 4))
			if err == nil {
				err = w.Check(r)
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, c.Says(r.PID))
			}
			same(t, "to another kernel and back", native, r)
			if !c.Hit("n2", point) {
				t.Error("no guest has taken its vDSO along")
			}
		})
	}
}
