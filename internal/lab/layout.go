package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mosix/internal/id"
)

// Root holds one directory per lab.
const Root = "/run/mosix-lab"

// DefaultName is the lab that is meant when none is named.
const DefaultName = "lab"

// Paths inside a node.
const (
	nodeBin   = Root + "/bin"
	nodeState = Root + "/state"
	nodeEtc   = Root + "/etc"
	nodeRun   = "/run/mosix"
)

// The ordinary users of a node. Their numbers are outside what distributions give to people, services and containers.
const (
	DefaultUser = "user1"
	User1ID     = 61001
	User2ID     = 61002
)

// maxNodes is what the addresses 10.77.0.1 to 10.77.0.254 hold.
const maxNodes = 254

// Node is what is written down of one node when it is made.
type Node struct {
	Name      id.Node       `json:"name"`
	Address   string        `json:"address"`
	CPUs      float64       `json:"cpus,omitempty"`         // quota; 0: none
	Memory    uint64        `json:"memory_bytes,omitempty"` // limit; 0: none
	ClockSkew time.Duration `json:"clock_skew_ns,omitempty"`
	// ClockDrift is by how many millionths the agent's clock is too fast.
	ClockDrift int         `json:"clock_drift_ppm,omitempty"`
	Guests     []string    `json:"guest_cgroups,omitempty"` // cgroup directories below which the agent makes guests' groups
	Users      []cgroupDir `json:"user_cgroups,omitempty"`  // those that Exec's programs run in
}

// record is lab.json.
type record struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Policy  string    `json:"policy,omitempty"`
	Nodes   []Node    `json:"nodes"`
}

// initRecord is init.json: enough to tell the init from a later process with its number.
type initRecord struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // field 22 of /proc/PID/stat, in clock ticks since boot
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,31}$`)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("lab name %q: want 1 to 32 letters, digits, dots, dashes and underscores, the first a letter or digit", name)
	}
	return nil
}

func labDir(name string) string                { return filepath.Join(Root, name) }
func nodeDir(name string, node id.Node) string { return filepath.Join(Root, name, string(node)) }
func initSocket(name string, node id.Node) string {
	return filepath.Join(nodeDir(name, node), "init.sock")
}
func initRecFile(name string, node id.Node) string {
	return filepath.Join(nodeDir(name, node), "init.json")
}
func initLogFile(name string, node id.Node) string {
	return filepath.Join(nodeDir(name, node), "init.log")
}
func agentLogFile(name string, node id.Node) string {
	return filepath.Join(nodeDir(name, node), "agent.log")
}

// checkRoot says what the lab needs when it is not there.
func checkRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes namespaces, mounts, network devices and cgroups, and needs root for that: run it again with sudo")
	}
	return nil
}

// writeJSON replaces path as a whole, so that a reader never sees half of it.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// procStat reads whether process pid still runs and its start time, in clock ticks since boot.
func procStat(pid int) (runs bool, start uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false, 0, err
	}
	return parseStat(string(b))
}

// parseStat reads a line of /proc/PID/stat. The command may hold blanks and brackets, so fields count from the last bracket.
// A process that shows as a zombie still runs while it has threads other than the first.
func parseStat(line string) (runs bool, start uint64, err error) {
	_, rest, ok := cutLast(line, ")")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return false, 0, fmt.Errorf("stat line %q is too short", line)
	}
	threads, err := strconv.Atoi(f[17])
	if err != nil {
		return false, 0, fmt.Errorf("number of threads: %w", err)
	}
	if start, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return false, 0, fmt.Errorf("start time: %w", err)
	}
	return threads > 1 || f[0] != "Z" && f[0] != "X", start, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// alive reports whether the init that r names still runs. Once it does not, nothing in its PID namespace does.
func (r initRecord) alive() bool {
	runs, start, err := procStat(r.PID)
	return err == nil && start == r.Start && runs
}

// kill ends the init, and with it everything in its PID namespace; it never hits another process with the same number.
func (r initRecord) kill() error {
	p, err := os.FindProcess(r.PID) // holds the process, so that the number stays its own from here on
	if err != nil {
		return err
	}
	defer p.Release()
	if !r.alive() {
		return nil
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the init, process %d: %w", r.PID, err)
	}
	return nil
}

// readInit reads who the init of a node is; ok is false where none was ever started.
func readInit(name string, node id.Node) (r initRecord, ok bool, err error) {
	err = readJSON(initRecFile(name, node), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	return r, err == nil, err
}
