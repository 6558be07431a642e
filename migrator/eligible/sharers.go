package eligible

import (
	"errors"
	iofs "io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"mosix/internal/kern"
	"mosix/internal/procfs"
)

// sharers finds out who else has the process's shared memory, or its whole address space.
func (g *gatherer) sharers() {
	want := g.sharedObjects()
	scan := false
	for _, s := range want {
		scan = scan || s.scan
	}
	if scan {
		g.ownFDs(want)
	}
	if scan || (g.f.Thorough && g.live) {
		pids, err := g.fs.PIDs()
		g.note("the list of processes", err)
		for _, pid := range pids {
			if pid == g.pid || pid == g.agent {
				continue
			}
			if scan {
				g.scanProcess(pid, want)
			}
			if g.f.Thorough {
				g.sameSpace(pid)
			}
		}
	}
	if !g.f.Thorough {
		g.sameSpace(g.f.Stat.PPID)
		for _, t := range g.f.Threads {
			kids, err := g.fs.Children(g.pid, t.TID)
			if err != nil {
				continue // a kernel without CONFIG_PROC_CHILDREN: only the thorough look finds them
			}
			for _, pid := range kids {
				g.sameSpace(pid)
			}
		}
	}
	for _, s := range want {
		g.f.Shared = append(g.f.Shared, s.Shared)
	}
}

// wanted is a shared object that is looked for.
type wanted struct {
	Shared
	maps object // as maps of any process names it
	file object // as statx names it
	scan bool
}

// sharedObjects lists the objects mapped with MAP_SHARED that are memory: not devices, and not what the kernel maps itself.
func (g *gatherer) sharedObjects() []*wanted {
	var out []*wanted
	byObject := map[object]*wanted{}
	for i := range g.f.Areas {
		a := &g.f.Areas[i]
		kind, ok := sharedKind(a)
		if !ok {
			continue
		}
		o := object{a.Dev, a.Inode}
		w := byObject[o]
		if w == nil {
			w = &wanted{Shared: Shared{Kind: kind, Area: a.Area, OwnFD: -1, SystemFile: a.SystemFile}, maps: o, file: o}
			if g.live {
				if st, err := kern.Cached(g.fs.Path(g.pid, "map_files", areaName(a))); err == nil {
					w.file = object{procfs.Dev{Major: st.DevMajor, Minor: st.DevMinor}, st.Inode}
				}
			}
			if kind == SharedSysV {
				w.Attachable = g.attachable(a.Inode)
			}
			byObject[o] = w
			out = append(out, w)
		}
		// A shared mapping of a file that was opened for writing can be made writable at any time; only its flags tell.
		if a.Writable() || a.Flags.Has("mw") && a.Flags.Has("sh") {
			if !w.Writable {
				w.WritableAt = a.Area
			}
			w.Writable = true
		}
	}
	for _, w := range out {
		// A file with a name that is mapped for writing is refused whoever has it; one that only root can change is as good as
		// private. All else depends on the others.
		w.scan = w.Kind != SharedFile || !w.Writable && !w.SystemFile
	}
	return out
}

func areaName(a *Area) string {
	return strconv.FormatUint(uint64(a.Start), 16) + "-" + strconv.FormatUint(uint64(a.End), 16)
}

// sharedKind tells what a shared mapping is made of; false for mappings that are not shared memory.
func sharedKind(a *Area) (Kind, bool) {
	if !a.Shared || a.Inode == 0 && a.Name == "" || deviceName(a) || special(a.Name) {
		return 0, false
	}
	name := a.Name
	if a.Known && a.Nlink > 0 { // whatever it is called, it has a name in a folder
		return SharedFile, true
	}
	switch {
	case name == "/dev/zero (deleted)", name == "/dev/zero", strings.HasPrefix(name, "[anon_shmem:"):
		return SharedAnon, true
	case strings.HasPrefix(name, "/memfd:"):
		return SharedMemfd, true
	case strings.HasPrefix(name, "/SYSV"):
		return SharedSysV, true
	case a.Deleted():
		return SharedUnlinked, true
	}
	return SharedFile, true
}

// attachable reports whether a System V segment can still be attached by others. A segment of another IPC namespace than
// the agent's cannot be looked up and counts as attachable.
func (g *gatherer) attachable(id uint64) bool {
	if g.f.NS.IPC != g.f.OwnNS.IPC {
		return true
	}
	segs, err := g.fs.SysVShm()
	if err != nil {
		return true
	}
	for _, s := range segs {
		if uint64(s.ID) == id {
			return !s.Doomed()
		}
	}
	return false
}

