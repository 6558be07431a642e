package procfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// recorded are the files of a process that Record copies, where they exist and can be read. What a program keeps to itself
// (its environment, its memory) is not among them.
var recorded = []string{
	"stat", "status", "comm", "cmdline", "maps", "smaps", "auxv", "cgroup", "limits", "timers", "mountinfo",
	"uid_map", "gid_map", "personality", "schedstat",
}

// Record copies what /proc says about process pid into folder dir/PID, so that FS{Root: dir} reads it again: for a report
// about a process that was judged wrongly, and for tests.
func Record(fs FS, pid int, dir string) error {
	root := FS{Root: dir}
	if _, err := fs.Stat(pid); err != nil {
		return err
	}
	put := func(b []byte, elem ...string) error {
		path := root.Path(pid, elem...)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, b, 0o644)
	}
	copyFile := func(elem ...string) error {
		b, err := fs.Read(pid, elem...)
		if err != nil {
			return nil // not there, or not ours to read: a recording without it
		}
		return put(b, elem...)
	}
	copyLink := func(elem ...string) error {
		l, err := fs.Link(pid, elem...)
		if err != nil {
			return nil
		}
		return put([]byte(l+"\n"), elem...)
	}
	for _, name := range recorded {
		if err := copyFile(name); err != nil {
			return err
		}
	}
	if uid, gid, err := fs.Owner(pid); err == nil {
		if err := put(fmt.Appendf(nil, "%d %d\n", uid, gid), "owner"); err != nil {
			return err
		}
	}
	for _, kind := range []string{"user", "pid", "mnt", "net", "ipc", "uts", "time", "cgroup", "pid_for_children", "time_for_children"} {
		if err := copyLink("ns", kind); err != nil {
			return err
		}
		self := filepath.Join(dir, "self", "ns", kind)
		if l, err := os.Readlink(filepath.Join(fs.Root, "self", "ns", kind)); err == nil {
			if err := os.MkdirAll(filepath.Dir(self), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(self, []byte(l+"\n"), 0o644); err != nil {
				return err
			}
		}
	}
	if err := copyLink("exe"); err != nil {
		return err
	}
	tids, err := fs.Tasks(pid)
	if err != nil {
		return err
	}
	for _, tid := range tids {
		for _, name := range []string{"stat", "status", "comm", "children"} {
			if err := copyFile("task", strconv.Itoa(tid), name); err != nil {
				return err
			}
		}
	}
	fds, err := fs.FDs(pid)
	if err != nil {
		return nil // another user's
	}
	for _, fd := range fds {
		n := strconv.Itoa(fd.N)
		if err := put([]byte(fd.Link+"\n"), "fd", n); err != nil {
			return err
		}
		if err := copyFile("fdinfo", n); err != nil {
			return err
		}
	}
	return nil
}
