package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"mosix/test/cluster"
)

// Program is a program of cases.
type Program struct {
	Name   string
	Number int    // of its group
	Group  string // what its cases are about
}

// Programs lists all, in the order of their groups.
func Programs() []Program {
	return []Program{
		{"tree", 1, "process tree"},
		{"clone", 1, "process tree"},
		{"exec", 2, "exec"},
		{"signals", 3, "signals"},
		{"blocked", 4, "blocked calls"},
		{"memory", 5, "memory"},
		{"files", 6, "descriptors"},
		{"channels", 6, "descriptors"},
		{"sockets", 6, "descriptors"},
		{"terminals", 6, "descriptors"},
		{"self", 7, "/proc of itself"},
		{"identity", 8, "identity and time"},
		{"processor", 9, "processor"},
	}
}

// file is the name of the program where it runs: none that hides another.
func (p Program) file() string { return "conf-" + p.Name }

// Case is one behaviour.
type Case struct {
	Program Program
	Name    string
}

func (c Case) String() string { return c.Program.Name + "/" + c.Name }

// Suite is the built programs and their cases.
type Suite struct {
	Dir   string
	Files []string
	Cases []Case
}

// Build compiles all programs into dir, where every user must get to. Without a C compiler the error is exec.ErrNotFound.
func Build(dir string) (*Suite, error) {
	cc := ""
	for _, name := range []string{"cc", "gcc", "clang"} {
		if path, err := exec.LookPath(name); err == nil {
			cc = path
			break
		}
	}
	if cc == "" {
		return nil, fmt.Errorf("the cases are written in C: cc: %w", exec.ErrNotFound)
	}
	root, err := cluster.ModuleRoot()
	if err != nil {
		return nil, err
	}
	s := &Suite{Dir: dir}
	list := Programs()
	cases, errs := make([][]Case, len(list)), make([]error, len(list))
	two := make(chan struct{}, 2)
	var wg sync.WaitGroup
	for i, p := range list {
		out := filepath.Join(dir, p.file())
		s.Files = append(s.Files, out)
		wg.Add(1)
		go func() {
			defer wg.Done()
			two <- struct{}{}
			defer func() { <-two }()
			cases[i], errs[i] = p.build(cc, filepath.Join(root, "test", "conformance", "testdata", "c", p.Name+".c"), out)
		}()
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, err
		}
		s.Cases = append(s.Cases, cases[i]...)
	}
	return s, nil
}

// build compiles one, statically where the machine has the libraries for it, and asks it for its cases.
func (p Program) build(cc, source, out string) ([]Case, error) {
	args := []string{"-O2", "-pthread", "-o", out, source, "-lm"}
	if text, err := exec.Command(cc, append([]string{"-static"}, args...)...).CombinedOutput(); err != nil {
		if dynamic, derr := exec.Command(cc, args...).CombinedOutput(); derr != nil {
			return nil, fmt.Errorf("build %s: %w\n%s%s", p.Name, err, text, dynamic)
		}
	}
	if err := os.Chmod(out, 0o755); err != nil {
		return nil, err
	}
	names, err := exec.Command(out, "list").Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its cases: %w", p.Name, err)
	}
	var list []Case
	seen := map[string]bool{}
	for _, name := range strings.Fields(string(names)) {
		if seen[name] {
			return nil, fmt.Errorf("%s has two cases that are called %s", p.Name, name)
		}
		seen[name] = true
		list = append(list, Case{p, name})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has no case", p.Name)
	}
	return list, nil
}
