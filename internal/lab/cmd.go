package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"mosix/internal/id"
)

// As says for whom a program runs.
type As struct {
	User string   // root, user1, user2, or what the node's passwd knows; empty: user1
	Dir  string   // in the node; empty: the user's home
	Env  []string // on top of a fresh login's
}

// Cmd is a program in a node. It is used as an exec.Cmd: once.
type Cmd struct {
	Args []string
	As

	Stdin  io.Reader // an *os.File goes to the program itself; nil: /dev/null
	Stdout io.Writer // likewise
	Stderr io.Writer

	// TTY gives the program a terminal of the node as its controlling terminal, in the place of Stdin, Stdout and Stderr.
	// From Start on Terminal is the other end of it. Closing that hangs the terminal up.
	TTY        bool
	Rows, Cols uint16
	Terminal   *os.File

	lab  *Lab
	node id.Node
	c    conn

	pid, hostPID int

	toClose []*os.File // ours, once the program has its own
	copying sync.WaitGroup
	ends    []*os.File // our ends of pipes whose copying must be stopped at the end
	mu      sync.Mutex
	copyErr error
	waited  bool
	ctx     context.Context // nil: none
	stop    func() bool     // no more killing when ctx ends
}

// ExitError is how a program ended that did not end with 0.
type ExitError struct {
	Code int // as a shell's $?: 128 and the signal's number for a signal; 127 and 126 also where it could not be started
	Why  string
}

func (e *ExitError) Error() string {
	if e.Why != "" {
		return e.Why
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Command prepares a program for node.
func (l *Lab) Command(node id.Node, as As, name string, args ...string) *Cmd {
	return &Cmd{lab: l, node: node, As: as, Args: append([]string{name}, args...)}
}

// Shell prepares the user's shell.
func (l *Lab) Shell(node id.Node, as As) *Cmd { return &Cmd{lab: l, node: node, As: as} }

// CommandContext is Command, with its process group killed when ctx ends; Wait then returns ctx's error.
func (l *Lab) CommandContext(ctx context.Context, node id.Node, as As, name string, args ...string) *Cmd {
	c := l.Command(node, as, name, args...)
	c.ctx = ctx
	return c
}

// Start starts the program. When it returns nil the program runs, or has ended.
func (c *Cmd) Start() (err error) {
	defer func() {
		if err != nil {
			c.cleanup()
		}
		for _, f := range c.toClose {
			f.Close()
		}
		c.toClose = nil
	}()
	if c.lab == nil {
		return errors.New("lab: a Cmd is made by Lab.Command")
	}
	if c.ctx != nil && c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	req := request{Op: opExec, Exec: &execRequest{Args: c.Args, User: firstWord(c.User, DefaultUser), Env: c.Env, Dir: c.Dir, TTY: c.TTY, Rows: c.Rows, Cols: c.Cols}}
	var files []*os.File
	if !c.TTY {
		in, err := c.input()
		if err != nil {
			return err
		}
		out, err := c.output(c.Stdout)
		if err != nil {
			return err
		}
		errOut := out
		if c.Stderr == nil || !sameWriter(c.Stdout, c.Stderr) {
			if errOut, err = c.output(c.Stderr); err != nil {
				return err
			}
		}
		files = []*os.File{in, out, errOut}
		for _, f := range files {
			f.Fd() // for its side effect, as exec.Cmd has it: programs expect descriptors that block
		}
	}
	conn, err := c.lab.dial(c.node)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.c = conn
	c.mu.Unlock()
	if err := conn.send(req, 0, files...); err != nil {
		return fmt.Errorf("ask the init of %s: %w", c.node, err)
	}
	var r reply
	passed, hostPID, err := conn.receive(&r)
	if err != nil {
		return c.lost(err)
	}
	if r.Error != "" {
		return &ExitError{Code: r.Code, Why: fmt.Sprintf("node %s: %s", c.node, r.Error)}
	}
	c.pid, c.hostPID = r.PID, hostPID
	if len(passed) > 0 {
		c.Terminal = passed[0]
	}
	if c.ctx != nil {
		c.stop = context.AfterFunc(c.ctx, func() { _ = c.Signal(syscall.SIGKILL) }) // too late is no fault
	}
	return nil
}

func (c *Cmd) lost(err error) error {
	return fmt.Errorf("the init of node %s went away, and the node with it (see mosixctl lab status): %w", c.node, err)
}

// PID is the program's number in its node, which is what its users see.
func (c *Cmd) PID() int { return c.pid }

// HostPID is its number on the machine; 0 if it had ended before that could be read.
func (c *Cmd) HostPID() int { return c.hostPID }

// Signal sends sig to the program's process group, unless it has ended.
func (c *Cmd) Signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c.UnixConn == nil || c.waited {
		return os.ErrProcessDone
	}
	return c.c.send(request{Signal: int(sig)}, 0)
}

// Wait waits until the program has ended and all that it wrote has been copied. A program that did not end with 0 is an
// *ExitError.
func (c *Cmd) Wait() error {
	if c.c.UnixConn == nil || c.waited {
		return errors.New("lab: Wait without Start, or a second time")
	}
	var r reply
	_, _, err := c.c.receive(&r)
	c.mu.Lock()
	c.waited = true
	c.mu.Unlock()
	c.cleanup()
	switch {
	case err != nil:
		return c.lost(err)
	case r.Code != 0 && c.ctx != nil && c.ctx.Err() != nil:
		return c.ctx.Err()
	case r.Code != 0:
		return &ExitError{Code: r.Code}
	}
	return c.copyErr
}

func (c *Cmd) cleanup() {
	if c.stop != nil {
		c.stop()
	}
	if c.c.UnixConn != nil {
		_ = c.c.Close()
	}
	for _, f := range c.ends {
		f.Close() // ends a copy to a program that reads no more
	}
	for _, f := range c.toClose {
		f.Close()
	}
	c.toClose = nil
	c.copying.Wait()
}

// Run starts the program and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the program and returns what it wrote; what it complained of is in the error.
func (c *Cmd) Output() ([]byte, error) {
	var out, complaints bytes.Buffer
	c.Stdout = &out
	if c.Stderr == nil {
		c.Stderr = &complaints
	}
	err := c.Run()
	if e := (*ExitError)(nil); errors.As(err, &e) && complaints.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaints.Bytes()))
	}
	return out.Bytes(), err
}

