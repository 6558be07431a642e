package shadow

import (
	"bytes"
	"fmt"
	"os"

	"mosix/homeproxy"
	"mosix/internal/image"
	"mosix/internal/kern"
)

// A process may have /proc/self/maps open when it moves, and read on. What it would read here is the shadow's memory: it comes
// home to read. Away, it can open no such file.

// The same holds for memory that it shares, such as a memfd, and has a descriptor of: what it writes through the mapping is elsewhere.

// lookForViews finds out whether there is such a descriptor.
func (s *Shadow) lookForViews() {
	defer s.wg.Done()
	es, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID))
	if err != nil {
		return
	}
	plain := true
	for _, e := range es {
		path := fmt.Sprintf("/proc/%d/fd/%s", s.PID, e.Name())
		link, err := os.Readlink(path)
		if err == nil && homeproxy.ShowsMemory([]byte(link), s.PID) || s.common[fileAt(path)] {
			plain = false
		}
		if err == nil && homeproxy.ViewOf(link, s.PID) != homeproxy.NoView {
			s.tells.Store(true)
		}
	}
	s.plain.Store(plain)
}

// file names a file, or memory that has a descriptor.
type file struct{ major, minor, inode uint64 }

func fileAt(path string) file {
	st, err := kern.Cached(path)
	if path == "" || err != nil {
		return file{}
	}
	return file{uint64(st.DevMajor), uint64(st.DevMinor), st.Inode}
}

// findFiles lists what the process shares and may write, which are no files with a name, for with these it does not move; and the
// files of which it has parts, private ones or such as it only reads, and watches these. as says which is which, the shadow's own areas
// where they are.
func (s *Shadow) findFiles(as []image.Area) {
	s.common, s.mapped = map[file]bool{}, map[file]bool{}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", s.PID))
	if err != nil {
		return // it ends just now
	}
	shared, seen := map[image.Object]bool{}, map[image.Object]bool{}
	for _, a := range as {
		if a.File && a.Shared && !a.Fixed() {
			shared[a.Object] = true
		}
	}
	has, _ := image.ParseMaps(b, s.Region.Range())
	for _, a := range has {
		if !a.File || seen[a.Object] {
			continue
		}
		seen[a.Object] = true
		path := fmt.Sprintf("/proc/%d/map_files/%x-%x", s.PID, uint64(a.Start), uint64(a.End))
		if f := fileAt(path); f == (file{}) {
			continue
		} else if shared[a.Object] {
			s.common[f] = true
		} else {
			s.mapped[f] = true
			s.watchFile(path)
		}
	}
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

// cutOff is the way to the file that a call is about to make shorter by its name; none for other calls.
func (s *Shadow) cutOff(row *homeproxy.Row, req homeproxy.Request) string {
	const truncates, here = 0x200, -100
	at := here
	switch {
	case row.Name == "truncate", row.Name == "creat", row.Name == "open" && req.Args[1]&truncates != 0:
	case row.Name == "openat" && req.Args[2]&truncates != 0:
		at = int(int32(req.Args[0]))
	default:
		return ""
	}
	if len(req.In) == 0 || len(req.In[0].Data) < 2 {
		return ""
	}
	name := string(bytes.TrimRight(req.In[0].Data, "\x00"))
	switch {
	case name[0] == '/':
		return fmt.Sprintf("/proc/%d/root%s", s.PID, name)
	case at == here:
		return fmt.Sprintf("/proc/%d/cwd/%s", s.PID, name)
	}
	return fmt.Sprintf("/proc/%d/fd/%d/%s", s.PID, at, name)
}

func (s *Shadow) isView(fd int) bool {
	path := fmt.Sprintf("/proc/%d/fd/%d", s.PID, fd)
	link, err := os.Readlink(path)
	return err == nil && homeproxy.ShowsMemory([]byte(link), s.PID) || s.common[fileAt(path)]
}

// viewsMemory reports whether a call reads, writes or changes the process's own memory by a descriptor, or a file of which it has parts
// mapped: what it has not written itself there is what is in the file.
func (s *Shadow) viewsMemory(req homeproxy.Request) bool {
	row := homeproxy.Lookup(req.Nr)
	if row.WritesFile() && len(s.mapped) > 0 {
		for i, a := range row.Args {
			if a.Kind == homeproxy.FD && s.mapped[fileAt(fmt.Sprintf("/proc/%d/fd/%d", s.PID, int32(req.Args[i])))] {
				return true
			}
		}
	}
	if len(s.mapped) > 0 && s.mapped[fileAt(s.cutOff(row, req))] {
		return true
	}
	if s.plain.Load() || !row.MovesData() && !row.Reshapes() {
		return false
	}
	if row.Name == "sendmsg" || row.Name == "sendmmsg" { // it may have such a descriptor with it
		return len(s.common) > 0
	}
	for i, a := range row.Args {
		if a.Kind == homeproxy.FD && s.isView(int(int32(req.Args[i]))) {
			return true
		}
	}
	return false
}
