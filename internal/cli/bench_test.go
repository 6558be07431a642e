package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"mosix/node/api"
)

func TestBenchMovesThereAndBack(t *testing.T) {
	t.Setenv(asMosixctl, "1")
	ag := &agent{results: []api.MigrateResult{
		{Result: api.ResultMoved, FreezeMS: 2, TotalMS: 20, Bytes: 100, Rounds: 1}, {Result: api.ResultMoved, FreezeMS: 5},
		{Result: api.ResultMoved, FreezeMS: 4, TotalMS: 40, Bytes: 300, Rounds: 3}, {Result: api.ResultMoved, FreezeMS: 50},
	}}
	code, stdout, stderr := mosixctl(serve(t, ag), 0, "bench", "move", "--sizes", "1MiB", "--dirty", "10%", "--repeat", "2", "--json")
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, stderr)
	}
	var r benchReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Target != "n2" || len(r.Results) != 4 {
		t.Fatalf("report %+v; want n2, with there and home by two strategies", r)
	}
	want := benchRow{SizeBytes: 1 << 20, DirtyPercent: 10, Direction: "out", Strategy: api.Precopy, Moves: 2, FreezeMS: 3, FreezeMaxMS: 4, TotalMS: 30, Bytes: 200, Rounds: 2}
	if r.Results[0] != want {
		t.Errorf("got  %+v\nwant %+v", r.Results[0], want)
	}
	if r.Results[1].Direction != "home" || r.Results[1].FreezeMaxMS != 50 {
		t.Errorf("home: %+v", r.Results[1])
	}
	asked := ag.asked()
	for i, to := range []string{"n2", "home", "n2", "home", "n2", "home", "n2", "home"} {
		strategy := api.Precopy
		if i >= 4 {
			strategy = api.StopAndCopy
		}
		if asked[i].To != to || asked[i].Strategy != strategy || asked[i].PID != asked[i/4*4].PID || asked[i].AllowPrivileged != (os.Geteuid() == 0) {
			t.Errorf("move %d: %+v", i, asked[i])
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", asked[i].PID)); err == nil {
			t.Errorf("the load %d was left running", asked[i].PID)
		}
	}
}

func TestBenchSaysWhichMoveFailed(t *testing.T) {
	t.Setenv(asMosixctl, "1")
	socket := serve(t, &agent{results: []api.MigrateResult{{Result: api.ResultFailed, Error: "n2 is full"}}})
	code, _, stderr := mosixctl(socket, 0, "bench", "move", "--sizes", "64KiB", "--repeat", "1")
	if code != ExitFailed || !strings.Contains(stderr, "bench of 64.0KiB: move to n2 was failed: n2 is full") {
		t.Errorf("exit status %d, %q", code, stderr)
	}
}

func TestBenchTable(t *testing.T) {
	var out strings.Builder
	b := benchMove{app: &app{out: &out}, repeat: 5}
	row := func(dir, strategy string, freeze float64) benchRow {
		return benchRow{SizeBytes: 256 << 20, DirtyPercent: 10, Direction: dir, Strategy: strategy, Moves: 5, FreezeMS: freeze, FreezeMaxMS: 2 * freeze, TotalMS: 400, Bytes: 300 << 20, Rounds: 4}
	}
	err := b.print(benchReport{Target: "n2", Results: []benchRow{
		row("out", api.Precopy, 5.5), row("home", api.Precopy, 7), row("out", api.StopAndCopy, 380), row("home", api.StopAndCopy, 390),
	}})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "bench", out.String())
}

func TestWriterWritesThatShareOfPages(t *testing.T) {
	w := writer{memory: make([]byte, 100*pageBytes)}
	for range 50 { // a second in steps of 20 ms, ten percent of 100 pages per second
		w.write(10.0 / 50)
	}
	written := 0
	for p := range 100 {
		written += int(w.memory[p*pageBytes])
	}
	if written < 9 || written > 10 || w.memory[0] != 1 {
		t.Errorf("%d pages were written, want 10, each once", written)
	}
	for range 100 {
		w.write(1)
	}
	if w.memory[99*pageBytes] != 1 {
		t.Error("the last page was not reached")
	}
}

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		v    []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := median(tc.v); got != tc.want {
			t.Errorf("median of %v is %g, want %g", tc.v, got, tc.want)
		}
	}
}
