package workloads

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"mosix/test/cluster"
)

// Programs are the built programs of a test.
type Programs struct {
	Dir string
	cc  string // the compiler; empty: there is none

	mu    sync.Mutex
	built map[string]error
}

// ErrMissing is why a program cannot be there: this machine has no means to make or run it.
var ErrMissing = errors.New("this machine cannot make it")

// NewPrograms prepares building into dir.
func NewPrograms(dir string) *Programs {
	p := &Programs{Dir: dir, built: map[string]error{}}
	for _, name := range []string{"cc", "gcc", "clang"} {
		if path, err := exec.LookPath(name); err == nil {
			p.cc = path
			break
		}
	}
	return p
}

// Build makes the program name and returns where it is. The error is ErrMissing where this machine cannot.
func (p *Programs) Build(name string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := filepath.Join(p.Dir, Program(name))
	err, done := p.built[name]
	if !done {
		err = p.build(name, out)
		p.built[name] = err
	}
	return out, err
}

// BuildAll makes what the workloads of list use, and says for each that cannot run why.
func (p *Programs) BuildAll(list []Workload) (files []string, missing map[string]error) {
	missing = map[string]error{}
	seen := map[string]bool{}
	for _, w := range list {
		for _, name := range w.Uses {
			f, err := p.Build(name)
			if err != nil {
				missing[w.Name] = err
			} else if !seen[name] {
				files = append(files, f)
			}
			seen[name] = true
		}
	}
	return files, missing
}

func (p *Programs) build(name, out string) error {
	root, err := cluster.ModuleRoot()
	if err != nil {
		return err
	}
	data := filepath.Join(root, "test", "workloads", "testdata")
	if src := filepath.Join(data, "scripts", name); exists(src) {
		b, err := os.ReadFile(src)
		if err != nil {
			return err
		}
		interpreter := strings.TrimPrefix(strings.SplitN(string(b), "\n", 2)[0], "#!")
		if !exists(interpreter) {
			return fmt.Errorf("%s needs %s: %w", name, interpreter, ErrMissing)
		}
		return os.WriteFile(out, b, 0o755)
	}
	var c *exec.Cmd
	if src := filepath.Join(data, "go", name); exists(src) {
		c = exec.Command("go", "build", "-o", out, "./test/workloads/testdata/go/"+name)
		c.Dir = root
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
	} else if src := filepath.Join(data, "c", name+".c"); exists(src) {
		if p.cc == "" {
			return fmt.Errorf("%s needs a C compiler: %w", name, ErrMissing)
		}
		c = exec.Command(p.cc, "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", out, src, "-lm")
	} else {
		return fmt.Errorf("there is no program %q in %s", name, data)
	}
	if b, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, b)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
