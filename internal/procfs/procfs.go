// Package procfs reads /proc. Its one invariant: reading never disturbs the process that is read; nothing here opens a file
// whose opening has an effect, and every parser takes bytes, so that a recorded /proc tests it.
//
// Reading and parsing are two functions: FS.Stat reads, ParseStat parses. A recorded /proc is a plain folder with the same
// names; a link is a file that holds the link's target, and who owns a process's files stands in PID/owner.
package procfs

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// FS is a mounted, or recorded, /proc.
type FS struct{ Root string }

// Default is the /proc of this machine.
var Default = FS{Root: "/proc"}

// ErrGone says that the process has ended, or never was.
var ErrGone = errors.New("there is no such process")

// Path joins a process number and names below it: Path(4711, "task", "4712", "stat").
func (fs FS) Path(pid int, elem ...string) string {
	return filepath.Join(append([]string{fs.Root, strconv.Itoa(pid)}, elem...)...)
}

// Live reports whether fs is a kernel's, and not a recording.
func (fs FS) Live() bool {
	const procSuperMagic = 0x9fa0
	var st syscall.Statfs_t
	return syscall.Statfs(fs.Root, &st) == nil && st.Type == procSuperMagic
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 32<<10); return &b }}

// WithFile reads path whole and calls f with its content, which f must not keep. It spares the allocations of os.ReadFile:
// a scan of the machine reads thousands of small files.
func WithFile(path string, f func([]byte) error) error {
	fd, err := openRead(path)
	if err != nil {
		return err
	}
	bp := buffers.Get().(*[]byte)
	b := (*bp)[:0]
	defer func() {
		if cap(b) <= 4<<20 {
			*bp = b[:0]
		}
		buffers.Put(bp)
	}()
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := syscall.Read(fd, b[len(b):cap(b)])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			_ = syscall.Close(fd)
			return &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			break
		}
		b = b[:len(b)+n]
	}
	_ = syscall.Close(fd)
	return f(b)
}

