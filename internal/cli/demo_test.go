package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/node/api"
)

// goSource is the source tree of the Go that runs the tests.
func goSource(t *testing.T) string {
	t.Helper()
	src, err := goTree()
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// goFiles makes a small tree of Go files and returns its src folder.
func goFiles(t *testing.T, n int) string {
	t.Helper()
	src := filepath.Join(t.TempDir(), "src")
	for i := range n {
		dir := filepath.Join(src, fmt.Sprintf("p%d", i%4), []string{"", "testdata"}[i%5/4])
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("package p\n\nfunc f%d() string { return \"%s\" }\n", i, strings.Repeat("x", 100+i))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d.go", i)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return src
}

func TestTreeTravels(t *testing.T) {
	src := goFiles(t, 50)
	archive, err := packTree(src, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	again, err := packTree(src, 1<<20)
	if err != nil || !bytes.Equal(archive, again) {
		t.Errorf("the same tree gives another archive (%v)", err)
	}
	dir := t.TempDir()
	if err := unpackTree(bytes.NewReader(archive), dir); err != nil {
		t.Fatal(err)
	}
	var all []byte
	n := 0
	err = filepath.WalkDir(filepath.Join(dir, demoTree), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		name, _ := filepath.Rel(filepath.Join(dir, demoTree), path)
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(filepath.Join(src, name))
		if !bytes.Equal(got, want) {
			t.Errorf("%s has changed", name)
		}
		all = append(all, got...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != 40 {
		t.Errorf("%d files travelled, want the 40 outside of testdata", n)
	}
	corpus, err := os.ReadFile(filepath.Join(dir, demoCorpus))
	if err != nil || len(corpus) != len(all) {
		t.Errorf("the corpus has %d bytes, the files %d (%v)", len(corpus), len(all), err)
	}
}

func TestTreeIsBounded(t *testing.T) {
	archive, err := packTree(goFiles(t, 200), 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	if len(archive) > 32<<10 || len(archive) < 8<<10 {
		t.Errorf("the archive has %d bytes, want about 16 KiB", len(archive))
	}
}

func TestArchiveStaysInItsFolder(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "../../escaped", Size: 1}), w.Close()); err == nil {
		t.Fatal("the archive lacks its file's byte, which Close must tell")
	}
	if err := unpackTree(&b, t.TempDir()); err == nil || !strings.Contains(err.Error(), "leads out") {
		t.Errorf("got %v", err)
	}
}

func TestNoTree(t *testing.T) {
	if _, err := packTree(t.TempDir(), 1<<20); err == nil || !strings.Contains(err.Error(), "holds only 0 Go files") {
		t.Errorf("got %v", err)
	}
}

func TestFeederStopsWhenItIsEnough(t *testing.T) {
	corpus := filepath.Join(t.TempDir(), demoCorpus)
	if err := os.WriteFile(corpus, bytes.Repeat([]byte("0123456789\n"), demoUnit/4), 0o600); err != nil {
		t.Fatal(err)
	}
	fed := func(data bool, rounds int, enough func() bool) (int, []byte) {
		f, err := newDemoFeeder(corpus, data)
		if err != nil {
			t.Fatal(err)
		}
		r, err := syscall.Dup(int(f.read.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan []byte)
		go func() {
			in := os.NewFile(uintptr(r), "input")
			defer in.Close()
			b, _ := io.ReadAll(in)
			got <- b
		}()
		n, err := f.feed(rounds, enough)
		if err != nil {
			t.Error(err)
		}
		return n, <-got
	}
	for _, data := range []bool{false, true} {
		asked := 0
		n, first := fed(data, 0, func() bool { asked++; return asked > 5 })
		unit := map[bool]int{true: demoUnit, false: demoLine}[data]
		if n != 5 || len(first) != 5*unit {
			t.Errorf("data %t: %d rounds, %d bytes, want 5 units", data, n, len(first))
		}
		if m, second := fed(data, n, nil); m != n || !bytes.Equal(first, second) {
			t.Errorf("data %t: the same rounds gave %d with other bytes", data, m)
		}
	}
	if _, err := newDemoFeeder(os.DevNull, true); err == nil {
		t.Error("an empty corpus was taken")
	}
}

func TestJobsAreNineOfFourKinds(t *testing.T) {
	mosixctlInPath(t)
	all, err := chooseJobs(func(demoJob) error { return nil })
	if err != nil {
		t.Skipf("this machine lacks the programs: %v", err)
	}
	if len(all) != demoPrograms || all[0].Rounds != 0 {
		t.Errorf("%d jobs, want %d", len(all), demoPrograms)
	}
	only := func(kinds ...string) func(demoJob) error {
		return func(j demoJob) error {
			if !slices.Contains(kinds, j.Kind) {
				return errors.New("does not work")
			}
			return nil
		}
	}
	some, err := chooseJobs(only("gzip", "awk", "sha256sum", "go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, j := range some {
		names[j.Name] = true
	}
	if len(some) != demoPrograms || len(names) != demoPrograms {
		t.Errorf("without python and perl: %v, want nine with names of their own", jobNames(some))
	}
	if _, err := chooseJobs(only("gzip", "awk")); err == nil || !strings.Contains(err.Error(), "found 2 (gzip, awk)") {
		t.Errorf("two kinds: %v", err)
	}
}

// mosixctlInPath lets the tasks that are mosixctl itself run in a test.
func mosixctlInPath(t *testing.T) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"mosixctl", demoLoad} {
		if err := os.Symlink(exe, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv(asMosixctl, "1")
}

// runNode runs demo-node here and reads its report as demo does.
func runNode(t *testing.T, tree []byte, jobs []demoJob) *demoRun {
	t.Helper()
	var out bytes.Buffer
	work := t.TempDir()
	if err := unpackTree(bytes.NewReader(tree), work); err != nil {
		t.Fatal(err)
	}
	if err := demoNode(&out, work, jobs); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &demoRun{jobs: jobs, pids: map[string]id.HomePID{}, done: map[string]demoEvent{}, outputs: map[string]string{}}
	if err := readDemoEvents(&out, dir, func(e demoEvent) { r.note(e, dir) }); err != nil {
		t.Fatal(err)
	}
	return r
}

// The real programs, on real input, for a short time: two runs must write the same, whatever the order of their threads.
func TestProgramsWriteTheSameTwice(t *testing.T) {
	mosixctlInPath(t)
	jobs, err := chooseJobs(func(demoJob) error { return nil })
	if err != nil {
		t.Skipf("this machine lacks the programs: %v", err)
	}
	for i := range jobs {
		jobs[i].Rounds = 3
	}
	tree, err := packTree(goSource(t), 512<<10)
	if err != nil {
		t.Fatal(err)
	}
	first := runNode(t, tree, jobs)
	second := runNode(t, tree, jobs)
	r, err := judge(first, second)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Programs) != demoPrograms {
		t.Errorf("%d programs ran", len(r.Programs))
	}
	for _, p := range r.Programs {
		if !p.Equal || p.Exit != 0 || p.OutputBytes == 0 || p.PID == 0 || p.CPUSeconds <= 0 {
			t.Errorf("%+v: want equal output, status 0", p)
		}
	}
}

// run makes a demoRun of nine programs that all did well.
func goodRun(t *testing.T, seconds float64) *demoRun {
	dir := t.TempDir()
	r := &demoRun{pids: map[string]id.HomePID{}, done: map[string]demoEvent{}, outputs: map[string]string{}, seconds: seconds}
	for i, k := range demoKinds {
		r.jobs = append(r.jobs, demoJob{Name: k.name, Kind: k.kind})
		r.pids[k.name] = id.HomePID(100 + i)
		r.done[k.name] = demoEvent{CPU: 5.3, Seconds: seconds}
		r.outputs[k.name] = filepath.Join(dir, k.name)
		if err := os.WriteFile(r.outputs[k.name], []byte("output of "+k.name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func goodMoves(n int) (ms []api.Move) {
	for i := range n {
		ms = append(ms, api.Move{PID: id.HomePID(100 + i), Home: "n1", From: "n1", To: "n2", Cause: api.CauseBalancer, Result: api.ResultMoved, FreezeMS: float64(i + 1)})
	}
	return ms
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(none, mosix *demoRun)
		says  string // "": it is good
	}{
		{"all well", func(_, _ *demoRun) {}, ""},
		{"other output", func(_, m *demoRun) { overwrite(t, m.outputs["gzip"], "output of gzIp") }, "gzip wrote something else"},
		{"output cut", func(_, m *demoRun) { overwrite(t, m.outputs["gzip"], "output of gzi") }, "gzip wrote something else"},
		{"no output", func(n, m *demoRun) { overwrite(t, n.outputs["gzip"], ""); overwrite(t, m.outputs["gzip"], "") }, "after 0B of output"},
		{"other status", func(_, m *demoRun) { m.done["gzip"] = demoEvent{Exit: 137, CPU: 5.3} }, "gzip wrote something else"},
		{"too little work", func(n, _ *demoRun) { n.done["gzip"] = demoEvent{CPU: 4.9} }, "only 4.90 CPU seconds"},
		{"too slow", func(_, m *demoRun) { m.seconds = 70 }, "speed-up is 1.43"},
		{"too few moves", func(_, m *demoRun) { m.moves = goodMoves(5) }, "moved 5 processes, not 6"},
		{"one moved often", func(_, m *demoRun) { m.moves = slices.Repeat(goodMoves(1), 9) }, "moved 1 process, not 6"},
		{"moved by hand", func(_, m *demoRun) {
			for i := range m.moves {
				m.moves[i].Cause = api.CauseCommand
			}
		}, "moved 0 processes"},
		{"moves that failed", func(_, m *demoRun) {
			for i := range m.moves {
				m.moves[i].Result = api.ResultFailed
			}
		}, "moved 0 processes"},
		{"others' moves", func(_, m *demoRun) {
			for i := range m.moves {
				m.moves[i].PID += 1000
			}
		}, "moved 0 processes"},
		{"none moved", func(n, _ *demoRun) { n.moves = goodMoves(1) }, "without balancing moved something"},
		{"eight programs", func(_, m *demoRun) { m.jobs = m.jobs[:8] }, "only 8 programs"},
	} {
		none, mosix := goodRun(t, 100), goodRun(t, 40)
		mosix.moves = goodMoves(6)
		tc.spoil(none, mosix)
		r, err := judge(none, mosix)
		if err != nil {
			t.Fatal(err)
		}
		if r.OK != (tc.says == "") || !strings.Contains(strings.Join(r.Missing, "\n"), tc.says) {
			t.Errorf("%s: ok %t, %q; want %q", tc.name, r.OK, r.Missing, tc.says)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDemoReportForPeople(t *testing.T) {
	none, mosix := goodRun(t, 97.25), goodRun(t, 41)
	mosix.moves = append(goodMoves(7), api.Move{PID: 100, Home: "n1", From: "n2", To: "n1", Cause: api.CauseComeHome, Result: api.ResultMoved, FreezeMS: 12.5})
	r, err := judge(none, mosix)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Programs {
		r.Programs[i].MosixSeconds = 30 + float64(i)
	}
	r.TotalSeconds = 158.4
	var out strings.Builder
	if err := (&app{out: &out}).printDemo(r); err != nil {
		t.Fatal(err)
	}
	golden(t, "demo", out.String())
}

func TestLiveTable(t *testing.T) {
	r := goodRun(t, 1)
	r.jobs = r.jobs[:3]
	delete(r.done, "gzip")
	delete(r.done, "python-tokens")
	ps := api.Processes{Processes: []api.Process{
		{PID: 100, Home: "n1", Where: "n2", State: api.ProcessAway, CPUSeconds: 2.5, Moves: 1},
		{PID: 101, Home: "n1", Where: "n1", State: api.ProcessHome, CPUSeconds: 1.25},
		{PID: 100, Home: "n3", Where: "n1", State: api.ProcessAway}, // a guest with the same number
	}}
	var out, errs strings.Builder
	l := liveTable{app: &app{out: &out, err: &errs}, run: r, begin: time.Now()}
	l.show(ps)
	l.show(ps)
	if got, want := errs.String(), "   0 s  n1: python-tokens   n2: gzip   n3: -\n"; got != want || out.Len() > 0 {
		t.Errorf("not on a terminal: %q and %q, want %q once", got, out.String(), want)
	}

	errs.Reset()
	l = liveTable{app: &app{out: &out, err: &errs, width: 80}, run: r, begin: time.Now()}
	l.show(ps)
	first := out.String()
	golden(t, "live", first)
	l.show(ps)
	if want := first + "\x1b[5A\x1b[J" + first; out.String() != want {
		t.Errorf("the second table is not drawn over the first: %q", out.String())
	}
	if errs.Len() > 0 {
		t.Errorf("a terminal gets lines too: %q", errs.String())
	}
}

func TestDemoEventsAreReadStrictly(t *testing.T) {
	for _, tc := range []struct{ in, says string }{
		{"", ""},
		{`{"event":"output","name":"a","bytes":3}` + "\nabc" + `{"event":"end","seconds":1}` + "\n", ""},
		{`{"event":"output","name":"a","bytes":4}` + "\nabc", "take the output of a"},
		{"garbage\n", "garbage"},
		{`{"event":"end"}`, "EOF"},
	} {
		dir := t.TempDir()
		err := readDemoEvents(strings.NewReader(tc.in), dir, func(demoEvent) {})
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%q: %v, want %q", tc.in, err, tc.says)
		}
	}
	dir := t.TempDir()
	in := `{"event":"output","name":"../a","bytes":3}` + "\nabc"
	if err := readDemoEvents(strings.NewReader(in), dir, func(demoEvent) {}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a.out")); err != nil || string(b) != "abc" {
		t.Errorf("output: %q, %v", b, err)
	}
}

func TestDemoLoadIsIndependentOfThreads(t *testing.T) {
	tree, err := packTree(goSource(t), 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unpackTree(bytes.NewReader(tree), dir); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, work := range []string{"parse", "deflate"} {
		run := func() (int, string) {
			var out, errs bytes.Buffer
			a := &app{in: strings.NewReader("a\nb\n\nd\n"), out: &out, err: &errs}
			return a.run([]string{"demo-load", work}), out.String() + errs.String()
		}
		_, first := run()
		code, second := run()
		if code != 0 || first != second || strings.Count(first, "\n") != 32 {
			t.Errorf("%s: status %d, equal %t, %d lines:\n%s", work, code, first == second, strings.Count(first, "\n"), second)
		}
	}
}
