package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/test/cluster"
	"mosix/test/software"
)

// realSoftware runs the programs of test/software natively and moved about among three nodes.
func realSoftware(b *bench) (figures string, err error) {
	list, err := software.Table()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mosix-software-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	folder := filepath.Join(dir, software.Folder)
	if err := os.Mkdir(folder, 0o755); err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(dir, 0o755), software.Unpack(folder)); err != nil {
		return "", err
	}
	if out, err := goBuild(folder, "./test/software/goroutines"); err != nil {
		return "", fmt.Errorf("build the Go program: %w\n%s", err, out)
	}
	var missing, packages, wrong []string
	var run []software.Script
	for _, s := range list {
		if b.match != nil && !b.match.MatchString(s.Name) {
			continue
		}
		if m := s.Missing(); len(m) > 0 {
			missing = append(missing, fmt.Sprintf("%s needs %s", s.Name, strings.Join(m, " ")))
			packages = append(packages, s.Packages...)
			continue
		}
		if err := s.Prepare(folder); err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		run = append(run, s)
	}
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("software-%d", os.Getpid()), Nodes: 3, Policy: "none", Bind: []string{folder}})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	moves, same := 0, 0
	before := map[string]int{}
	for _, s := range run {
		native, err := software.Do(b.ctx, c, "n1", s, nil)
		if err = errors.Join(err, software.Clear(c, "n1")); err != nil {
			return "", fmt.Errorf("%s, unmoved: %w", s.Name, err)
		}
		m := &software.Mover{Cluster: c, Home: "n1", Nodes: []id.Node{"n1", "n2", "n3"}, Age: 200 * time.Millisecond, Between: 300 * time.Millisecond,
			AtOnce: 4, Rand: rand.New(rand.NewPCG(1, 2))}
		moved, err := software.Do(b.ctx, c, "n1", s, m)
		n := m.Counted()
		moves += n.Moved
		if b.ctx.Err() != nil {
			return "", b.ctx.Err()
		}
		if err = errors.Join(err, software.Clear(c, "n1")); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v; it says: %s", s.Name, err, tail(moved.Said, 10)))
		} else if d := software.Differ(native, moved); d != "" {
			wrong = append(wrong, fmt.Sprintf("%s: %s\n%s", s.Name, d, tail(moved.Said, 40)))
		} else {
			same++
		}
		homes, err := software.ComeHomes(c)
		if err != nil {
			return "", err
		}
		for call, k := range homes {
			if homes[call] -= before[call]; homes[call] == 0 {
				delete(homes, call)
			}
			before[call] = k
		}
		verdict := "same"
		if len(wrong) > 0 && strings.HasPrefix(wrong[len(wrong)-1], s.Name+":") {
			verdict = "NOT the same: " + wrong[len(wrong)-1]
		}
		b.progress("%s: %s; %d moves (%s), %.0f s unmoved, %.0f s moved, status %d, %d lines", s.Name, verdict, n.Moved, software.Most(n.Processes),
			native.Took.Seconds(), moved.Took.Seconds(), native.Status, strings.Count(native.Out, "\n"))
		if len(n.Refused) > 0 {
			b.progress("    refused: %s", software.Most(n.Refused))
		}
		for _, f := range n.Failed[:min(len(n.Failed), 5)] {
			b.progress("    a move failed (%d did): %s", len(n.Failed), f)
		}
		if len(homes) > 0 {
			b.progress("    came home for: %s", software.Most(homes))
		}
		for _, x := range software.Unlisted(homes) {
			wrong = append(wrong, fmt.Sprintf("%s came home %s", s.Name, x))
		}
		time.Sleep(100 * time.Millisecond)
	}
	if moves == 0 {
		wrong = append(wrong, "nothing was moved")
	}
	figures = fmt.Sprintf("%d of %d the same, %d moves", same, len(run), moves)
	if len(missing) > 0 {
		wrong = append(wrong, fmt.Sprintf("not tried: %s: install %s", strings.Join(missing, "; "), strings.Join(packages, " ")))
	}
	if len(wrong) > 0 {
		return figures, errors.New(strings.Join(wrong, "\n"))
	}
	return figures, nil
}

// goBuild builds a package of the project into dir.
func goBuild(dir, pkg string) ([]byte, error) {
	root, err := cluster.ModuleRoot()
	if err != nil {
		return nil, err
	}
	c := exec.Command("go", "build", "-o", dir+"/", pkg)
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	return c.CombinedOutput()
}