// CombinedOutput runs the program and returns all that it wrote, in the order in which it wrote it.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// StdinPipe is a pipe to the program. The caller closes it.
func (c *Cmd) StdinPipe() (io.WriteCloser, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.Stdin = r
	c.toClose = append(c.toClose, r)
	return w, nil
}

// StdoutPipe is a pipe from the program. The caller reads it to its end and closes it.
func (c *Cmd) StdoutPipe() (io.ReadCloser, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.Stdout = w
	c.toClose = append(c.toClose, w)
	return r, nil
}

func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }() // types that do not compare are not the same
	return a != nil && a == b
}

func (c *Cmd) input() (*os.File, error) {
	switch in := c.Stdin.(type) {
	case nil:
		f, err := os.Open(os.DevNull)
		if err != nil {
			return nil, err
		}
		c.toClose = append(c.toClose, f)
		return f, nil
	case *os.File:
		return in, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.toClose = append(c.toClose, r)
	c.ends = append(c.ends, w)
	// Not waited for: nobody can end a read of somebody else's reader.
	go func() {
		_, _ = io.Copy(w, c.Stdin) // a program may read less than it is given
		w.Close()
	}()
	return r, nil
}

func (c *Cmd) output(to io.Writer) (*os.File, error) {
	switch out := to.(type) {
	case nil:
		f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		c.toClose = append(c.toClose, f)
		return f, nil
	case *os.File:
		return out, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.toClose = append(c.toClose, w)
	c.copying.Go(func() {
		defer r.Close()
		if _, err := io.Copy(to, r); err != nil {
			c.mu.Lock()
			c.copyErr = errors.Join(c.copyErr, err)
			c.mu.Unlock()
		}
	})
	return w, nil
}

// ExitCode is the code that a shell would show for err, which Run or Wait returned.
func ExitCode(err error) int {
	var e *ExitError
	var x *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Code
	case errors.As(err, &x):
		return x.ExitCode()
	}
	return 1
}
