package workloads

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/creack/pty"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/test/cluster"
)

// Place is where programs run: a node of a lab, or this machine.
type Place interface {
	// Start starts a program. With a terminal its three streams are that.
	Start(args []string, terminal bool, out, complaints io.Writer) (Process, error)
	// Output runs a program to its end.
	Output(args ...string) ([]byte, error)
}

// Process is a program that runs in a place.
type Process interface {
	PID() int           // in the place
	Terminal() *os.File // nil where it has none
	Signal(s syscall.Signal) error
	Wait() (status int, err error) // as a shell's $?
}

// Machine is this machine: programs are found in Bin and run in Dir.
type Machine struct{ Bin, Dir string }

type machineProcess struct {
	*exec.Cmd
	tty *os.File
}

func (m Machine) command(args []string) *exec.Cmd {
	name := args[0]
	if p := filepath.Join(m.Bin, name); exists(p) {
		name = p
	}
	c := exec.Command(name, args[1:]...)
	c.Dir = m.Dir
	c.Env = append(os.Environ(), "PATH="+m.Bin+":"+os.Getenv("PATH"))
	return c
}

// Start implements Place.
func (m Machine) Start(args []string, terminal bool, out, complaints io.Writer) (Process, error) {
	p := &machineProcess{Cmd: m.command(args)}
	var err error
	if terminal {
		p.tty, err = pty.Start(p.Cmd)
	} else {
		p.Stdout, p.Stderr = out, complaints
		p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		err = p.Cmd.Start()
	}
	return p, err
}

// Output implements Place.
func (m Machine) Output(args ...string) ([]byte, error) { return m.command(args).Output() }

func (p *machineProcess) PID() int           { return p.Process.Pid }
func (p *machineProcess) Terminal() *os.File { return p.tty }

func (p *machineProcess) Signal(s syscall.Signal) error { return syscall.Kill(-p.Process.Pid, s) }

func (p *machineProcess) Wait() (int, error) {
	err := p.Cmd.Wait()
	if ws, ok := p.ProcessState.Sys().(syscall.WaitStatus); ok && errors.As(err, new(*exec.ExitError)) {
		if ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return ws.ExitStatus(), nil
	}
	return 0, err
}

// Node is a node of a lab, for its ordinary user.
type Node struct {
	*cluster.Cluster
	Name id.Node
}

type nodeProcess struct{ *lab.Cmd }

// Start implements Place.
func (n Node) Start(args []string, terminal bool, out, complaints io.Writer) (Process, error) {
	c := n.Command(n.Name, cluster.User1, args[0], args[1:]...)
	c.TTY = terminal
	if !terminal {
		c.Stdout, c.Stderr = out, complaints
	}
	return nodeProcess{c}, c.Start()
}

// Output implements Place.
func (n Node) Output(args ...string) ([]byte, error) {
	return n.Command(n.Name, cluster.User1, args[0], args[1:]...).Output()
}

func (p nodeProcess) Terminal() *os.File { return p.Cmd.Terminal }

func (p nodeProcess) Wait() (int, error) {
	err := p.Cmd.Wait()
	if e := (*lab.ExitError)(nil); errors.As(err, &e) {
		if e.Why != "" {
			return e.Code, fmt.Errorf("the program could not be started: %w", e)
		}
		return e.Code, nil
	}
	return 0, err
}

var (
	_ Place = Machine{}
	_ Place = Node{}
)
