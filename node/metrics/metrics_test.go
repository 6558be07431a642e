package metrics

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"mosix/node/api"
)

// full returns metrics in which every series has been used once.
func full() *Metrics {
	m := New(func() Snapshot {
		return Snapshot{
			Load: 1.5, Mean: 1.25, Upper: 1.75, Capacity: 0.5, MemTotal: 1 << 30, MemFree: 1 << 29, Guests: 2, Away: 3, Candidates: 4, Locked: 1,
			Members: map[string]int{api.NodeAlive: 3, api.NodeDead: 1},
			Vector:  []Entry{{Node: "n2", Load: 0.25, Age: 1500 * time.Millisecond}},
		}
	})
	m.MoveDone(Move{Result: api.ResultMoved, Direction: Out, Cause: api.CauseBalancer, Freeze: 7 * time.Millisecond, Total: time.Second, Bytes: 4096, Rounds: 3})
	m.MoveDone(Move{Result: api.ResultRefused, Direction: Out, Cause: api.CauseCommand, Freeze: time.Hour, Bytes: 1 << 40})
	m.Call("read", 60*time.Microsecond)
	m.ComeHome("execve")
	m.Refused("seccomp")
	m.GossipSent(1300)
	m.GossipReceived(900)
	m.Decided(true)
	m.OwnerReturned(8, 0, 1800*time.Millisecond)
	return m
}

func families(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	fs, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*dto.MetricFamily{}
	for _, f := range fs {
		out[f.GetName()] = f
	}
	return out
}

func TestExposition(t *testing.T) {
	const want = `
# HELP mosix_load Ready processes per unit of capacity over the last period.
# TYPE mosix_load gauge
mosix_load 1.5
# HELP mosix_members Nodes of the cluster as membership sees them, by state.
# TYPE mosix_members gauge
mosix_members{state="alive"} 3
mosix_members{state="dead"} 1
mosix_members{state="left"} 0
mosix_members{state="suspect"} 0
# HELP mosix_move_bytes_total Bytes of process images carried by committed moves.
# TYPE mosix_move_bytes_total counter
mosix_move_bytes_total{direction="out"} 4096
# HELP mosix_moves_total Moves that have ended, by result (moved, refused, failed), direction (out, in, home, back) and cause (balancer, command, come-home, owner, shutdown).
# TYPE mosix_moves_total counter
mosix_moves_total{cause="balancer",direction="out",result="moved"} 1
mosix_moves_total{cause="command",direction="out",result="refused"} 1
# HELP mosix_vector_age_seconds Age of the entry about another node in the load vector.
# TYPE mosix_vector_age_seconds gauge
mosix_vector_age_seconds{node="n2"} 1.5
`
	err := testutil.GatherAndCompare(full().registry, strings.NewReader(want),
		"mosix_load", "mosix_members", "mosix_move_bytes_total", "mosix_moves_total", "mosix_vector_age_seconds")
	if err != nil {
		t.Error(err)
	}
}

// A refused move froze nothing, whatever its fields say.
func TestOnlyCommittedMovesHaveTimes(t *testing.T) {
	h := families(t, full())["mosix_move_freeze_seconds"].GetMetric()[0].GetHistogram()
	if h.GetSampleCount() != 1 || h.GetSampleSum() != 0.007 {
		t.Errorf("freeze histogram holds %d samples, sum %g s; want the one committed move of 0.007 s", h.GetSampleCount(), h.GetSampleSum())
	}
}

func TestNamesAreGoodNames(t *testing.T) {
	problems, err := testutil.GatherAndLint(full().registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "mosix_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// The port can be read by every user of the machine: a label that is not in this list needs thought about what it shows.
func TestLabelsNameOnlyNodesAndClasses(t *testing.T) {
	allowed := []string{"call", "cause", "direction", "node", "outcome", "result", "state", "what"}
	for name, f := range families(t, full()) {
		if !strings.HasPrefix(name, "mosix_") {
			continue
		}
		for _, s := range f.GetMetric() {
			for _, l := range s.GetLabel() {
				if !slices.Contains(allowed, l.GetName()) {
					t.Errorf("%s has label %s", name, l.GetName())
				}
			}
		}
	}
}

func TestSeriesAreBounded(t *testing.T) {
	m := New(func() Snapshot { return Snapshot{} })
	for i := range 5000 {
		name := fmt.Sprintf("name%d", i)
		m.Call(name, time.Millisecond)
		m.ComeHome(name)
		m.Refused(name)
		m.MoveDone(Move{Result: name, Direction: name, Cause: name})
	}
	for name, f := range families(t, m) {
		if n := len(f.GetMetric()); strings.HasPrefix(name, "mosix_") && n > maxCalls+1 {
			t.Errorf("%s has %d series", name, n)
		}
	}
	// What is beyond the bound is still counted.
	var sum float64
	for _, s := range families(t, m)["mosix_refusals_total"].GetMetric() {
		sum += s.GetCounter().GetValue()
	}
	if sum != 5000 {
		t.Errorf("refusals add up to %g, want 5000", sum)
	}
}

func TestConcurrentCalls(t *testing.T) {
	m := New(func() Snapshot { return Snapshot{} })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				m.Call(fmt.Sprintf("call%d", i%50), time.Microsecond)
			}
		})
	}
	wg.Wait()
	var n uint64
	for _, s := range families(t, m)["mosix_forwarded_call_seconds"].GetMetric() {
		n += s.GetHistogram().GetSampleCount()
	}
	if n != 8000 {
		t.Errorf("%d calls counted, want 8000", n)
	}
}

func TestCallDoesNotAllocate(t *testing.T) {
	m := New(func() Snapshot { return Snapshot{} })
	m.Call("read", time.Millisecond)
	if n := testing.AllocsPerRun(100, func() { m.Call("read", time.Millisecond) }); n != 0 {
		t.Errorf("Call allocates %g times; it is on the path of every forwarded call", n)
	}
}

func BenchmarkCall(b *testing.B) {
	m := New(func() Snapshot { return Snapshot{} })
	for b.Loop() {
		m.Call("read", time.Millisecond)
	}
}

func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- full().serve(ctx, l) }()

	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	code, body := get("/metrics")
	for _, want := range []string{"mosix_load 1.5", `mosix_forwarded_call_seconds_bucket{call="read",le="0.0001"} 1`, "go_goroutines"} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("/metrics: status %d, no %q in it", code, want)
		}
	}
	if code, _ := get("/debug/pprof/"); code != 404 {
		t.Errorf("/debug/pprof/ answers %d: nothing but /metrics may be served", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestEveryDescribedGaugeIsCollected(t *testing.T) {
	n := 0
	for name := range maps.Keys(families(t, full())) {
		for _, d := range nodeDescs {
			if strings.Contains(d.String(), `"`+name+`"`) {
				n++
			}
		}
	}
	if n != len(nodeDescs) {
		t.Errorf("%d of %d gauges were collected", n, len(nodeDescs))
	}
}
