package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mosix/internal/lab"
	"mosix/test/cluster"
)

// weakening changes one source file of the filter, so that openat is let through to the host: each pair is replaced once.
var weakening = [][2]string{
	{"if c == Guest {\n\t\t\treturn allow", "if c == Guest || r.Nr == 257 {\n\t\t\treturn allow"},
	{"if rows[i].canBe(Guest) && ", "if (rows[i].canBe(Guest) || rows[i].Nr == 257) && "},
}

// weakAgent builds an agent whose filter lets one call too many through. The sources stay as they are.
func weakAgent(b *bench, dir string) (string, error) {
	root, err := cluster.ModuleRoot()
	if err != nil {
		return "", err
	}
	source := filepath.Join(root, "homeproxy", "filter.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	changed := string(text)
	for _, w := range weakening {
		if strings.Count(changed, w[0]) != 1 {
			return "", fmt.Errorf("%s does not hold %q once: the weakening of the filter must be written anew", source, w[0])
		}
		changed = strings.Replace(changed, w[0], w[1], 1)
	}
	weak, overlay := filepath.Join(dir, "filter.go.weak"), filepath.Join(dir, "overlay.json")
	plan, err := json.Marshal(map[string]map[string]string{"Replace": {source: weak}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(weak, []byte(changed), 0o600), os.WriteFile(overlay, plan, 0o600)); err != nil {
		return "", err
	}
	agent := filepath.Join(dir, "mosixd")
	_, _, err = b.command([]string{"CGO_ENABLED=0"}, "go", "build", "-overlay", overlay, "-o", agent, "./cmd/mosixd")
	return agent, err
}

// weakened makes sure that the hostile guest would find a filter with one hole: it attacks an agent that has one.
func weakened(b *bench, files []string) error {
	dir, err := os.MkdirTemp("", "mosix-weak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	agent, err := weakAgent(b, dir)
	if err != nil {
		return fmt.Errorf("build an agent with a weak filter: %w", err)
	}
	bin, err := cluster.Programs()
	if err != nil {
		return err
	}
	l, err := lab.Up(lab.Options{
		Name: fmt.Sprintf("weak-%d", os.Getpid()), Nodes: 2, Policy: "none", Bind: files, Mosixd: agent, Mosixctl: filepath.Join(bin, "mosixctl"),
	})
	if err != nil {
		return err
	}
	c := &cluster.Cluster{Lab: l}
	_, found := attack(b, c, 1, "some", "0")
	if err := c.Down(); err != nil {
		return err
	}
	if found == nil || !strings.Contains(found.Error(), "leak: ") {
		return fmt.Errorf("a filter that lets openat through was not noticed by the hostile guest: %v", found)
	}
	b.progress("a filter that lets openat through is noticed, by %d findings", strings.Count(found.Error(), "leak: "))
	return nil
}
