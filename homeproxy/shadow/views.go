package shadow

import (
	"bytes"
	"fmt"
	"os"

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
	plain := true
	for _, e := range es {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", s.PID, e.Name()))
		if err == nil && homeproxy.ShowsMemory([]byte(link), s.PID) {
			plain = false
		}
		if err == nil && homeproxy.ViewOf(link, s.PID) != homeproxy.NoView {
			s.tells.Store(true)
		}
	}
	s.plain.Store(plain)
}

// opens notes that the process may be about to open a file that tells how much memory it uses.
func (s *Shadow) opens(req homeproxy.Request) {
	if s.tells.Load() || !homeproxy.Lookup(req.Nr).TouchesProc {
		return
	}
	for _, b := range req.In {
		if bytes.Contains(b.Data, []byte("stat")) {
			s.tells.Store(true)
		}
	}
}

// viewOf tells whether a call has read from such a file.
func (s *Shadow) viewOf(row *homeproxy.Row, j *job, ret int64) homeproxy.View {
	if ret <= 0 || !s.tells.Load() || row.Name != "read" && row.Name != "pread64" {
		return homeproxy.NoView
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.PID, int32(j.args[0])))
	if err != nil {
		return homeproxy.NoView
	}
	return homeproxy.ViewOf(link, s.PID)
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
