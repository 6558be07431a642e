package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mosix/internal/id"
)

// cgroupTop is the group below each hierarchy's root that holds all labs.
const cgroupTop = "mosix-lab"

// cgroupDir is a directory of one hierarchy.
type cgroupDir struct {
	Path string `json:"path"`
	V2   bool   `json:"v2,omitempty"`
}

func (d cgroupDir) join(elem ...string) cgroupDir {
	return cgroupDir{Path: filepath.Join(append([]string{d.Path}, elem...)...), V2: d.V2}
}

// hierarchies tells where each controller lives: in v2 where v2 has it, else in v1.
type hierarchies map[string]cgroupDir

// findHierarchies reads /proc/self/mountinfo and the v2 tree's list of controllers.
func findHierarchies() (hierarchies, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseHierarchies(string(b), func(dir string) string {
		c, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers")) // an unreadable tree has no controller for us
		return string(c)
	}), nil
}

func parseHierarchies(mountinfo string, v2Controllers func(dir string) string) hierarchies {
	h := hierarchies{}
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		dir := unescapeMount(l[4])
		switch r[0] {
		case "cgroup2":
			for _, c := range strings.Fields(v2Controllers(dir)) {
				if !h[c].V2 {
					h[c] = cgroupDir{Path: dir, V2: true}
				}
			}
		case "cgroup":
			for _, c := range strings.Split(r[2], ",") {
				if _, have := h[c]; !have {
					h[c] = cgroupDir{Path: dir}
				}
			}
		}
	}
	return h
}

// unescapeMount undoes the octal escapes of mountinfo, such as \040 for a blank.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// makeCgroups makes the groups of a node and fills in n.Guests and n.Users. In each hierarchy that is needed:
//
//	mosix-lab/NAME/n1          the quota: programs and guests together
//	mosix-lab/NAME/n1/user     what Exec starts
//	mosix-lab/NAME/n1/guests   groups that the agent makes for guests
//
// The agent and the init are in none of them.
func (h hierarchies) makeCgroups(lab string, n *Node) error {
	controllers := []string{"cpu"}
	if n.Memory > 0 {
		controllers = append(controllers, "memory")
	}
	for _, c := range controllers {
		root, ok := h[c]
		if !ok {
			if c == "cpu" && n.CPUs == 0 {
				continue // guests then run in no group of ours, and nothing was promised
			}
			return fmt.Errorf("limit %s of node %s: no mounted cgroup hierarchy has the %s controller (neither v2 nor v1); mount one, or leave the limit out", c, n.Name, c)
		}
		dir, err := h.makeIn(root, c, lab, n)
		if err != nil {
			if c == "cpu" && n.CPUs == 0 {
				continue
			}
			return fmt.Errorf("limit %s of node %s: %w", c, n.Name, err)
		}
		if g := dir.join("guests").Path; !slices.Contains(n.Guests, g) {
			n.Guests = append(n.Guests, g)
			n.Users = append(n.Users, dir.join("user"))
		}
	}
	return nil
}

func (h hierarchies) makeIn(root cgroupDir, controller, lab string, n *Node) (cgroupDir, error) {
	if err := enable(root, controller); err != nil {
		return root, err
	}
	dir := root.join(cgroupTop, lab)
	if err := mkdirBelow(dir.Path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return dir, err
	}
	if err := enable(root.join(cgroupTop), controller); err != nil {
		return dir, err
	}
	if err := enable(dir, controller); err != nil {
		return dir, err
	}
	dir = dir.join(string(n.Name))
	if err := os.Mkdir(dir.Path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return dir, err
	}
	if err := enable(dir, controller); err != nil {
		return dir, err
	}
	for _, leaf := range []string{"user", "guests"} {
		if err := os.Mkdir(dir.join(leaf).Path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
	}
	var settings [][2]string
	switch {
	case controller == "cpu" && n.CPUs > 0:
		quota, period := cpuQuota(n.CPUs)
		if dir.V2 {
			settings = [][2]string{{"cpu.max", fmt.Sprintf("%d %d", quota.Microseconds(), period.Microseconds())}}
		} else {
			settings = [][2]string{{"cpu.cfs_period_us", fmt.Sprint(period.Microseconds())}, {"cpu.cfs_quota_us", fmt.Sprint(quota.Microseconds())}}
		}
	case controller == "memory" && dir.V2:
		settings = [][2]string{{"memory.max", fmt.Sprint(n.Memory)}}
	case controller == "memory":
		settings = [][2]string{{"memory.limit_in_bytes", fmt.Sprint(n.Memory)}}
	}
	for _, s := range settings {
		if err := writeCgroup(filepath.Join(dir.Path, s[0]), s[1]); err != nil {
			return dir, err
		}
	}
	return dir, nil
}

// cpuQuota says how much CPU time a group gets in each period. The period is short, 20 ms, so that a program which has used
// up its share does not stand still for long; a small share gets a longer one, because the kernel's least quota is 1 ms.
func cpuQuota(cpus float64) (quota, period time.Duration) {
	period = 20 * time.Millisecond
	if cpus < 0.1 {
		period = 100 * time.Millisecond
	}
	return time.Duration(cpus * float64(period)), period
}

// enable hands controller on to the children of a v2 group; v1 does so by itself.
func enable(dir cgroupDir, controller string) error {
	if !dir.V2 {
		return nil
	}
	err := writeCgroup(filepath.Join(dir.Path, "cgroup.subtree_control"), "+"+controller)
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("%w: the group holds processes itself and cannot hand the controller on; run the lab where %s is the machine's root group", err, dir.Path)
	}
	return err
}

func writeCgroup(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("write %q: %w", value, err)
	}
	return nil
}

// removeCgroups ends what still runs in the groups of a lab, and removes them from every hierarchy.
func (h hierarchies) removeCgroups(lab string) error {
	var errs []error
	done := map[string]bool{}
	for _, root := range h {
		if done[root.Path] {
			continue
		}
		done[root.Path] = true
		top := root.join(cgroupTop)
		errs = append(errs, removeTree(top.join(lab).Path))
		_ = os.Remove(top.Path) // stays where another lab has a group in it
	}
	return errors.Join(errs...)
}

// removeTree removes the group dir and those below it, deepest first. A group counts as busy for a moment after its last
// process has ended.
func removeTree(dir string) error {
	const limit = 5 * time.Second
	deadline := time.Now().Add(limit)
	for {
		err := tryRemoveTree(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: still busy after %s: %w", dir, limit, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func tryRemoveTree(dir string) error {
	sub, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range sub {
		if e.IsDir() {
			if err := tryRemoveTree(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, f := range strings.Fields(string(procs)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // the list is of this moment; what has ended since is no fault
		}
	}
	return syscall.Rmdir(dir)
}

func nodeName(i int) id.Node { return id.Node("n" + strconv.Itoa(i+1)) }
