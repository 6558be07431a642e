package shadow

import (
	"fmt"
	"os"
	"strconv"

	"mosix/homeproxy"
)

// A process may have /proc/self/maps open when it moves, and read on. What it would read here is the shadow's memory: it comes
// home to read. Away, it can open no such file.

// lookForViews finds out whether there is such a descriptor.
func (s *Shadow) lookForViews() {
	defer s.wg.Done()
	es, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID))
	if err != nil {
		return
	}
	for _, e := range es {
		if fd, err := strconv.Atoi(e.Name()); err == nil && s.isView(fd) {
			return
		}
	}
	s.plain.Store(true)
}

func (s *Shadow) isView(fd int) bool {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.PID, fd))
	return err == nil && homeproxy.ShowsMemory([]byte(link), s.PID)
}

// viewsMemory reports whether a call reads, or writes, the process's own memory by a descriptor.
func (s *Shadow) viewsMemory(req homeproxy.Request) bool {
	row := homeproxy.Lookup(req.Nr)
	if s.plain.Load() || !row.MovesData() {
		return false
	}
	for i, a := range row.Args {
		if a.Kind == homeproxy.FD && s.isView(int(int32(req.Args[i]))) {
			return true
		}
	}
	return false
}
