package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"mosix/test/cluster"
)

// demo is line 1.
func demo(b *bench) (string, error) {
	if _, _, err := b.command(nil, "make", "build"); err != nil {
		return "", err
	}
	out, took, err := b.command(nil, "make", "demo", "ARGS=")
	if err != nil {
		return "", err
	}
	if err := b.limit("make demo, after the build,", took, 3*time.Minute); err != nil {
		return "", err
	}
	return fmt.Sprintf("%.0f s; %s", took.Seconds(), tail(out, 1)), nil
}

// tests is line 2: .ci/run, which is make test and must call it.
func tests(b *bench) (string, error) {
	root, err := cluster.ModuleRoot()
	if err != nil {
		return "", err
	}
	ci, err := os.ReadFile(filepath.Join(root, ".ci", "run"))
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(ci), "make test") {
		return "", errors.New(".ci/run does not call make test")
	}
	out, took, err := b.command(nil, "./.ci/run")
	if err != nil {
		return "", err
	}
	if !regexp.MustCompile(`\d+ skipped|skipped \d+`).MatchString(out) {
		return "", fmt.Errorf("it does not say how many tests were skipped; it ends:\n%s", tail(out, 5))
	}
	return fmt.Sprintf("%.0f s; %s", took.Seconds(), tail(out, 1)), nil
}

// everyWorkload is line 3.
func everyWorkload(b *bench) (string, error) {
	level := "quick"
	if b.full {
		level = "full"
	}
	out, _, err := b.command([]string{"WORKLOADS=" + level}, "go", "test", "-count=1", "-timeout", "20m", "-v", "-run", "TestMoved", "./test/workloads")
	summary := ""
	skipped := 0
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "workloads: ") {
			summary = strings.TrimSpace(strings.TrimPrefix(line, "workloads: "))
		}
		if strings.Contains(line, "--- SKIP") {
			skipped++
		}
		if strings.Contains(line, "--- FAIL") {
			b.progress("%s", strings.TrimSpace(line))
		}
	}
	if err != nil {
		return summary, err
	}
	if skipped > 0 || summary == "" {
		return summary, fmt.Errorf("%d workloads could not be tried here:\n%s", skipped, tail(out, 30))
	}
	return summary, nil
}

// speed is line 8. The figures are reported; the aims are not limits.
func speed(b *bench) (string, error) {
	bin, err := cluster.Programs()
	if err != nil {
		return "", err
	}
	args := []string{"bench", "move", "--json"}
	if !b.full {
		args = append(args, "--sizes", "4MiB", "--repeat", "2")
	}
	out, _, err := b.command(nil, filepath.Join(bin, "mosixctl"), args...)
	if err != nil {
		return "", err
	}
	var r struct {
		Results []struct {
			SizeBytes    uint64  `json:"size_bytes"`
			DirtyPercent float64 `json:"dirty_percent_per_second"`
			Direction    string  `json:"direction"`
			Strategy     string  `json:"strategy"`
			FreezeMS     float64 `json:"freeze_ms"`
			TotalMS      float64 `json:"total_ms"`
		} `json:"results"`
	}
	if i := strings.Index(out, "{"); i < 0 || json.Unmarshal([]byte(out[i:]), &r) != nil {
		return "", fmt.Errorf("bench move printed no JSON:\n%s", tail(out, 10))
	}
	if len(r.Results) == 0 {
		return "", errors.New("bench move measured nothing")
	}
	var figures []string
	for _, x := range r.Results {
		line := fmt.Sprintf("%d MiB, %g %%/s, %s, %s: freeze %.1f ms, total %.0f ms", x.SizeBytes>>20, x.DirtyPercent, x.Direction, x.Strategy, x.FreezeMS, x.TotalMS)
		b.progress("%s", line)
		if x.Strategy == "precopy" && x.Direction == "out" {
			figures = append(figures, fmt.Sprintf("%d MiB %g%%: %.1f ms", x.SizeBytes>>20, x.DirtyPercent, x.FreezeMS))
		}
	}
	return "freeze " + strings.Join(figures, ", "), nil
}
