package vm

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mosix/test/cluster"
)

// KernelEnv names the environment variable that holds the folder into which a kernel's package was unpacked.
const KernelEnv = "MOSIX_TEST_KERNEL"

// ErrMissing says that this machine has no qemu, or no kernel to start in it.
var ErrMissing = errors.New("no second kernel can be started here")

// Kernel is a kernel with the modules that make a network.
type Kernel struct {
	Image   string
	Modules []string // in the order in which they are loaded
}

// modules are what a machine's network needs. A kernel may have some built in, and others may need more.
var modules = []string{"virtio_pci", "virtio_net"}

// FindKernel finds a kernel in the folder that KernelEnv names, or in bin/kernel of the sources, where test/vm/fetch puts one.
func FindKernel() (k Kernel, err error) {
	dir := os.Getenv(KernelEnv)
	if dir == "" {
		root, err := cluster.ModuleRoot()
		if err != nil {
			return k, err
		}
		dir = filepath.Join(root, "bin", "kernel")
	}
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz*"))
	if err != nil || len(images) == 0 {
		return k, fmt.Errorf("%w: %s/boot has no vmlinuz (test/vm/fetch gets one)", ErrMissing, dir)
	}
	k.Image = images[len(images)-1]
	if _, err := exec.LookPath(qemu); err != nil {
		return k, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	have := map[string]string{}
	err = filepath.WalkDir(filepath.Join(dir, "lib", "modules"), func(path string, _ os.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil {
			have[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	for _, name := range modules {
		if err == nil {
			err = k.load(name, have)
		}
	}
	return k, err
}

// load adds a module of those that there are, behind those that it needs.
func (k *Kernel) load(name string, have map[string]string) error {
	path, ok := have[name]
	if !ok || slices.Contains(k.Modules, path) {
		return nil
	}
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("read the module %s: %w", path, err)
	}
	defer f.Close()
	info := f.Section(".modinfo")
	if info == nil {
		return fmt.Errorf("the module %s does not say what it needs", path)
	}
	b, err := info.Data()
	if err != nil {
		return fmt.Errorf("read the module %s: %w", path, err)
	}
	for line := range strings.SplitSeq(string(b), "\x00") {
		needs, _ := strings.CutPrefix(line, "depends=")
		if needs == line || needs == "" {
			continue
		}
		for other := range strings.SplitSeq(needs, ",") {
			if err := k.load(strings.ReplaceAll(other, "-", "_"), have); err != nil {
				return err
			}
		}
	}
	k.Modules = append(k.Modules, path)
	return nil
}

const qemu = "qemu-system-x86_64"

// Options are what a machine is made of.
type Options struct {
	Kernel   Kernel
	Hostname string
	Address  string            // with its prefix
	Tap      string            // the network device that its card is plugged into
	Programs map[string]string // files of this machine by their names there; with a program come the libraries that it needs
	Files    map[string][]byte
	Start    []Request // programs that run from the beginning
	CPU      string    // as qemu has it
	MiB      int
	NetNS    string // the network namespace of Tap, as a path
}

// VM is a machine that runs.
type VM struct {
	dir   string
	proc  *exec.Cmd
	leash io.Closer // qemu ends when it is closed, also by the end of this process
	ended chan struct{}
	line  *Line
	conn  net.Conn

	mu    sync.Mutex
	last  int
	procs map[int]*Process
	dead  error
}

// Boot starts a machine and waits until it takes requests, for as long as patience.
func Boot(o Options, patience time.Duration) (v *VM, err error) {
	dir, err := os.MkdirTemp("", "mosix-vm-")
	if err != nil {
		return nil, err
	}
	v = &VM{dir: dir, procs: map[int]*Process{}, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start a machine with kernel %s: %w\n%s", filepath.Base(o.Kernel.Image), err, v.Console())
			err = errors.Join(err, v.Down())
			v = nil
		}
	}()
	initrd := filepath.Join(dir, "initrd")
	if err := writeTree(o, initrd); err != nil {
		return v, err
	}
	control := filepath.Join(dir, "control")
	l, err := net.Listen("unix", control)
	if err != nil {
		return v, err
	}
	defer l.Close()
	v.proc = exec.Command("sh", "-c", `"$@" & cat; kill -9 $!; wait`, "sh", "nsenter", "--net="+o.NetNS, qemu, "-accel", "tcg", "-cpu", o.CPU, "-m", fmt.Sprint(o.MiB), "-smp", "1", "-display", "none", "-no-reboot", "-nodefaults",
		"-kernel", o.Kernel.Image, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 net.ifnames=0",
		"-serial", "file:"+v.console(), "-serial", "unix:"+control,
		"-netdev", "tap,id=net,script=no,downscript=no,ifname="+o.Tap, "-device", "virtio-net-pci,netdev=net,romfile=")
	if v.leash, err = v.proc.StdinPipe(); err != nil {
		return v, err
	}
	var said bytes.Buffer
	v.proc.Stdout, v.proc.Stderr = &said, &said
	if err := v.proc.Start(); err != nil {
		v.leash = nil
		return v, err
	}
	go func() {
		defer close(v.ended)
		_ = v.proc.Wait() // Down ends it
	}()
	if err := l.(*net.UnixListener).SetDeadline(time.Now().Add(patience)); err != nil {
		return v, err
	}
	if v.conn, err = l.Accept(); err != nil {
		v.leash.Close()
		<-v.ended
		return v, fmt.Errorf("qemu does not open its serial line: %w; it says: %s", err, said.Bytes())
	}
	v.line = NewLine(v.conn)
	if err := v.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return v, err
	}
	var first Reply
	if err := v.line.Receive(&first); err != nil {
		return v, fmt.Errorf("it does not come up within %v: %w", patience, err)
	}
	if first.Error != "" {
		return v, errors.New(first.Error)
	}
	if err := v.conn.SetReadDeadline(time.Time{}); err != nil {
		return v, err
	}
	go v.receive()
	return v, nil
}

func writeTree(o Options, to string) error {
	root, err := cluster.ModuleRoot()
	if err != nil {
		return err
	}
	init := filepath.Join(filepath.Dir(to), "init")
	build := exec.Command("go", "build", "-o", init, "./test/vm/init")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the init: %w\n%s", err, out)
	}
	t := newTree()
	if err := t.copy(init, "/init"); err != nil {
		return err
	}
	s := Setup{Hostname: o.Hostname, Address: o.Address, Start: o.Start}
	for _, m := range o.Kernel.Modules {
		if err := t.copy(m, filepath.Join(ModuleDir, filepath.Base(m))); err != nil {
			return err
		}
		s.Modules = append(s.Modules, filepath.Base(m))
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	t.put(SetupFile, modeFile|0o644, b)
	for name, from := range o.Programs {
		if err := t.program(from, name); err != nil {
			return err
		}
	}
	for name, b := range o.Files {
		t.put(name, modeFile|0o644, b)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/home"} {
		t.put(dir, modeDir|0o755, nil)
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	return t.write(f)
}

func (v *VM) console() string { return filepath.Join(v.dir, "console") }

// Console is what the kernel, and the programs that run from the beginning, have said.
func (v *VM) Console() string {
	b, _ := os.ReadFile(v.console()) // before it starts there is none
	return string(b)
}

// Down ends the machine.
func (v *VM) Down() error {
	if v.leash != nil {
		v.leash.Close()
		select {
		case <-v.ended:
		case <-time.After(20 * time.Second):
			return errors.New("qemu does not end when it is killed")
		}
	}
	if v.conn != nil {
		v.conn.Close()
	}
	return os.RemoveAll(v.dir)
}

func (v *VM) receive() {
	for {
		var r Reply
		err := v.line.Receive(&r)
		v.mu.Lock()
		if err == nil && r.ID == 0 {
			err = errors.New(r.Error)
		}
		if err != nil {
			v.dead = fmt.Errorf("the machine is gone: %w", err)
			for id, p := range v.procs {
				p.end(0, v.dead)
				delete(v.procs, id)
			}
			v.mu.Unlock()
			return
		}
		p := v.procs[r.ID]
		if r.Ended {
			delete(v.procs, r.ID)
		}
		v.mu.Unlock()
		if p == nil {
			continue
		}
		// A buffer takes all.
		_, _ = p.out.Write(r.Out)
		_, _ = p.err.Write(r.Err)
		if r.Ended {
			var err error
			if r.Error != "" {
				err = errors.New(r.Error)
			}
			p.end(r.Status, err)
		}
	}
}

// Process is a program that runs in a machine.
type Process struct {
	v        *VM
	id       int
	out, err io.Writer
	done     chan struct{}
	status   int
	why      error
}

func (p *Process) end(status int, why error) {
	p.status, p.why = status, why
	close(p.done)
}

// Start starts a program.
func (v *VM) Start(r Request, out, complaints io.Writer) (*Process, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dead != nil {
		return nil, v.dead
	}
	v.last++
	r.ID = v.last
	p := &Process{v: v, id: r.ID, out: out, err: complaints, done: make(chan struct{})}
	v.procs[r.ID] = p
	return p, v.line.Send(r)
}

// Output runs a program to its end.
func (v *VM) Output(r Request) ([]byte, error) {
	var out, complaints bytes.Buffer
	p, err := v.Start(r, &out, &complaints)
	if err != nil {
		return nil, err
	}
	status, err := p.Wait()
	if err == nil && status != 0 {
		err = fmt.Errorf("%v ended with status %d: %s", r.Args, status, complaints.Bytes())
	}
	return out.Bytes(), err
}

// Signal sends a signal to the program's group.
func (p *Process) Signal(s syscall.Signal) error {
	return p.v.line.Send(Request{ID: p.id, Signal: int(s)})
}

// Wait waits for the end.
func (p *Process) Wait() (status int, err error) {
	<-p.done
	return p.status, p.why
}
