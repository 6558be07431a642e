package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"mosix/test/conformance"
)

// conform runs every case of test/conformance in its large size, where each is moved for five seconds. What is known not to hold
// is told.
func conform(b *bench) (string, error) {
	out, took, err := b.command([]string{"CONFORMANCE=full"}, "go", "test", "-count=1", "-v", "-timeout", "60m", "-run", "TestNative|TestConformance", "./test/conformance")
	figures := fmt.Sprintf("%.0f s", took.Seconds())
	known := 0
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "conformance: "):
			figures = strings.TrimPrefix(line, "conformance: ")
		case strings.HasPrefix(line, "--- SKIP: TestConformance/"):
			known++
			b.progress("%s", line)
		}
	}
	return fmt.Sprintf("%s; %d known not to hold", figures, known), err
}

// mutations breaks rows of the system-call table and wants the cases to notice each, and to hold without.
func mutations(b *bench) (string, error) {
	dir, err := os.MkdirTemp("", "mosix-mutant-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	s, err := conformance.Build(dir)
	if err != nil {
		return "", err
	}
	agent, err := conformance.BuildMutant(b.ctx, dir)
	if err != nil {
		return "", err
	}
	began := time.Now()
	whole, err := s.Notice(b.ctx, agent, "")
	if err != nil {
		return "", err
	}
	noticed := 0
	var missed []string
	for _, m := range conformance.Mutations() {
		if whole[m.Row] != "" {
			return "", fmt.Errorf("%s does not hold although no row is broken: %s", m.Case, whole[m.Row])
		}
		wrong, err := s.Notice(b.ctx, agent, m.Row)
		if err != nil {
			return "", err
		}
		b.progress("%s is broken: %s", m.Row, firstLine(wrong[m.Row]))
		if wrong[m.Row] == "" {
			missed = append(missed, m.Row)
		} else {
			noticed++
		}
	}
	figures := fmt.Sprintf("%d of %d broken rows noticed in %.0f s", noticed, len(conformance.Mutations()), time.Since(began).Seconds())
	if len(missed) > 0 {
		return figures, fmt.Errorf("nobody notices that the rows of %s are broken", strings.Join(missed, ", "))
	}
	return figures, nil
}
