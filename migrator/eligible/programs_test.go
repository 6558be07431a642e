package eligible

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Programs that people compute with can move: nothing that an interpreter or a runtime does by itself is a reason.
func TestOrdinaryPrograms(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	goProgram := filepath.Join(victimDir, "goprogram")
	if err := os.WriteFile(goProgram, self, 0o755); err != nil {
		t.Fatal(err)
	}
	local, err := LocalTarget("here")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"/usr/bin/python3", "-c", "import sys, threading, json, re\nprint('up', flush=True)\nsys.stdin.read()"},
		{"/usr/bin/perl", "-e", "$| = 1; print \"up\\n\"; <STDIN>"},
		{"/usr/bin/awk", "BEGIN { print \"up\"; fflush(); getline }"},
		{"/bin/bash", "-c", "echo up; read x"},
		{"/bin/sh", "-c", "echo up; read x"},
		{goProgram},
	} {
		t.Run(filepath.Base(args[0]), func(t *testing.T) {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Dir = "/"
			cmd.Env = []string{"LANG=C.UTF-8", "PATH=/usr/bin:/bin", asProgram + "=1"}
			if os.Getuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: victimUID, Gid: victimUID}}
			}
			in, _ := cmd.StdinPipe()
			out, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Skip("not installed: ", err)
			}
			defer func() { in.Close(); _, _ = io.Copy(io.Discard, out); _ = cmd.Wait() }()
			said := ""
			for b := make([]byte, 512); !strings.Contains(said, "up\n"); {
				n, err := out.Read(b)
				said += string(b[:n])
				if err != nil {
					t.Fatalf("%q, %v", said, err)
				}
			}
			for _, thorough := range []bool{false, true} {
				wantWords(t, Judge(gather(t, cmd.Process.Pid, thorough), ordinary(), local))
			}
		})
	}
}

// asProgram, in the environment, makes the test's own binary the Go program above.
const asProgram = "ELIGIBLE_PROGRAM"

func ordinaryGoProgram() {
	_, _ = os.Stdout.WriteString("up\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A file system that a program serves, with one file, and that stops answering: who looks at a process that has that file
// mapped must not wait for it.
func TestDeadFileServer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	path := build(t)
	point := filepath.Join(victimDir, "fuse")
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	dev, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("needs FUSE: ", err)
	}
	opts := "fd=" + strconv.Itoa(dev) + ",rootmode=40000,user_id=0,group_id=0,allow_other"
	if err := syscall.Mount("victim", point, "fuse.victim", syscall.MS_NOSUID|syscall.MS_NODEV, opts); err != nil {
		_ = syscall.Close(dev)
		t.Skip("needs FUSE: ", err)
	}
	var mute atomic.Bool
	served := make(chan error, 1)
	go func() { served <- serveFUSE(dev, &mute) }()
	t.Cleanup(func() {
		_ = syscall.Unmount(point, syscall.MNT_DETACH)
		if err := <-served; !errors.Is(err, syscall.ENODEV) && !errors.Is(err, syscall.ECONNABORTED) { // either says: not mounted any more
			t.Error("the file server ended: ", err)
		}
		_ = syscall.Close(dev)
	})

	v := start(t, false, path, "file-readonly-system", filepath.Join(point, "file"))
	mute.Store(true)
	defer mute.Store(false) // the victim's end is answered
	for _, thorough := range []bool{false, true} {
		f := gather(t, v.pid, thorough) // if it waited, the test would run out of time
		wantWords(t, Judge(f, ordinary(), nil), FUSEMapping)
	}
	// So it is when the process cannot see the mount any more.
	if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	f := gather(t, v.pid, true)
	if f.PID != v.pid {
		t.Error("no facts")
	}
	for _, a := range f.Areas {
		if strings.HasSuffix(a.Name, "/file") && a.Device {
			t.Error("the file is taken for a device")
		}
	}
}

// serveFUSE answers just what a program needs to map the one file, and while it is mute, nothing.
func serveFUSE(dev int, mute *atomic.Bool) error {
	const (
		lookup, forget, getattr, open, read, release, flush, initialize = 1, 2, 3, 14, 15, 18, 25, 26
		root, file                                                      = 1, 2
	)
	le := binary.LittleEndian
	attr := func(node uint64) []byte {
		b := make([]byte, 88)
		le.PutUint64(b, node)
		le.PutUint64(b[8:], 4096)
		mode := uint32(syscall.S_IFREG | 0o644)
		if node == root {
			mode = syscall.S_IFDIR | 0o755
		}
		le.PutUint32(b[60:], mode)
		le.PutUint32(b[64:], 1)
		return b
	}
	buf := make([]byte, 128<<10)
	for {
		n, err := syscall.Read(dev, buf)
		if err != nil {
			if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EINTR) {
				continue
			}
			return err
		}
		if n < 40 {
			continue
		}
		if mute.Load() {
			continue
		}
		op, unique, node := le.Uint32(buf[4:]), le.Uint64(buf[8:]), le.Uint64(buf[16:])
		var out []byte
		errno := int32(0)
		switch op {
		case initialize:
			out = make([]byte, 64)
			le.PutUint32(out, 7)
			le.PutUint32(out[4:], 23)
			le.PutUint32(out[8:], 0)
			le.PutUint32(out[20:], 4096)
		case lookup: // no attribute is valid for any time: every look asks again
			out = make([]byte, 40)
			le.PutUint64(out, file)
			out = append(out, attr(file)...)
		case getattr:
			out = append(make([]byte, 16), attr(node)...)
		case open:
			out = make([]byte, 16)
		case read:
			out = make([]byte, 4096)
		case flush, release:
		case forget:
			continue
		default:
			errno = -int32(syscall.ENOSYS)
		}
		reply := make([]byte, 16, 16+len(out))
		le.PutUint32(reply, uint32(16+len(out)))
		le.PutUint32(reply[4:], uint32(errno))
		le.PutUint64(reply[8:], unique)
		if _, err := syscall.Write(dev, append(reply, out...)); err != nil && !errors.Is(err, syscall.ENOENT) {
			return err
		}
	}
}
