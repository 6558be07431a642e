package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"mosix/test/cluster"
)

// unequal has jobs of Pareto's lifetimes spread over nodes of different processors, beside the simulator.
func unequal(b *bench) (figures string, err error) {
	const most, ratio = 3, 1.25
	args := []string{"bench", "balance", "--json", "--cpus", "0.6,0.3,0.3,0.15", "--jobs", "16", "--seed", "1"}
	if !b.full {
		args = []string{"bench", "balance", "--json", "--cpus", "0.6,0.6", "--jobs", "4", "--lifetime", "pareto:1:1:8", "--seed", "1"}
	}
	dir, err := cluster.Programs()
	if err != nil {
		return "", err
	}
	out, took, err := b.command(nil, filepath.Join(dir, "mosixctl"), args...)
	if err != nil {
		return "", err
	}
	var r struct {
		Ratio          float64
		Lab, Simulator struct {
			MeanSlowdown float64 `json:"mean_slowdown"`
			Moves        int     `json:"moves"`
			MostMoves    int     `json:"most_moves"`
		}
	}
	if i := strings.IndexByte(out, '{'); i < 0 || json.Unmarshal([]byte(out[i:]), &r) != nil {
		return "", fmt.Errorf("no report: %s", tail(out, 10))
	}
	figures = fmt.Sprintf("mean slowdown %.2f, in the simulator %.2f: %.2f times; %d moves, %d of one process at most; %.0f s", r.Lab.MeanSlowdown, r.Simulator.MeanSlowdown,
		r.Ratio, r.Lab.Moves, r.Lab.MostMoves, took.Seconds())
	switch {
	case r.Lab.MostMoves > most:
		return figures, fmt.Errorf("a process moved %d times, at most %d are wanted", r.Lab.MostMoves, most)
	case b.full && r.Ratio > ratio:
		return figures, fmt.Errorf("%.2f times the simulator's slowdown, at most %.2f is wanted", r.Ratio, ratio)
	}
	return figures, nil
}
