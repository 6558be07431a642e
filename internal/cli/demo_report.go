package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"mosix/internal/id"
	"mosix/node/api"
)

// demoReport is what demo --json prints.
type demoReport struct {
	Programs       []demoProgram `json:"programs"`
	MovedProcesses int           `json:"moved_processes"` // by the balancer
	Moves          []api.Move    `json:"moves"`
	FreezeMedianMS float64       `json:"freeze_median_ms"`
	FreezeMaxMS    float64       `json:"freeze_max_ms"`
	NoneSeconds    float64       `json:"none_seconds"`
	MosixSeconds   float64       `json:"mosix_seconds"`
	SpeedUp        float64       `json:"speed_up"`
	TotalSeconds   float64       `json:"total_seconds"` // with both labs
	OK             bool          `json:"ok"`
	Missing        []string      `json:"missing"` // of what must be shown
}

// demoProgram is one of the nine.
type demoProgram struct {
	Name         string     `json:"name"`
	Kind         string     `json:"kind"`
	PID          id.HomePID `json:"pid"`         // in the balanced run
	CPUSeconds   float64    `json:"cpu_seconds"` // in the run without balancing
	NoneSeconds  float64    `json:"none_seconds"`
	MosixSeconds float64    `json:"mosix_seconds"`
	Moves        int        `json:"moves"`
	FreezeMS     float64    `json:"freeze_ms"` // of all its moves
	OutputBytes  int64      `json:"output_bytes"`
	Exit         int        `json:"exit"`
	Equal        bool       `json:"equal"` // output and exit status
}

// judge compares the two runs.
func judge(none, mosix *demoRun) (demoReport, error) {
	r := demoReport{NoneSeconds: none.seconds, MosixSeconds: mosix.seconds, SpeedUp: none.seconds / mosix.seconds, Moves: []api.Move{}, Missing: []string{}}
	missing := func(format string, args ...any) { r.Missing = append(r.Missing, fmt.Sprintf(format, args...)) }
	var freezes []float64
	for _, j := range mosix.jobs {
		a, b := none.done[j.Name], mosix.done[j.Name]
		p := demoProgram{
			Name: j.Name, Kind: j.Kind, PID: mosix.pids[j.Name], CPUSeconds: a.CPU, NoneSeconds: a.Seconds, MosixSeconds: b.Seconds, Exit: b.Exit,
		}
		same, size, err := sameFiles(none.outputs[j.Name], mosix.outputs[j.Name])
		if err != nil {
			return r, fmt.Errorf("compare the outputs of %s: %w", j.Name, err)
		}
		p.Equal, p.OutputBytes = same && a.Exit == b.Exit, size
		byBalancer := false
		for _, m := range mosix.moves {
			if m.PID != p.PID || m.Result != api.ResultMoved {
				continue
			}
			p.Moves++
			p.FreezeMS += m.FreezeMS
			freezes = append(freezes, m.FreezeMS)
			r.Moves = append(r.Moves, m)
			byBalancer = byBalancer || m.Cause == api.CauseBalancer && m.From == m.Home
		}
		if byBalancer {
			r.MovedProcesses++
		}
		switch {
		case !p.Equal:
			missing("%s wrote something else than without a move, or ended otherwise", p.Name)
		case p.Exit != 0 || p.OutputBytes == 0:
			missing("%s ended with status %d after %s of output", p.Name, p.Exit, humanBytes(uint64(p.OutputBytes)))
		case p.CPUSeconds < demoCPUSeconds:
			missing("%s used only %.2f CPU seconds", p.Name, p.CPUSeconds)
		}
		r.Programs = append(r.Programs, p)
	}
	if len(freezes) > 0 {
		r.FreezeMedianMS = median(freezes)
		for _, f := range freezes {
			r.FreezeMaxMS = max(r.FreezeMaxMS, f)
		}
	}
	if len(r.Programs) < demoPrograms {
		missing("only %s ran", count(len(r.Programs), "program"))
	}
	if len(none.moves) > 0 {
		missing("the run without balancing moved something: %s", count(len(none.moves), "move"))
	}
	if r.MovedProcesses < demoMinMoved {
		missing("the balancer moved %s, not %d", count(r.MovedProcesses, "process"), demoMinMoved)
	}
	if r.SpeedUp < demoMinGain {
		missing("the speed-up is %.2f, not %.1f", r.SpeedUp, demoMinGain)
	}
	r.OK = len(r.Missing) == 0
	return r, nil
}

// sameFiles compares byte for byte and returns the size of the second.
func sameFiles(a, b string) (same bool, size int64, err error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, 0, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, 0, err
	}
	defer fb.Close()
	fi, err := fb.Stat()
	if err != nil {
		return false, 0, err
	}
	ra, rb := bufio.NewReaderSize(fa, 1<<16), bufio.NewReaderSize(fb, 1<<16)
	for {
		x, errA := ra.ReadByte()
		y, errB := rb.ReadByte()
		switch {
		case errA == io.EOF && errB == io.EOF:
			return true, fi.Size(), nil
		case errA == io.EOF || errB == io.EOF:
			return false, fi.Size(), nil
		case errA != nil || errB != nil:
			return false, 0, errors.Join(errA, errB)
		case x != y:
			return false, fi.Size(), nil
		}
	}
}

func (a *app) printDemo(r demoReport) error {
	t := table{columns: []column{
		{title: "PROGRAM"}, {"PID", true}, {"CPU", true}, {"ALONE ON n1", true}, {"BALANCED", true}, {"MOVES", true}, {"FROZEN", true},
		{"OUTPUT", true}, {title: "COMPARED"},
	}}
	for _, p := range r.Programs {
		equal := "equal"
		if !p.Equal {
			equal = "DIFFERENT"
		}
		t.add(p.Name, strconv.Itoa(int(p.PID)), humanCPU(p.CPUSeconds), fmt.Sprintf("%.1f s", p.NoneSeconds), fmt.Sprintf("%.1f s", p.MosixSeconds),
			strconv.Itoa(p.Moves), humanMS(p.FreezeMS), humanBytes(uint64(p.OutputBytes)), equal)
	}
	if err := t.print(a.out, a.width); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "\n%s moved by the balancer, %s in all; frozen for %s (median), %s at most\n",
		count(r.MovedProcesses, "process"), count(len(r.Moves), "move"), humanMS(r.FreezeMedianMS), humanMS(r.FreezeMaxMS))
	fmt.Fprintf(a.out, "speed-up %.2f: %.1f s without balancing, %.1f s with; %.0f s for all of this\n", r.SpeedUp, r.NoneSeconds, r.MosixSeconds, r.TotalSeconds)
	for _, m := range r.Missing {
		fmt.Fprintln(a.out, "missing:", m)
	}
	return nil
}
