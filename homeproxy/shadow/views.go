package shadow

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
)

// A process may have /proc/self/maps open when it moves, and read on. What it would read here is the shadow's memory: it comes
// home to read. The same holds for memory that it shares, such as a memfd, and has a descriptor of: what it writes through the
// mapping is elsewhere. Such a descriptor may be among those of one thread alone, come over a socket, or be opened by a way whose text
// does not show it: so each new descriptor is looked at, and until one has been seen no call is.

// lookForViews finds out whether there is such a descriptor.
func (s *Shadow) lookForViews() {
	defer s.wg.Done()
	plain := true
	for _, dir := range s.tables() {
		es, err := os.ReadDir(dir)
		if err != nil {
			continue // the thread has ended
		}
		for _, e := range es {
			switch memory, tells := s.shows(dir + "/" + e.Name()); {
			case memory:
				plain = false
			case tells != homeproxy.NoView:
				s.tells.Store(true)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sighted {
		s.plain.Store(plain)
	}
}

// tables are the directories of the process's descriptors: one, or more where threads have tables of their own.
func (s *Shadow) tables() []string {
	out := []string{fmt.Sprintf("/proc/%d/fd", s.PID)}
	for _, tid := range s.Threads() {
		if int(tid) == s.PID {
			continue
		}
		if same, err := kern.SameDescriptors(s.PID, int(tid)); err != nil || !same {
			out = append(out, fmt.Sprintf("/proc/%d/task/%d/fd", s.PID, tid))
		}
	}
	return out
}

// shows reports whether the descriptor at path, in /proc, shows or changes the process's own memory, or else which file it is that tells
// how much of it there is.
func (s *Shadow) shows(path string) (memory bool, tells homeproxy.View) {
	link, err := os.Readlink(path)
	if err != nil {
		return false, homeproxy.NoView
	}
	link = s.inProc(path, link)
	return homeproxy.ShowsMemory([]byte(link), s.PID) || len(s.common) > 0 && s.common[fileAt(path)], homeproxy.ViewOf(link, s.PID)
}

// inProc is link, to which the descriptor at path leads, as it would be if the proc file system in which it lies were mounted at /proc.
func (s *Shadow) inProc(path, link string) string {
	at := strings.LastIndex(link, "/"+strconv.Itoa(s.PID)+"/")
	if strings.HasPrefix(link, "/proc/") || at < 0 {
		return link
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil || fs.Type != fsProc {
		return link
	}
	return "/proc" + link[at:]
}

// fdPath is where /proc shows descriptor fd of thread tid.
func (s *Shadow) fdPath(tid id.HomePID, fd uint64) string {
	return fmt.Sprintf("/proc/%d/task/%d/fd/%d", s.PID, tid, int32(fd))
}

// brought looks at what a call has brought the process in descriptors. The caller holds mu.
func (s *Shadow) brought(tid id.HomePID, nr uint32, ret int64) {
	const open, recvmsg, recvmmsg, openat2, openByHandle, pidfdGetfd = 2, 47, 299, 437, 304, 438
	if ret < 0 || s.tells.Load() && !s.plain.Load() {
		return
	}
	switch nr {
	case recvmsg, recvmmsg: // which ones is in the message
		s.sighted = true
		s.plain.Store(false)
		s.tells.Store(true)
	case open, abi.SysOpenat, openat2, openByHandle, pidfdGetfd:
		memory, tells := s.shows(s.fdPath(tid, uint64(ret)))
		if memory {
			s.sighted = true
			s.plain.Store(false)
		}
		if tells != homeproxy.NoView {
			s.tells.Store(true)
		}
	}
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

// viewOf tells whether a call of thread tid has read from a file that tells how much memory the process uses. Where it has not read all
// of it, all of it and where the call began come with what it has read: what is put in may lie across the boundary.
func (s *Shadow) viewOf(tid id.HomePID, row *homeproxy.Row, j *job, ret int64, out []homeproxy.Blob) (homeproxy.View, []homeproxy.Blob) {
	if ret <= 0 || !s.tells.Load() || !readsPlainly(row) || len(out) != 1 {
		return homeproxy.NoView, out
	}
	path := s.fdPath(tid, j.args[0])
	link, err := os.Readlink(path)
	if err != nil {
		return homeproxy.NoView, out
	}
	link = s.inProc(path, link)
	v := homeproxy.ViewOf(link, s.PID)
	if v == homeproxy.NoView {
		return v, out
	}
	at := int64(j.args[3])
	if row.Name == "read" {
		if at, err = s.offset(tid, j.args[0]); err != nil {
			return v, out
		}
		at -= ret
	}
	whole := out[0].Data
	if at != 0 || ret == int64(j.args[2]) {
		if whole, err = os.ReadFile(link); err != nil {
			return v, out
		}
	} else if v != homeproxy.ViewStat {
		return v, out
	}
	if v.Thread(whole) == int(tid) { // by now it waits; who reads this of itself runs
		whole = homeproxy.Running(v, whole)
	}
	return v, append(out, homeproxy.Blob{Addr: mem.Addr(at), Data: s.withChildren(v, whole)})
}

// withChildren adds to text what children have used away that were waited for.
func (s *Shadow) withChildren(v homeproxy.View, text []byte) []byte {
	if v != homeproxy.ViewStat || s.Children == nil {
		return text
	}
	const tick = 1e7 // ns
	u := s.Children()
	return homeproxy.AddChildTime(text, u.User/tick, u.Sys/tick)
}

// readsPlainly names the calls by which such a file can be read away.
func readsPlainly(row *homeproxy.Row) bool { return row.Name == "read" || row.Name == "pread64" }

// offset is where a descriptor reads next.
func (s *Shadow) offset(tid id.HomePID, fd uint64) (at int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/fdinfo/%d", s.PID, tid, int32(fd)))
	if err == nil {
		_, err = fmt.Sscanf(string(b), "pos:\t%d", &at)
	}
	return at, err
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

// viewsMemory reports whether a call reads, writes or changes the process's own memory by a descriptor, or a file of which it has parts
// mapped: what it has not written itself there is what is in the file.
func (s *Shadow) viewsMemory(tid id.HomePID, req homeproxy.Request) bool {
	row := homeproxy.Lookup(req.Nr)
	if row.WritesFile() && len(s.mapped) > 0 {
		for i, a := range row.Args {
			if a.Kind == homeproxy.FD && s.mapped[fileAt(s.fdPath(tid, req.Args[i]))] {
				return true
			}
		}
	}
	if len(s.mapped) > 0 && s.mapped[fileAt(s.cutOff(row, req))] {
		return true
	}
	if s.plain.Load() && !s.tells.Load() || !row.MovesData() && !row.Reshapes() {
		return false
	}
	if row.Name == "sendmsg" || row.Name == "sendmmsg" { // it may have such a descriptor with it
		return len(s.common) > 0
	}
	for i, a := range row.Args {
		if a.Kind != homeproxy.FD {
			continue
		}
		memory, tells := s.shows(s.fdPath(tid, req.Args[i]))
		if memory || tells != homeproxy.NoView && !readsPlainly(row) {
			return true
		}
	}
	return false
}
