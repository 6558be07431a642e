package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// maxConnsPerUser bounds what one user can take of the agent's descriptors. Root is not bounded.
const maxConnsPerUser = 64

// Listener accepts connections on the control socket and asks the kernel who is at the other end of each.
type Listener struct {
	net.Listener

	mu    sync.Mutex
	conns map[uint32]int // open, by user
}

// Listen makes the control socket at path, open to every user of the machine (what each may do is decided per request), in a
// directory that only the agent's user can write. A socket that a dead agent left is replaced; one that answers is not.
func Listen(path string) (*Listener, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket %s: open it to all users: %w", path, err)
	}
	return &Listener{Listener: l, conns: map[uint32]int{}}, nil
}

// makeDir makes dir so that everybody may enter it, whatever the umask says; one that exists is left as its owner has it.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

func removeStale(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file there that is not a socket; remove it, or choose another run_dir")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return errors.New("another agent answers there; stop it first, or choose another run_dir")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("find out whether another agent answers there: %w", err)
	}
	return os.Remove(path)
}

// Accept returns the next connection whose other end is known and within its limit.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a, err := peer(c.(*net.UnixConn))
		if err != nil || !l.enter(a.UID) {
			c.Close()
			continue
		}
		return &conn{Conn: c, asker: a, leave: sync.OnceFunc(func() { l.leave(a.UID) })}, nil
	}
}

func (l *Listener) enter(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uid != 0 && l.conns[uid] >= maxConnsPerUser {
		return false
	}
	l.conns[uid]++
	return true
}

func (l *Listener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[uid]--; l.conns[uid] == 0 {
		delete(l.conns, uid)
	}
}

// conn is a connection that knows its asker.
type conn struct {
	net.Conn
	asker Asker
	leave func()
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// peer asks the kernel who connected.
func peer(c *net.UnixConn) (Asker, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return Asker{}, err
	}
	var a Asker
	var failed error
	err = rc.Control(func(fd uintptr) {
		cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		a = Asker{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid}
		a.Groups, failed = peerGroups(fd)
	})
	if err != nil {
		return Asker{}, err
	}
	return a, failed
}
