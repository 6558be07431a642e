// Package cluster brings a real cluster up for tests: it builds mosixd and mosixctl, makes a lab, and uses both as a user
// does, by their commands and their JSON. Its one invariant: it knows nothing of an agent but what a command or the control
// socket says, so a test that passes here passes for a user.
package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
)

// BinEnv names the environment variable that holds a folder with a built mosixd and mosixctl. Without it they are built.
const BinEnv = "MOSIX_BIN"

var programs struct {
	sync.Mutex
	dir string
	tmp bool
}

// Programs is the folder with mosixd and mosixctl. They are built once for each test program.
func Programs() (string, error) {
	programs.Lock()
	defer programs.Unlock()
	if programs.dir != "" {
		return programs.dir, nil
	}
	if d := os.Getenv(BinEnv); d != "" {
		d, err := filepath.Abs(d)
		programs.dir = d
		return d, err
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mosix-bin-")
	if err != nil {
		return "", err
	}
	c := exec.Command("go", "build", "-o", dir, "./cmd/mosixd", "./cmd/mosixctl")
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("build mosixd and mosixctl: %w\n%s", err, out)
	}
	programs.dir, programs.tmp = dir, true
	return dir, nil
}

// RemovePrograms removes what Programs has built. It is called at the end of TestMain.
func RemovePrograms() {
	programs.Lock()
	defer programs.Unlock()
	if programs.tmp {
		os.RemoveAll(programs.dir)
	}
	programs.dir, programs.tmp = "", false
}

// ModuleRoot is the folder of go.mod.
func ModuleRoot() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	for dir := filepath.Dir(file); ok && dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("the folder of go.mod was not found: run the test from a checkout of the sources")
}

// Cluster is a lab that was made for a test.
type Cluster struct{ *lab.Lab }

// faults is the faults file of every agent, as its node has it.
const faults = lab.Root + "/state/faults"

// Up makes a lab whose agents obey fault points (see Arm).
func Up(o lab.Options) (*Cluster, error) {
	bin, err := Programs()
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = fmt.Sprintf("test-%d", os.Getpid())
	}
	o.Mosixctl, o.Mosixd = filepath.Join(bin, "mosixctl"), filepath.Join(bin, "mosixd")
	configure := o.Configure
	o.Configure = func(node id.Node, c *config.Config) {
		c.FaultsFile = faults
		if configure != nil {
			configure(node, c)
		}
	}
	l, err := lab.Up(o)
	if err != nil {
		return nil, err
	}
	return &Cluster{l}, nil
}

// User1 is the ordinary user as whom everything runs.
var User1 = lab.As{User: lab.DefaultUser}

// Root is root of a node.
var Root = lab.As{User: "root"}

// Shell runs a shell line in node.
func (c *Cluster) Shell(node id.Node, as lab.As, line string) (string, error) {
	out, err := c.Command(node, as, "sh", "-c", line).Output()
	return strings.TrimSpace(string(out)), err
}

// Mosixctl runs a command of mosixctl in node that prints JSON, whatever its exit status, and decodes that.
func (c *Cluster) Mosixctl(node id.Node, as lab.As, into any, args ...string) error {
	cmd := c.Command(node, as, "mosixctl", append(args, "--json")...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	if jerr := json.Unmarshal(out.Bytes(), into); jerr != nil {
		return fmt.Errorf("mosixctl %s in %s printed %q, which is no answer (%w); %w; it says: %s",
			strings.Join(args, " "), node, out.String(), jerr, errOr(err), strings.TrimSpace(complaints.String()))
	}
	return nil
}

func errOr(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// Migrate is mosixctl migrate, asked in node.
func (c *Cluster) Migrate(node id.Node, as lab.As, pid int, to string, more ...string) (api.MigrateResult, error) {
	var r api.MigrateResult
	err := c.Mosixctl(node, as, &r, append([]string{"migrate", fmt.Sprint(pid), to}, more...)...)
	return r, err
}

// Process is the row of mosixctl ps -a in node whose home PID is pid.
func (c *Cluster) Process(node id.Node, pid int) (api.Process, error) {
	var ps api.Processes
	if err := c.Mosixctl(node, Root, &ps, "ps", "-a"); err != nil {
		return api.Process{}, err
	}
	for _, p := range ps.Processes {
		if int(p.PID) == pid && p.Home == node {
			return p, nil
		}
	}
	return api.Process{}, fmt.Errorf("mosixctl ps -a in %s does not list process %d", node, pid)
}

// Arm writes the faults file of node's agent; see package fault. Hits of earlier faults are forgotten.
func (c *Cluster) Arm(node id.Node, lines ...string) error {
	path := c.faultsFile(node)
	if err := os.RemoveAll(path + ".hits"); err != nil {
		return err
	}
	if len(lines) == 0 {
		return os.RemoveAll(path)
	}
	if err := os.WriteFile(path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Disarm removes the faults file but not what it has noted.
func (c *Cluster) Disarm(node id.Node) error { return os.RemoveAll(c.faultsFile(node)) }

func (c *Cluster) faultsFile(node id.Node) string {
	return filepath.Join(c.Dir(), string(node), filepath.Base(faults))
}

// Hit reports whether node's agent has reached point since Arm.
func (c *Cluster) Hit(node id.Node, point string) bool {
	b, err := os.ReadFile(c.faultsFile(node) + ".hits")
	return err == nil && strings.Contains("\n"+string(b), "\n"+point+" ")
}

// Until polls ok every 10 ms, at most for d, and tells how long it took.
func Until(d time.Duration, ok func() bool) (time.Duration, bool) {
	began := time.Now()
	for {
		if ok() {
			return time.Since(began), true
		}
		if time.Since(began) > d {
			return time.Since(began), false
		}
		time.Sleep(10 * time.Millisecond)
	}
}
