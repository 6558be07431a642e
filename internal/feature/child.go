package feature

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
)

// child is a process to try things on: this program, started again under ptrace and held at its first instruction. It never
// executes an instruction of the program, only system calls that are injected, so a library can use it in any program. It
// ends with the probe, whatever happens.
type child struct {
	pid     int
	ip      uint64 // of the instructions "syscall; int3"
	regs    abi.Regs
	scratch mem.Addr // scratchSize bytes that it can read and write
	tracees *[]int   // it and its descendants, oldest first
}

const scratchSize = 16 * mem.PageSize

// errChildGone says that the child has ended instead of returning from a call.
var errChildGone = errors.New("the process that it was tried on has ended")

// withChild runs fn with a child. The calling goroutine keeps its thread meanwhile, because ptrace binds to threads.
func withChild(fn func(c *child) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"mosix-probe"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return fmt.Errorf("start a process to try it on: %w", err)
	}
	tracees := []int{pid}
	defer func() {
		// Youngest first: the init of a PID namespace does not end before its processes were waited for.
		for _, pid := range slices.Backward(tracees) {
			_ = kern.Kill(pid, int(syscall.SIGKILL)) // it may have ended by itself
			reap(pid)
		}
	}()
	c := &child{pid: pid, tracees: &tracees}
	if err := c.hold(); err != nil {
		return err
	}
	return fn(c)
}

// reap waits until pid has ended.
func reap(pid int) {
	for {
		_, st, err := kern.Wait(pid, 0)
		if err != nil || !syscall.WaitStatus(st).Stopped() {
			return
		}
	}
}

// hold makes a stopped process ready for injected calls.
func (c *child) hold() error {
	if _, _, err := c.wait(); err != nil {
		return err
	}
	if err := kern.SetOptions(c.pid, kern.OptExitKill|kern.OptTraceFork|kern.OptTraceClone); err != nil {
		return err
	}
	regs, err := kern.GetRegs(c.pid)
	if err != nil {
		return err
	}
	c.regs, c.ip = regs, regs.RIP
	m, err := kern.OpenMem(c.pid)
	if err != nil {
		return err
	}
	defer m.Close()
	if _, err := m.WriteAt([]byte{0x0f, 0x05, 0xcc}, int64(c.ip)); err != nil {
		return fmt.Errorf("write an instruction into process %d: %w", c.pid, err)
	}
	a, err := c.call(abi.SysMmap, 0, scratchSize, abi.ProtRead|abi.ProtWrite, abi.MapPrivate|abi.MapAnonymous, ^uint64(0), 0)
	c.scratch = mem.Addr(a)
	return err
}

// wait waits for the next stop of the child: its signal, and its event where there is one.
func (c *child) wait() (sig syscall.Signal, event int, err error) {
	_, st, err := kern.Wait(c.pid, 0)
	if err != nil {
		return 0, 0, err
	}
	ws := syscall.WaitStatus(st)
	if !ws.Stopped() {
		return 0, 0, errChildGone
	}
	return ws.StopSignal(), st >> 16, nil
}

// start lets the child make a system call.
func (c *child) start(nr uint64, args ...uint64) error {
	r := c.regs
	r.SetCall(nr, args...)
	r.RIP = c.ip
	if err := kern.SetRegs(c.pid, &r); err != nil {
		return err
	}
	return kern.Cont(c.pid, 0)
}

// finish waits for the end of the call that start began.
func (c *child) finish() (uint64, error) {
	for {
		sig, event, err := c.wait()
		if err != nil {
			return 0, err
		}
		if event == kern.EventFork || event == kern.EventClone {
			born, err := kern.EventMsg(c.pid)
			if err != nil {
				return 0, err
			}
			*c.tracees = append(*c.tracees, int(born))
		}
		if sig == syscall.SIGTRAP && event == 0 {
			break
		}
		if err := kern.Cont(c.pid, 0); err != nil {
			return 0, err
		}
	}
	r, err := kern.GetRegs(c.pid)
	if err != nil {
		return 0, err
	}
	if ret := int64(r.RAX); abi.IsErr(ret) {
		return 0, syscall.Errno(-ret)
	}
	return r.RAX, nil
}

// call makes a system call in the child.
func (c *child) call(nr uint64, args ...uint64) (uint64, error) {
	if err := c.start(nr, args...); err != nil {
		return 0, err
	}
	return c.finish()
}

// fork makes a child of the child, held as it is; set_tid, where it is not 0, is the number that it must get. The second
// result is its number as the child sees it.
func (c *child) fork(setTID int32) (*child, uint64, error) {
	const argsSize, setTIDOff = 88, 128
	a := make([]byte, setTIDOff+4)
	binary.LittleEndian.PutUint64(a[32:], uint64(syscall.SIGCHLD)) // exit_signal
	if setTID != 0 {
		binary.LittleEndian.PutUint32(a[setTIDOff:], uint32(setTID))
		binary.LittleEndian.PutUint64(a[64:], uint64(c.scratch)+setTIDOff) // set_tid
		binary.LittleEndian.PutUint64(a[72:], 1)                           // set_tid_size
	}
	if err := c.write(c.scratch, a); err != nil {
		return nil, 0, err
	}
	n, err := c.call(abi.SysClone3, uint64(c.scratch), argsSize)
	if err != nil {
		return nil, 0, fmt.Errorf("clone3: %w", err)
	}
	born := &child{pid: (*c.tracees)[len(*c.tracees)-1], tracees: c.tracees}
	return born, n, born.hold()
}

// unshare moves the child into namespaces of its own; an ordinary user needs a user namespace for that.
func (c *child) unshare(flags uint64) error {
	_, err := c.call(abi.SysUnshare, flags)
	if errors.Is(err, syscall.EPERM) && flags&syscall.CLONE_NEWUSER == 0 {
		_, err = c.call(abi.SysUnshare, flags|syscall.CLONE_NEWUSER)
	}
	if err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	return nil
}

// take copies descriptor fd of the child into this program.
func (c *child) take(fd uint64, name string) (*os.File, error) {
	pidfd, err := kern.PidfdOpen(c.pid)
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	return kern.PidfdGetfd(pidfd, int(fd), name)
}

func (c *child) write(a mem.Addr, b []byte) error {
	_, err := kern.WriteVM(c.pid, b, mem.Range{Start: a, End: a + mem.Addr(len(b))})
	return err
}

func (c *child) read(a mem.Addr, b []byte) error {
	_, err := kern.ReadVM(c.pid, b, mem.Range{Start: a, End: a + mem.Addr(len(b))})
	return err
}