// ownFDs looks for descriptors of the process itself on its shared objects.
func (g *gatherer) ownFDs(want []*wanted) {
	for _, fd := range g.f.FDs {
		g.fd(g.pid, fd.N, func(w *wanted, write bool) {
			if w.OwnFD < 0 && (write || w.Kind != SharedFile) {
				w.OwnFD = fd.N
			}
		}, want, fd.Link)
	}
}

// fd calls found when descriptor n of process pid is one of the wanted objects.
func (g *gatherer) fd(pid, n int, found func(w *wanted, write bool), want []*wanted, link string) {
	var o object
	if g.live {
		st, err := kern.Cached(g.fs.Path(pid, "fd", strconv.Itoa(n)))
		if err != nil {
			return
		}
		o = object{procfs.Dev{Major: st.DevMajor, Minor: st.DevMinor}, st.Inode}
	}
	for _, w := range want {
		if !w.scan || g.live && w.file != o || !g.live && w.Area.Name != link {
			continue
		}
		fi, err := g.fs.FDInfo(pid, n)
		found(w, err != nil || fi.Writable())
	}
}

// scanProcess looks whether process pid has any of the wanted objects.
func (g *gatherer) scanProcess(pid int, want []*wanted) {
	unread := func(err error) bool {
		// An init that not even root may look at belongs to the machine's supervisor and shares memory with nobody.
		return !(pid == 1 && os.Geteuid() == 0) && err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, iofs.ErrNotExist)
	}
	count := func() {
		for _, w := range want {
			if w.scan {
				w.Unscanned++
			}
		}
	}
	mapped := func(b []byte) error {
		return procfs.EachArea(b, func(a procfs.Area, _ []byte) error {
			if a.Inode == 0 {
				return nil
			}
			for _, w := range want {
				if w.scan && w.maps == (object{a.Dev, a.Inode}) {
					g.hold(w, Holder{PID: pid, FD: -1, Write: a.Shared && a.Writable()})
				}
			}
			return nil
		})
	}
	err := procfs.WithFile(g.fs.Path(pid, "maps"), mapped)
	if err == nil {
		// The first thread may have ended: then the files of the process are empty, those of another thread are not.
		if st, e := g.fs.Stat(pid); e == nil && st.State == 'Z' && st.Threads > 1 {
			tids, _ := g.fs.Tasks(pid)
			for _, tid := range tids {
				if tid != pid {
					err = procfs.WithFile(g.fs.Path(pid, "task", strconv.Itoa(tid), "maps"), mapped)
				}
			}
		}
	}
	if unread(err) {
		count()
		return
	}
	needFD := false
	for _, w := range want {
		needFD = needFD || w.scan && w.Kind != SharedAnon && w.Kind != SharedSysV
	}
	if !needFD {
		return
	}
	fds, err := g.fs.FDNumbers(pid)
	if unread(err) && !errors.Is(err, procfs.ErrGone) {
		count()
		return
	}
	for _, n := range fds {
		link := ""
		if !g.live {
			link, _ = g.fs.Link(pid, "fd", strconv.Itoa(n))
		}
		g.fd(pid, n, func(w *wanted, write bool) {
			g.hold(w, Holder{PID: pid, FD: n, Write: write})
		}, want, link)
	}
}

// hold records a holder. Readers of a file with a name do no harm.
func (g *gatherer) hold(w *wanted, h Holder) {
	if w.Kind == SharedFile && !h.Write {
		return
	}
	for _, o := range w.Others {
		if o.PID == h.PID {
			return
		}
	}
	if len(w.Others) < 4 { // people are told no more names
		h.Comm, _ = g.fs.Comm(h.PID)
	}
	w.Others = append(w.Others, h)
}

// sameSpace records process pid when it has the same address space. Only those are compared whose address space was laid
// out by the same exec.
func (g *gatherer) sameSpace(pid int) {
	if !g.live || pid <= 0 || pid == g.pid || g.f.Stat.StartStack == 0 {
		return
	}
	st, err := g.fs.Stat(pid)
	me := &g.f.Stat
	if err != nil || st.State == 'Z' || st.StartStack != me.StartStack || st.StartCode != me.StartCode || st.ArgStart != me.ArgStart {
		return
	}
	same, err := kern.SameMemory(g.pid, pid)
	if errors.Is(err, kern.ENOSYS) {
		// A kernel without kcmp. Two copies of one program have the same sizes only while they are the same copy.
		a, e1 := g.fs.Status(g.pid)
		b, e2 := g.fs.Status(pid)
		same = e1 == nil && e2 == nil && a.VMPeakBytes == b.VMPeakBytes && a.VMHWMBytes == b.VMHWMBytes && a.VMPTEBytes == b.VMPTEBytes && a.VMRSSBytes == b.VMRSSBytes
	} else if err != nil {
		return
	}
	if same {
		g.f.SameSpace = append(g.f.SameSpace, pid)
	}
}
