package sampler

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"mosix/internal/procfs"
)

// maxKept bounds the descriptors that stay open. To read an open file costs a fifth of opening it anew, but each
// keeps some kernel memory of a process that may have ended.
const maxKept = 600

// files reads /proc by plain system calls: package os would enter each file into the poller, which costs as much as the
// reading does.
type files struct {
	root   string
	counts bool // the kernel has schedstat
	dir    *os.File
	open   int // descriptors that are kept
	buf    []byte
}

// kept is a descriptor that stays open; its zero value is none.
type kept struct {
	fd   int
	open bool
}

// pids lists the processes, in ascending order.
func (f *files) pids() ([]int, error) {
	if f.dir == nil {
		d, err := os.Open(f.root)
		if err != nil {
			return nil, err
		}
		f.dir = d
	}
	if _, err := f.dir.Seek(0, 0); err != nil {
		return nil, err
	}
	return numbers(f.dir)
}

// tids lists the threads of a process. Of one that had a single thread no directory is read: the number of links of its
// task directory tells whether that has changed.
func (f *files) tids(pid int, single bool) ([]int, error) {
	dir := f.path(pid, "/task")
	if single {
		var st syscall.Stat_t
		if err := syscall.Stat(dir, &st); err != nil {
			return nil, err
		}
		if st.Nlink == 3 {
			return []int{pid}, nil
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return numbers(d)
}

// numbers lists the entries of a directory that are numbers, in ascending order.
func numbers(d *os.File) ([]int, error) {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	out := make([]int, 0, len(names))
	for _, n := range names {
		if n[0] >= '0' && n[0] <= '9' {
			if v, err := strconv.Atoi(n); err == nil {
				out = append(out, v)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

func (f *files) path(pid int, rest string) string { return f.root + "/" + strconv.Itoa(pid) + rest }

// read returns the contents of a file, valid until the next read.
func (f *files) read(path string) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer syscall.Close(fd)
	return f.pread(fd)
}

// again returns the contents of a file whose descriptor is kept, or is kept from now on if there is room.
func (f *files) again(k *kept, path string) ([]byte, error) {
	if !k.open {
		if f.open >= maxKept {
			return f.read(path)
		}
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		f.open++
		*k = kept{fd, true}
	}
	b, err := f.pread(k.fd)
	if err != nil || len(b) == 0 {
		f.drop(k)
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

func (f *files) pread(fd int) ([]byte, error) {
	n, err := syscall.Pread(fd, f.buf, 0)
	return f.buf[:max(n, 0)], err
}

// drop closes a kept descriptor.
func (f *files) drop(k *kept) {
	if k.open {
		syscall.Close(k.fd)
		f.open--
		*k = kept{}
	}
}

// info reads the stat file of a process; with k its descriptor is kept.
func (f *files) info(pid int, k *kept) (procfs.SchedProc, error) {
	var b []byte
	var err error
	if k == nil {
		b, err = f.read(f.path(pid, "/stat"))
	} else {
		b, err = f.again(k, f.path(pid, "/stat"))
	}
	if err != nil {
		return procfs.SchedProc{}, err
	}
	return procfs.ParseSchedProc(b)
}

// counters reads what the kernel counts for a thread. The descriptor is kept if the process is followed.
func (f *files) counters(pid, tid int, k *kept, follow bool) (procfs.SchedStat, error) {
	var b []byte
	var err error
	switch {
	case follow:
		b, err = f.again(k, f.path(pid, "/task/"+strconv.Itoa(tid)+"/schedstat"))
	case pid == tid:
		b, err = f.read(f.path(pid, "/schedstat"))
	default:
		b, err = f.read(f.path(pid, "/task/"+strconv.Itoa(tid)+"/schedstat"))
	}
	if err != nil {
		return procfs.SchedStat{}, err
	}
	return procfs.ParseSchedStat(b)
}

// guess stands in for counters: a thread that is ready when it is looked at is taken to have been so since the last look.
func (f *files) guess(pid, tid int, last procfs.SchedStat, elapsed time.Duration) (procfs.SchedStat, error) {
	b, err := f.read(f.path(pid, "/task/"+strconv.Itoa(tid)+"/stat"))
	if err != nil {
		return last, err
	}
	p, err := procfs.ParseSchedProc(b)
	if err == nil && p.State == 'R' {
		last.Wait += max(0, elapsed)
	}
	return last, err
}

// uptime reads the time since boot, on the clock that start times of processes are given in.
func (f *files) uptime() (time.Duration, error) {
	b, err := f.read(f.root + "/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := bytes.Cut(b, []byte(" "))
	v, err := strconv.ParseFloat(string(first), 64)
	if err != nil {
		return 0, fmt.Errorf("parse uptime %q: %w", b, err)
	}
	return time.Duration(v * float64(time.Second)), nil
}

func (f *files) close() {
	if f.dir != nil {
		f.dir.Close()
		f.dir = nil
	}
}