func openRead(path string) (int, error) {
	for {
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}

// Read returns the content of a file of process pid. The error is ErrGone when the process is no more.
func (fs FS) Read(pid int, elem ...string) ([]byte, error) {
	var out []byte
	err := fs.with(pid, func(b []byte) error { out = append(out, b...); return nil }, elem...)
	return out, err
}

func (fs FS) with(pid int, f func([]byte) error, elem ...string) error {
	path := fs.Path(pid, elem...)
	if err := WithFile(path, f); err != nil {
		return fs.gone(pid, err)
	}
	return nil
}

// gone turns the errors that a dead process gives into ErrGone. A file that this kernel does not have, or that a kernel
// thread or a zombie does not have, stays the error that it is.
func (fs FS) gone(pid int, err error) error {
	if !errors.Is(err, syscall.ESRCH) && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	if _, e := os.Lstat(fs.Path(pid)); e == nil {
		return err
	}
	return fmt.Errorf("process %d: %w", pid, ErrGone)
}

func read[T any](fs FS, pid int, parse func([]byte) (T, error), elem ...string) (v T, err error) {
	err = fs.with(pid, func(b []byte) error {
		var e error
		if v, e = parse(b); e != nil {
			e = fmt.Errorf("%s: %w", fs.Path(pid, elem...), e)
		}
		return e
	}, elem...)
	return v, err
}

// Link reads a link of process pid, such as exe, cwd or fd/3, without following it.
func (fs FS) Link(pid int, elem ...string) (string, error) {
	path := fs.Path(pid, elem...)
	s, err := os.Readlink(path)
	if errors.Is(err, syscall.EINVAL) { // a recording
		b, e := os.ReadFile(path)
		return strings.TrimSuffix(string(b), "\n"), e
	}
	if err != nil {
		return "", fs.gone(pid, err)
	}
	return s, nil
}

func numbers(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	out := make([]int, 0, len(names))
	for _, s := range names {
		if n, ok := number(s); ok {
			out = append(out, n)
		}
	}
	sort.Ints(out)
	return out, err
}

func number(s string) (int, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// PIDs lists the processes, ascending.
func (fs FS) PIDs() ([]int, error) { return numbers(fs.Root) }

// Tasks lists the threads of process pid, ascending.
func (fs FS) Tasks(pid int) ([]int, error) {
	t, err := numbers(fs.Path(pid, "task"))
	if err != nil {
		return nil, fs.gone(pid, err)
	}
	return t, nil
}

// Owner tells who owns the files of process pid in /proc: its effective user, or root for a process that is not dumpable.
func (fs FS) Owner(pid int) (uid, gid uint32, err error) {
	if !fs.Live() {
		b, err := fs.Read(pid, "owner")
		if err != nil {
			return 0, 0, err
		}
		n, err := ParseInts(b)
		if err != nil || len(n) != 2 {
			return 0, 0, fmt.Errorf("%s: want two numbers", fs.Path(pid, "owner"))
		}
		return uint32(n[0]), uint32(n[1]), nil
	}
	// Not the folder itself: that one always belongs to the effective user.
	st, err := os.Lstat(fs.Path(pid, "maps"))
	if err != nil {
		return 0, 0, fs.gone(pid, err)
	}
	s := st.Sys().(*syscall.Stat_t)
	return s.Uid, s.Gid, nil
}

// Stat reads /proc/PID/stat.
func (fs FS) Stat(pid int) (Stat, error) { return read(fs, pid, ParseStat, "stat") }

// TaskStat reads the same of one thread.
func (fs FS) TaskStat(pid, tid int) (Stat, error) {
	return read(fs, pid, ParseStat, "task", strconv.Itoa(tid), "stat")
}

// Status reads /proc/PID/status.
func (fs FS) Status(pid int) (Status, error) { return read(fs, pid, ParseStatus, "status") }

// TaskStatus reads the same of one thread.
func (fs FS) TaskStatus(pid, tid int) (Status, error) {
	return read(fs, pid, ParseStatus, "task", strconv.Itoa(tid), "status")
}

// Maps reads /proc/PID/maps.
func (fs FS) Maps(pid int) ([]Area, error) { return read(fs, pid, ParseMaps, "maps") }

// Smaps reads /proc/PID/smaps. The kernel walks every page table for it: about 10 ms for each GiB in small pages.
func (fs FS) Smaps(pid int) ([]Smap, error) { return read(fs, pid, ParseSmaps, "smaps") }

// Auxv reads /proc/PID/auxv.
func (fs FS) Auxv(pid int) (Auxv, error) { return read(fs, pid, ParseAuxv, "auxv") }

// Cmdline reads /proc/PID/cmdline; it is empty for kernel threads and zombies.
func (fs FS) Cmdline(pid int) ([]string, error) { return read(fs, pid, ParseCmdline, "cmdline") }

// Comm reads the name of process pid: at most 15 bytes.
func (fs FS) Comm(pid int) (string, error) { return read(fs, pid, ParseComm, "comm") }

// Cgroups reads /proc/PID/cgroup.
func (fs FS) Cgroups(pid int) ([]Cgroup, error) { return read(fs, pid, ParseCgroups, "cgroup") }

// Limits reads /proc/PID/limits.
func (fs FS) Limits(pid int) (Limits, error) { return read(fs, pid, ParseLimits, "limits") }

// Timers reads the POSIX timers of process pid.
func (fs FS) Timers(pid int) ([]Timer, error) { return read(fs, pid, ParseTimers, "timers") }

// Mounts reads the mounts that process pid sees.
func (fs FS) Mounts(pid int) ([]Mount, error) { return read(fs, pid, ParseMounts, "mountinfo") }

// UIDMap and GIDMap read how the ids of the user namespace of process pid appear here.
func (fs FS) UIDMap(pid int) ([]IDRange, error) { return read(fs, pid, ParseIDMap, "uid_map") }

// GIDMap is UIDMap for groups.
func (fs FS) GIDMap(pid int) ([]IDRange, error) { return read(fs, pid, ParseIDMap, "gid_map") }

// Personality reads the execution domain of process pid.
func (fs FS) Personality(pid int) (uint32, error) {
	return read(fs, pid, ParsePersonality, "personality")
}

// Children lists the children that thread tid of process pid has made and not yet waited for.
func (fs FS) Children(pid, tid int) ([]int, error) {
	return read(fs, pid, ParseInts, "task", strconv.Itoa(tid), "children")
}

// FDNumbers lists the descriptors of process pid, ascending.
func (fs FS) FDNumbers(pid int) ([]int, error) {
	ns, err := numbers(fs.Path(pid, "fd"))
	if err != nil {
		return nil, fs.gone(pid, err)
	}
	return ns, nil
}

// FDs lists the descriptors of process pid, ascending, with what they point to. Nothing is opened.
func (fs FS) FDs(pid int) ([]FD, error) {
	ns, err := fs.FDNumbers(pid)
	if err != nil {
		return nil, err
	}
	out := make([]FD, 0, len(ns))
	for _, n := range ns {
		l, err := fs.Link(pid, "fd", strconv.Itoa(n))
		if err != nil {
			if errors.Is(err, ErrGone) {
				return nil, err
			}
			continue // closed since
		}
		out = append(out, FD{N: n, Link: l})
	}
	return out, nil
}

// FDInfo reads /proc/PID/fdinfo/FD.
func (fs FS) FDInfo(pid, fd int) (FDInfo, error) {
	return read(fs, pid, ParseFDInfo, "fdinfo", strconv.Itoa(fd))
}

// Namespaces reads the namespaces of process pid. One that this kernel does not have is 0.
func (fs FS) Namespaces(pid int) (Namespaces, error) {
	n, err := fs.namespaces(func(kind string) (string, error) { return fs.Link(pid, "ns", kind) })
	if err == nil && n.PIDChildren == 0 { // the link is there, and leads nowhere before the first child
		_, err := os.Lstat(filepath.Join(fs.Root, strconv.Itoa(pid), "ns", "pid_for_children"))
		if _, ended := fs.Link(pid, "ns", "pid"); err == nil && ended == nil { // one that ends has no namespaces at all
			n.PIDChildren = NoNamespace
		}
	}
	return n, err
}

// SelfNamespaces reads those of the reader.
func (fs FS) SelfNamespaces() (Namespaces, error) {
	return fs.namespaces(func(kind string) (string, error) {
		path := filepath.Join(fs.Root, "self", "ns", kind)
		s, err := os.Readlink(path)
		if errors.Is(err, syscall.EINVAL) {
			b, e := os.ReadFile(path)
			return strings.TrimSuffix(string(b), "\n"), e
		}
		return s, err
	})
}

func (fs FS) namespaces(link func(kind string) (string, error)) (n Namespaces, err error) {
	for _, e := range []struct {
		kind string
		to   *uint64
	}{
		{"user", &n.User}, {"pid", &n.PID}, {"mnt", &n.Mount}, {"net", &n.Net}, {"ipc", &n.IPC}, {"uts", &n.UTS},
		{"time", &n.Time}, {"cgroup", &n.Cgroup}, {"pid_for_children", &n.PIDChildren}, {"time_for_children", &n.TimeChildren},
	} {
		s, err := link(e.kind)
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return n, err
		}
		kind, ino, err := ParseNSLink(s)
		if err != nil || kind != strings.TrimSuffix(e.kind, "_for_children") {
			return n, fmt.Errorf("namespace link %q is not of kind %s", s, e.kind)
		}
		*e.to = ino
	}
	return n, nil
}

// SysVShm lists the System V shared memory segments of the reader's IPC namespace.
func (fs FS) SysVShm() (segs []ShmSegment, err error) {
	path := filepath.Join(fs.Root, "sysvipc", "shm")
	err = WithFile(path, func(b []byte) error {
		var e error
		segs, e = ParseSysVShm(b)
		return e
	})
	return segs, err
}
