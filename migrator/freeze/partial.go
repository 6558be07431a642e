package freeze

import (
	"encoding/binary"
	"fmt"
	"os"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/tracer"
)

// Partial notes which of the held threads a stop has caught in the middle of a transfer that a program may rely on to come whole: a
// write to a pipe, a socket or a terminal, sendfile to anything, a receive with MSG_WAITALL or of many messages. The kernel ends such a call with what is
// done; away it goes on behind that. Where the process stays after all it ends so, as after any stop.
func Partial(p *tracer.Process) (some bool) {
	for _, t := range p.Held() {
		t.Begun = begun(t)
		if r := &t.Regs; r.OrigRAX == abi.SysRecvmmsg && Shortened(int64(r.RAX), r.Args()) {
			_, _ = Forgive(p.Pidfd, int(int32(r.RDI))) // nothing is to be forgiven where it is closed by now
		}
		some = some || t.Begun > 0
	}
	return some
}

// Shortened reports whether recvmmsg with args, which returns ret, was ended after the first of its messages.
func Shortened(ret int64, args [6]uint64) bool { return ret > 0 && uint64(ret) < args[2] }

// Forgive takes from socket fd of the process behind pidfd what the kernel has noted there when a stop has ended recvmmsg after the first of
// its messages: the code of the restart, which the next call would return as an error (net/socket.c, do_recvmmsg). It returns
// an error of the socket's own that it has met instead.
func Forgive(pidfd *os.File, fd int) (errno kern.Errno, err error) {
	f, err := kern.PidfdGetfd(pidfd, fd, "socket")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if errno, err = kern.PendingError(f); err != nil || abi.IsRestart(-int64(errno)) {
		return 0, err
	}
	return errno, nil
}

func begun(t *tracer.Thread) uint64 {
	r := &t.Regs
	done := int64(r.RAX)
	if r.OrigRAX == abi.NoCall || done <= 0 || len(t.Stash) > 0 {
		return 0
	}
	args := r.Args()
	whole := args[2]
	const sysWrite, sysWritev, sysSendfile, sysSendto, sysRecvfrom, sysSendmsg, sysRecvmsg, sysRecvmmsg, sysSendmmsg = 1, 20, 40, 44, 45, 46, 47, 299, 307
	const waitall, waitForOne = 0x100, 0x10000
	switch r.OrigRAX {
	case sysWrite, sysSendto, sysSendmmsg:
	case sysSendfile:
		whole = args[3]
	case sysRecvmmsg:
		if args[3]&waitForOne != 0 || args[4] != 0 { // with a timeout it may have ended by itself
			return 0
		}
	case sysWritev:
		whole = iovecs(t.Proc, mem.Addr(args[1]), args[2])
	case sysSendmsg:
		whole = message(t.Proc, mem.Addr(args[1]))
	case sysRecvfrom:
		if args[3]&waitall == 0 {
			return 0
		}
	case sysRecvmsg:
		if whole = message(t.Proc, mem.Addr(args[1])); args[2]&waitall == 0 {
			return 0
		}
	default:
		return 0
	}
	if uint64(done) >= whole || whole >= 1<<63 || r.OrigRAX != sysSendfile && !waitsForRoom(t.Proc.PID, int32(args[0])) {
		return 0
	}
	return uint64(done)
}

// waitsForRoom reports whether what a descriptor leads to takes data only when it has room: a pipe, a socket, a terminal. A file takes
// all, or has none for the rest.
func waitsForRoom(pid int, fd int32) bool {
	f, err := kern.Cached(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	if err != nil {
		return false
	}
	const kinds, fifo, char, socket = 0xf000, 0x1000, 0x2000, 0xc000
	k := f.Mode & kinds
	return k == fifo || k == char || k == socket
}

// iovecs is how many bytes n struct iovec at a name together, 0 where they cannot be read.
func iovecs(p *tracer.Process, a mem.Addr, n uint64) (sum uint64) {
	const size, most = 16, 1024
	if n > most {
		return 0
	}
	b := make([]byte, n*size)
	if got, err := p.ReadMemory(a, b); err != nil || got != len(b) {
		return 0
	}
	for ; len(b) > 0; b = b[size:] {
		sum += binary.LittleEndian.Uint64(b[8:])
	}
	return sum
}

// message is how many bytes the struct msghdr at a has room for.
func message(p *tracer.Process, a mem.Addr) uint64 {
	var b [56]byte
	if got, err := p.ReadMemory(a, b[:]); err != nil || got != len(b) {
		return 0
	}
	return iovecs(p, mem.Addr(binary.LittleEndian.Uint64(b[16:])), binary.LittleEndian.Uint64(b[24:]))
}
