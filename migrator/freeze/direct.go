package freeze

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"mosix/internal/procfs"
)

// ReadsDirectly reports whether process pid has a file open past the page cache (O_DIRECT). Such a read looks the memory up first,
// and the disk fills it later: a watch of pages that looks in between does not see that.
func ReadsDirectly(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false // it has ended
	}
	for _, fd := range fds {
		if to, err := os.Readlink(dir + "/" + fd.Name()); err != nil || !strings.HasPrefix(to, "/") {
			continue
		}
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd.Name()))
		if i, err := procfs.ParseFDInfo(b); err == nil && i.Flags&syscall.O_DIRECT != 0 {
			return true
		}
	}
	return false
}

// DiskReads is how many bytes process pid has had read from disks, by whatever way; 0 where the kernel does not tell.
func DiskReads(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "read_bytes:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}
