package workloads

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
)

// TestApart is about nodes that differ: a clock that is ahead and drifts, and a processor that lacks something.
func TestApart(t *testing.T) {
	w := Workload{Name: "drift", Uses: []string{"drift"}, Line: "work-drift SECONDS STOP"}
	build(t, w)
	files, _ := programs.BuildAll([]Workload{w})
	const ppm = 4000
	c := cluster.Start(t, lab.Options{Name: "apart", Nodes: 2, Bind: files,
		Clock: map[id.Node]time.Duration{"n1": 3 * time.Second}, Drift: map[id.Node]int{"n1": ppm}})
	at := Node{Cluster: c, Name: "n1"}
	// follow runs the program away from home, and says by how many millionths its realtime is faster than its monotonic clock.
	follow := func(run string) float64 {
		m := &Mover{Cluster: c, Home: "n1", Others: []id.Node{"n2"}}
		r, err := Do(at, w, run, func(pid int) error {
			time.Sleep(between)
			if _, err := m.move(w, pid, "n2"); err != nil {
				return err
			}
			time.Sleep(9 * time.Second)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		points := readings(t, r.Out)
		last := points[len(points)-1]
		if last.back != 0 {
			t.Errorf("%s: its clocks went back %d times", run, last.back)
		}
		var first *reading
		for i := range points { // away, and the first correction under way
			if p := &points[i]; first == nil && last.mono-p.mono < 5e9 {
				first = p
			}
		}
		if apart := last.apart - first.apart; apart != 0 {
			t.Errorf("%s: vDSO and system calls disagreed %d times", run, apart)
		}
		if ahead := last.real - last.mono - (points[0].real - points[0].mono); math.Abs(ahead-3e9) > 0.3e9 {
			t.Errorf("%s: away its realtime is %.3f s ahead of what it was", run, ahead/1e9)
		}
		return (last.real - last.mono - first.real + first.mono) / (last.mono - first.mono) * 1e6
	}
	if got := follow("drifting"); math.Abs(got-ppm) > ppm/4 {
		t.Errorf("home's clock is too fast by %d millionths, the guest's by %.0f", ppm, got)
	}

	st := status(t, c)
	if n := nodeOf(st, "n2"); n == nil || len(n.CPULacks)+len(n.CPUAlsoHas) != 0 || n.OtherKernel || n.CPUModel == "" {
		t.Errorf("on one machine the other node is %+v", n)
	}
}

type reading struct {
	mono, real  float64
	back, apart int
}

func readings(t *testing.T, out []byte) (rs []reading) {
	t.Helper()
	for line := range strings.Lines(string(bytes.TrimSpace(out))) {
		var m, r uint64
		var x reading
		if _, err := fmt.Sscan(line, &m, &r, &x.back, &x.apart); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		x.mono, x.real = float64(m), float64(r)
		rs = append(rs, x)
	}
	if len(rs) < 50 {
		t.Fatalf("only %d readings", len(rs))
	}
	return rs
}

func status(t *testing.T, c *cluster.Cluster) (st api.Status) {
	t.Helper()
	if err := c.Mosixctl("n1", cluster.User1, &st, "status"); err != nil {
		t.Fatal(err)
	}
	return st
}

func nodeOf(st api.Status, name id.Node) *api.Node {
	for i := range st.Nodes {
		if st.Nodes[i].Name == name {
			return &st.Nodes[i]
		}
	}
	return nil
}

// TestPoorerProcessor makes one node's processor lack AVX, as far as it tells: nothing that may use it goes there, and status says
// so.
func TestPoorerProcessor(t *testing.T) {
	w := Workload{Name: "drift", Uses: []string{"drift"}, Line: "work-drift SECONDS STOP"}
	build(t, w)
	files, _ := programs.BuildAll([]Workload{w})
	c := cluster.Start(t, lab.Options{Name: "poorer", Nodes: 2, Bind: files})
	if err := c.Arm("n2", "processor-without-avx error"); err != nil {
		t.Fatal(err)
	}
	lacks := ""
	for began := time.Now(); lacks == "" && time.Since(began) < 30*time.Second; time.Sleep(time.Second) { // it has asked before
		if n := nodeOf(status(t, c), "n2"); n != nil {
			lacks = strings.Join(n.CPULacks, " ")
		}
	}
	if !strings.Contains(lacks, "avx") {
		t.Errorf("n1 does not see that n2 lacks AVX: it lacks %q", lacks)
	}
	_, err := Do(Node{Cluster: c, Name: "n1"}, w, "poorer", func(pid int) error {
		r, err := c.Migrate("n1", cluster.User1, pid, "n2")
		if err != nil {
			return err
		}
		if r.Result != api.ResultRefused || len(r.Refusals) != 1 || r.Refusals[0].What != "cpu" || !strings.Contains(r.Refusals[0].Evidence, "avx") {
			return fmt.Errorf("the move to a poorer processor: %s %v", r.Result, r.Refusals)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
