package workloads

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
	"mosix/test/vm"
)

// user1 is the user of a second kernel's machine, with the same number as in a lab.
const user1 = 61001

// machine is a node with a kernel of its own, for its ordinary user.
type machine struct{ *vm.VM }

type machineRun struct{ *vm.Process }

func (machineRun) PID() int           { return 0 } // it tells its number itself
func (machineRun) Terminal() *os.File { return nil }

// request binds programs at their start: bound on the first call, they save all registers each time (see eligible.Wider).
func (m machine) request(args []string) vm.Request {
	return vm.Request{Args: append([]string{"/bin/sh", "-c", `exec "$@"`, "sh"}, args...), UID: user1, Dir: "/home/user1",
		Env: []string{"PATH=/bin", "HOME=/home/user1", "LANG=C", "LD_BIND_NOW=1"}}
}

// Start implements Place.
func (m machine) Start(args []string, terminal bool, out, complaints io.Writer) (Process, error) {
	if terminal {
		return nil, errors.New("a machine with a second kernel has no terminals")
	}
	p, err := m.VM.Start(m.request(args), out, complaints)
	return machineRun{p}, err
}

// Output implements Place.
func (m machine) Output(args ...string) ([]byte, error) { return m.VM.Output(m.request(args)) }

// TestSecondKernel starts programs on a machine with another kernel, as a node of a lab, and moves them to this machine's kernel, about
// there, and home again.
func TestSecondKernel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a lab")
	}
	kernel, err := vm.FindKernel()
	if errors.Is(err, vm.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	// Without those that measure how late something is: a move takes a second by emulation.
	names := []string{"clocks", "sleep", "threads", "signals", "areas", "family", "children"}
	list := slices.DeleteFunc(Table(), func(w Workload) bool { return !slices.Contains(names, w.Name) })
	if len(list) != len(names) {
		t.Fatalf("%d of %d workloads are known", len(list), len(names))
	}
	for _, w := range list {
		build(t, w)
	}
	files, _ := programs.BuildAll(list)
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("second-%d", os.Getpid()), Nodes: 3, Policy: "none"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	}()
	// The emulated processor has fewer registers than a real one, and programs would go nowhere.
	for _, n := range []id.Node{"n1", "n2"} {
		if err := c.Arm(n, "processor-without-avx error"); err != nil {
			t.Fatal(err)
		}
	}
	const home = id.Node("n3")
	m := machine{boot(t, c, home, kernel, files)}
	defer func() {
		if t.Failed() {
			t.Logf("the console of %s:\n%s", home, m.Console())
		}
		if err := m.Down(); err != nil {
			t.Error(err)
		}
	}()
	release, err := m.VM.Output(vm.Request{Args: []string{"/bin/cat", "/proc/sys/kernel/osrelease"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s runs Linux %s", home, strings.TrimSpace(string(release)))
	for _, w := range list {
		t.Run(w.Name, func(t *testing.T) {
			native, err := Do(m, w, w.Name+".native", nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Do(m, w, w.Name+".moved", func(pid int) error {
				for _, to := range []id.Node{"n1", "n2", home} {
					time.Sleep(between)
					if err := moveOf(m, w, pid, to, home); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil {
				err = w.Check(r)
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, c.Says(r.PID))
			}
			same(t, "moved to this machine's kernel and back", native, r)
		})
	}
}

// moveOf asks at home until the process has moved.
func moveOf(m machine, w Workload, pid int, to, home id.Node) error {
	target := string(to)
	if to == home {
		target = api.ToHome
	}
	for try := 0; ; try++ {
		b, err := m.Output("mosixctl", "migrate", fmt.Sprint(pid), target, "--json")
		var r api.MigrateResult
		if jerr := json.Unmarshal(b, &r); jerr != nil {
			return fmt.Errorf("mosixctl migrate %d %s in %s said %q: %w", pid, target, home, b, err)
		}
		switch {
		case r.Result == api.ResultMoved, to == home && len(r.Refusals) == 1 && r.Refusals[0].What == "already-there":
			return nil
		case r.Result == api.ResultRefused && len(r.Refusals) == 1 && r.Refusals[0].What == "moving" && try < 20:
			time.Sleep(between)
		default:
			return fmt.Errorf("the move to %s: %s %v %s", to, r.Result, r.Refusals, r.Error)
		}
	}
}

// boot puts a machine with another kernel in the place of a node of c, and waits until the others know it.
func boot(t *testing.T, c *cluster.Cluster, node id.Node, kernel vm.Kernel, files []string) *vm.VM {
	t.Helper()
	if _, err := c.AgentStop(node); err != nil {
		t.Fatal(err)
	}
	n, err := c.Node(node)
	if err != nil {
		t.Fatal(err)
	}
	// The node's network card becomes a bridge between the lab and the machine, which has the node's address.
	const wire = "ip tuntap add tap0 mode tap && ip link add br0 type bridge && ip addr flush dev eth0 && ip link set eth0 master br0 && " +
		"ip link set tap0 master br0 && ip link set tap0 up && ip link set br0 up"
	if out, err := c.Shell(node, cluster.Root, "{ "+wire+"; } 2>&1"); err != nil {
		t.Fatalf("plug a machine into the lab: %v\n%s", err, out)
	}
	init, err := c.HostPID(node, 1)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := cluster.Programs()
	if err != nil {
		t.Fatal(err)
	}
	o := vm.Options{
		Kernel: kernel, Hostname: string(node), Address: n.Address + "/24", Tap: "tap0", NetNS: fmt.Sprintf("/proc/%d/ns/net", init),
		CPU: "SandyBridge,-rdtscp,-avx", MiB: 1536,
		Programs: map[string]string{"/bin/mosixd": filepath.Join(bin, "mosixd"), "/bin/mosixctl": filepath.Join(bin, "mosixctl")},
		Files: map[string][]byte{
			"/etc/passwd":        fmt.Appendf(nil, "root:x:0:0:root:/:/bin/sh\nuser1:x:%d:%[1]d::/home/user1:/bin/sh\n", user1),
			"/etc/group":         fmt.Appendf(nil, "root:x:0:\nuser1:x:%d:\n", user1),
			"/etc/nsswitch.conf": []byte("passwd: files\ngroup: files\n"),
		},
		Start: []vm.Request{{Args: []string{"/bin/sh", "-c", fmt.Sprintf("mkdir -p /home/user1 && chown %d:%[1]d /home/user1 && chmod 1777 /dev/shm /tmp && chmod -R go= %s && "+
			"exec mosixd --config %[2]s/state/mosixd.toml", user1, lab.Root)}, Env: []string{"PATH=/bin"}, Dir: "/"}},
	}
	for _, f := range files {
		o.Programs["/bin/"+filepath.Base(f)] = f
	}
	for _, name := range []string{"sh", "true", "cat", "touch", "rm", "chown", "chmod", "mkdir"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		o.Programs["/bin/"+name] = path
	}
	config, err := os.ReadFile(c.ConfigFile(node))
	if err != nil {
		t.Fatal(err)
	}
	o.Files[lab.Root+"/state/mosixd.toml"] = config
	ids, err := filepath.Glob(filepath.Join(c.StateDir(node), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range ids {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(f) != "speed" { // that of this machine
			o.Files[lab.Root+"/state/id/"+filepath.Base(f)] = b
		}
	}
	v, err := vm.Boot(o, 3*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := cluster.Until(time.Minute, func() bool {
		var st api.Status
		b, err := v.Output(vm.Request{Args: []string{"/bin/mosixctl", "status", "--json"}, Dir: "/"})
		if err != nil || json.Unmarshal(b, &st) != nil {
			time.Sleep(time.Second)
			return false
		}
		up := 0
		for _, x := range st.Nodes {
			if x.State == "alive" {
				up++
			}
		}
		return up == len(c.Nodes())
	}); !ok {
		defer func() { _ = v.Down() }()
		b, err := v.Output(vm.Request{Args: []string{"/bin/mosixctl", "status"}, Dir: "/"})
		t.Fatalf("%s does not see the others: %s %v\n%s", node, b, err, v.Console())
	}
	return v
}
