package kern

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Inotify tells which files have been written, or made shorter or longer, by any program but through a mapping.
type Inotify struct{ f *os.File }

// InotifyOpen makes one. Kernels limit how many a user has.
func InotifyOpen() (*Inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w; the limit is fs.inotify.max_user_instances", err)
	}
	return &Inotify{os.NewFile(uintptr(fd), "inotify")}, nil
}

// Watch watches the file at path, and returns its number here: that of the file, by whatever path it is reached.
func (n *Inotify) Watch(path string) (int32, error) {
	var wd int
	err := n.do(func(fd int) (err error) {
		wd, err = unix.InotifyAddWatch(fd, path, unix.IN_MODIFY)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("inotify_add_watch %s: %w; the limit is fs.inotify.max_user_watches", path, err)
	}
	return int32(wd), nil
}

// Forget watches file wd no longer.
func (n *Inotify) Forget(wd int32) {
	_ = n.do(func(fd int) error {
		_, err := unix.InotifyRmWatch(fd, uint32(wd))
		return err
	})
}

// InotifyLost, in place of a number, says that the kernel had more to tell than room to keep it.
const InotifyLost = -1

// Written returns which files were written since it was asked last. It does not wait.
func (n *Inotify) Written() (wds []int32) {
	var b [4096]byte
	for {
		k := 0
		err := n.do(func(fd int) (err error) {
			k, err = unix.Read(fd, b[:])
			return err
		})
		if err != nil || k <= 0 {
			return wds
		}
		for at := 0; at+unix.SizeofInotifyEvent <= k; {
			e := b[at:]
			wd, mask, name := int32(binary.LittleEndian.Uint32(e)), binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[12:])
			if mask&(unix.IN_MODIFY|unix.IN_Q_OVERFLOW) != 0 {
				wds = append(wds, wd)
			}
			at += unix.SizeofInotifyEvent + int(name)
		}
	}
}

// Wait waits until there is something, and lets take see to it: it returns whether it has taken anything.
func (n *Inotify) Wait(take func() bool) error {
	c, err := n.f.SyscallConn()
	if err != nil {
		return err
	}
	return c.Read(func(uintptr) bool { return take() })
}

func (n *Inotify) do(f func(fd int) error) error {
	c, err := n.f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := c.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

// Close ends it.
func (n *Inotify) Close() error { return n.f.Close() }
