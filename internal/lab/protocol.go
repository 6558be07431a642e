package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// packetLimit bounds one message between the lab and an init, in bytes. A socket takes about 200 KiB at once.
const packetLimit = 192 << 10

// What an init can be asked for. One connection carries one request; an exec's connection lives as long as its program.
const (
	opInfo      = "info"
	opExec      = "exec"
	opAgent     = "agent" // start, stop or kill, in Action
	opLink      = "link"
	opStatus    = "status" // GET of a path at the agent's control socket
	opHostPID   = "host-pid"
	agentStart  = "start"
	agentStop   = "stop"
	agentKill   = "kill"
	exitNoEntry = 127 // as the shell has it: no such program
	exitNoExec  = 126 // there, and cannot be executed
)

// request is what the lab asks of an init.
type request struct {
	Op     string       `json:"op"`
	Exec   *execRequest `json:"exec,omitempty"`
	Action string       `json:"action,omitempty"`
	Env    []string     `json:"env,omitempty"`
	Peer   string       `json:"peer,omitempty"` // address
	Cut    bool         `json:"cut,omitempty"`
	Path   string       `json:"path,omitempty"`
	PID    int          `json:"pid,omitempty"` // in the node
	Signal int          `json:"signal,omitempty"`
}

// execRequest starts a program. Without TTY its standard descriptors come along with the message.
type execRequest struct {
	Args []string `json:"args"` // none: the user's shell
	User string   `json:"user"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"` // default: the user's home
	TTY  bool     `json:"tty,omitempty"`
	Rows uint16   `json:"rows,omitempty"`
	Cols uint16   `json:"cols,omitempty"`
}

// reply is what an init answers. An exec gets two: when the program has started and when it has ended.
type reply struct {
	Error string    `json:"error,omitempty"`
	Code  int       `json:"code,omitempty"` // exit code that goes with Error, or of the program that ended
	PID   int       `json:"pid,omitempty"`  // in the node; on the machine it is the message's credential
	Ended bool      `json:"ended,omitempty"`
	Info  *initInfo `json:"info,omitempty"`
	Body  []byte    `json:"body,omitempty"`
	HTTP  int       `json:"http,omitempty"`
}

// initInfo is what an init knows of its node.
type initInfo struct {
	Agent agentInfo `json:"agent"`
	Cut   []string  `json:"cut,omitempty"` // addresses of nodes that are cut off from this one
}

// agentInfo is the state of a node's agent.
type agentInfo struct {
	Running bool   `json:"running"`
	PID     int    `json:"pid,omitempty"`   // in the node
	Ended   string `json:"ended,omitempty"` // how the last one ended: "exit status 1", "signal: killed"
	Asked   bool   `json:"asked,omitempty"` // the last one ended because the lab said so
}

// conn carries requests and replies, one to a packet, with descriptors and a process number that the kernel translates
// between PID namespaces.
type conn struct{ *net.UnixConn }

// listen makes a socket that inits answer on.
func listen(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

func dial(path string) (conn, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return conn{}, err
	}
	raw, err := c.SyscallConn()
	if err == nil {
		var serr error
		err = raw.Control(func(fd uintptr) { serr = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1) })
		err = errors.Join(err, serr)
	}
	if err != nil {
		_ = c.Close()
		return conn{}, err
	}
	return conn{c}, nil
}

// send sends v with files. A pid above 0 goes along as a credential, which the receiver reads as its own namespace counts.
func (c conn) send(v any, pid int, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > packetLimit {
		return fmt.Errorf("%d bytes of arguments and environment are more than the lab passes on (%d)", len(b), packetLimit)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			raw, err := f.SyscallConn()
			if err != nil {
				return err
			}
			// The number stays good after Control: the caller holds f until send returns.
			if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
				return err
			}
		}
		oob = append(oob, syscall.UnixRights(fds...)...)
	}
	if pid > 0 {
		oob = append(oob, syscall.UnixCredentials(&syscall.Ucred{Pid: int32(pid)})...)
	}
	_, _, err = c.WriteMsgUnix(b, oob, nil)
	return err
}

// receive reads one message into v. At the end of the connection it returns io.EOF.
func (c conn) receive(v any) (files []*os.File, pid int, err error) {
	b := make([]byte, packetLimit)
	oob := make([]byte, syscall.CmsgSpace(3*4)+syscall.CmsgSpace(syscall.SizeofUcred))
	n, on, _, _, err := c.ReadMsgUnix(b, oob)
	if n == 0 && (err == nil || errors.Is(err, io.EOF)) {
		// Linux looks for a message first and for the end afterwards (unix_dgram_recvmsg): when both come in between, the end is
		// reported, and the message is still there.
		n, on, _, _, err = c.ReadMsgUnix(b, oob)
	}
	if err != nil {
		return nil, 0, err
	}
	if n == 0 {
		return nil, 0, io.EOF
	}
	msgs, err := syscall.ParseSocketControlMessage(oob[:on])
	if err != nil {
		return nil, 0, err
	}
	for _, m := range msgs {
		if cred, err := syscall.ParseUnixCredentials(&m); err == nil {
			pid = int(cred.Pid)
		}
		if fds, err := syscall.ParseUnixRights(&m); err == nil {
			for _, fd := range fds {
				// Where a file can be polled, it will be: a terminal's reader must be able to give up. What goes on to a
				// program keeps the mode that its owner gave it.
				files = append(files, os.NewFile(uintptr(fd), "passed"))
			}
		}
	}
	return files, pid, json.Unmarshal(b[:n], v)
}
