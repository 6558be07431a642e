// Package keeper starts the process that is PID 1 of a guest's namespace and outlives every agent. Its one invariant: it has
// exactly one thread, which runs stub code from its first instruction, so that every number but 1 is free for guests and
// nothing of a language's runtime lies between a guest and the end of its lease.
package keeper

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"

	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
)

// Where the keeper's program and its region lie in its own address space.
const (
	LoadAddr mem.Addr = 0x10000000
	Base     mem.Addr = 0x200000000000
	codeOff           = 0x1000
)

// SyscallAt is the address of a syscall instruction in a keeper.
func SyscallAt(c *stub.Code) mem.Addr { return LoadAddr + codeOff + c.At.Single }

// elf wraps the stub's code into the smallest program that the kernel starts.
func elf(c *stub.Code) []byte {
	b := make([]byte, codeOff, codeOff+len(c.Bytes))
	le := binary.LittleEndian
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)  // ET_EXEC
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], uint64(LoadAddr+codeOff+c.At.Entry))
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	ph := b[64:]
	le.PutUint32(ph, 1)     // PT_LOAD
	le.PutUint32(ph[4:], 5) // read, execute
	le.PutUint64(ph[16:], uint64(LoadAddr))
	le.PutUint64(ph[24:], uint64(LoadAddr))
	size := uint64(codeOff + len(c.Bytes))
	le.PutUint64(ph[32:], size)
	le.PutUint64(ph[40:], size)
	le.PutUint64(ph[48:], mem.PageSize)
	le.PutUint32(ph[56:], 0x6474e551) // PT_GNU_STACK: not executable
	le.PutUint32(ph[60:], 6)
	return append(b, c.Bytes...)
}

// Start makes a keeper in fresh namespaces. Inside, uid and gid 0 are the keeper's and 1 the guest's; outside they are base and
// base+1, which nobody else has. It waits in the stub's entry until the agent gives it its work.
func Start(c *stub.Code, base uint32) (*os.Process, error) {
	prog := elf(c)
	f, err := kern.Memfd("mosix-keeper", uint64(len(prog)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.WriteAt(prog, 0); err != nil {
		return nil, fmt.Errorf("write the keeper's program: %w", err)
	}
	// A program that is still open for writing cannot be executed.
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("open the keeper's program: %w", err)
	}
	defer ro.Close()
	f.Close()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(base), Size: 1}, {ContainerID: 1, HostID: int(base) + 1, Size: 1}}
	p, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", ro.Fd()), []string{"mosix-keeper"}, &os.ProcAttr{
		Env: []string{},
		Sys: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
				syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
			UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			Credential: &syscall.Credential{Uid: 0, Gid: 0},
			Setsid:     true,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start a keeper in namespaces of its own: %w; mosixctl check tells what this kernel lacks", err)
	}
	if err := kern.Ordinary(p.Pid); err != nil { // it and its guest compete as programs do, whatever precedence this agent has
		_ = p.Kill()
		_, _ = p.Wait()
		return nil, fmt.Errorf("set the priority of a keeper: %w", err)
	}
	return p, nil
}
