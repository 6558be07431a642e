// Command init is the first program of a test machine: it sets the machine up, and runs what it is asked for. Its one invariant: it
// never ends while the machine runs.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mosix/test/vm"
)

func main() {
	line, err := open()
	if err == nil {
		var s vm.Setup
		if s, err = setUp(); err == nil {
			m := &machine{line: line, groups: map[int]int{}}
			for _, r := range s.Start {
				go m.run(r)
			}
			if err = line.Send(vm.Reply{}); err == nil {
				err = m.serve()
			}
		}
		_ = line.Send(vm.Reply{Error: fmt.Sprint(err)}) // the console says it, too
	}
	fmt.Println("init:", err)
	select {}
}

// open opens the line to the test, after the file systems without which nothing goes.
func open() (*vm.Line, error) {
	for _, m := range []struct{ dir, kind, data string }{
		{"/proc", "proc", ""}, {"/sys", "sysfs", ""}, {"/dev", "devtmpfs", ""}, {"/dev/pts", "devpts", "mode=620,ptmxmode=666"},
		{"/dev/shm", "tmpfs", "mode=1777"}, {"/sys/fs/cgroup", "cgroup2", ""},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	tty, err := os.OpenFile(vm.ControlTTY, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, t); err != nil {
		return nil, err
	}
	return vm.NewLine(tty), nil
}

func setUp() (s vm.Setup, err error) {
	b, err := os.ReadFile(vm.SetupFile)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, err
	}
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return s, err
	}
	for _, name := range s.Modules {
		f, err := os.Open(filepath.Join(vm.ModuleDir, name))
		if err != nil {
			return s, err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return s, fmt.Errorf("load %s: %w", name, err)
		}
	}
	for _, l := range []struct{ name, address string }{{"lo", "127.0.0.1/8"}, {"eth0", s.Address}} {
		link, err := netlink.LinkByName(l.name)
		if err != nil {
			return s, fmt.Errorf("find %s: %w", l.name, err)
		}
		addr, err := netlink.ParseAddr(l.address)
		if err != nil {
			return s, err
		}
		if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return s, err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return s, err
		}
	}
	return s, nil
}

// machine runs programs.
type machine struct {
	line   *vm.Line
	mu     sync.Mutex
	groups map[int]int // by the number of the request
}

func (m *machine) serve() error {
	for {
		var r vm.Request
		if err := m.line.Receive(&r); err != nil {
			return fmt.Errorf("the line to the test: %w", err)
		}
		if r.Signal != 0 {
			m.mu.Lock()
			if group := m.groups[r.ID]; group != 0 {
				_ = unix.Kill(-group, unix.Signal(r.Signal)) // it may have ended
			}
			m.mu.Unlock()
			continue
		}
		go m.run(r)
	}
}

func (m *machine) run(r vm.Request) {
	end := vm.Reply{ID: r.ID, Ended: true}
	if err := m.program(r, &end); err != nil {
		end.Error = err.Error()
	}
	if r.ID == 0 {
		fmt.Printf("init: %v ended with status %d %s\n", r.Args, end.Status, end.Error)
		return
	}
	_ = m.line.Send(end) // without a line nobody asks any more
}

func (m *machine) program(r vm.Request, end *vm.Reply) error {
	c := exec.Command(r.Args[0], r.Args[1:]...)
	c.Dir, c.Env = r.Dir, r.Env
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.UID != 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(r.UID), Gid: uint32(r.UID)}
	}
	if r.ID == 0 {
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
	} else {
		c.Stdout, c.Stderr = &stream{m, r.ID, false}, &stream{m, r.ID, true}
	}
	if err := c.Start(); err != nil {
		return err
	}
	m.mu.Lock()
	m.groups[r.ID] = c.Process.Pid
	m.mu.Unlock()
	err := c.Wait()
	m.mu.Lock()
	delete(m.groups, r.ID)
	m.mu.Unlock()
	if ws, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && errors.As(err, new(*exec.ExitError)) {
		end.Status = ws.ExitStatus()
		if ws.Signaled() {
			end.Status = 128 + int(ws.Signal())
		}
		return nil
	}
	return err
}

// stream hands on what a program writes.
type stream struct {
	m   *machine
	id  int
	err bool
}

var _ io.Writer = (*stream)(nil)

func (s *stream) Write(b []byte) (int, error) {
	r := vm.Reply{ID: s.id}
	if s.err {
		r.Err = b
	} else {
		r.Out = b
	}
	return len(b), s.m.line.Send(r)
}
