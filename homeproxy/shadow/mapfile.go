package shadow

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
)

// mapFile makes the shadow map the file that the guest wants to map: where the shadow has room, never over anything, and not
// for writing, since it is the guest that will write its own pages. On the way home the areas are made from it. A request for a
// piece of such a file is answered by this agent.
func (s *Shadow) mapFile(sl *slot, j *job, req homeproxy.Request) {
	if at, off, n, ok := homeproxy.PieceOf(req); ok {
		j.plan = homeproxy.Plan{Nr: abi.SysGetpid}
		j.then = func(int64) { go s.piece(sl.tid, j.seq, at, off, n) }
		return
	}
	a, prot := req.Args, req.Args[2]
	if a[3]&abi.MapPrivate != 0 {
		prot &^= abi.ProtWrite
	}
	j.plan = homeproxy.Plan{Nr: abi.SysMmap, Args: [6]uint64{uint64(s.roomFor(a[1])), a[1], prot, a[3] & (abi.MapShared | abi.MapPrivate | abi.MapNoReserve), a[4], a[5]}}
	j.then = func(ret int64) {
		if abi.IsErr(ret) {
			s.answer(sl, j, ret)
			return
		}
		fd := int(int32(a[4]))
		go s.describe(sl.tid, j.seq, fd, mem.Range{Start: mem.Addr(ret), End: (mem.Addr(ret) + mem.Addr(a[1])).PageUp()})
	}
}

// filesBase is where a shadow begins to map the files of its guest: far from where the guest's kernel would put anything, for at the
// addresses of the guest's own memory calls are made in place.
const filesBase mem.Addr = 0x200000000000

// roomFor proposes a place for n bytes of a file. The kernel takes another where that is not free.
func (s *Shadow) roomFor(n uint64) mem.Addr {
	if s.files == 0 {
		s.files = filesBase
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", s.PID)) // a process without any has ended
		as, _ := image.ParseMaps(b, s.Region.Range())
		for _, a := range as {
			if a.End > s.files && a.Start < filesBase*2 {
				s.files = a.End
			}
		}
	}
	at := s.files
	s.files = (s.files + mem.Addr(n)).PageUp() + mem.PageSize
	if s.files > filesBase*2 || s.files < at { // begin anew with the next
		s.files = 0
	}
	return at
}

// describe tells the host which file the shadow has mapped at r from descriptor fd, or that it can be mapped at home only.
func (s *Shadow) describe(tid id.HomePID, seq id.Seq, fd int, r mem.Range) {
	m, at, err := s.mappedAt(fd, r)
	if err != nil || at != r.Start {
		if err != nil {
			s.log.Debug("a file that can be mapped at home only", "process", s.Process, "fd", fd, "why", err)
		}
		calls := []stub.Call{{Nr: abi.SysMunmap, Args: [6]uint64{uint64(r.Start), r.Len()}}}
		if err := s.Do(calls, func() {}); err != nil {
			s.log.Debug("a mapping of a shadow stays until it comes home", "process", s.Process, "at", r, "err", err)
		}
	}
	res := homeproxy.Result{Ret: int64(r.Start), AtHome: err != nil}
	if err == nil {
		s.watchFile(fmt.Sprintf("/proc/%d/fd/%d", s.PID, fd)) // before any of it is read
		res.Out = []homeproxy.Blob{m.Blob(at)}
		is := fileAt(fmt.Sprintf("/proc/%d/fd/%d", s.PID, fd))
		s.mu.Lock()
		if is != (file{}) { // it is closed by now: nobody can write to it by that descriptor
			s.mapped[is] = true
		}
		s.mu.Unlock()
	}
	s.result(tid, seq, res)
}

func (s *Shadow) result(tid id.HomePID, seq id.Seq, res homeproxy.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out != nil && !s.closed {
		s.out.Result(tid, seq, res)
	}
}

// settledFor is how long a file must have been left alone for its times to tell whether it is still the same.
const settledFor = 2 * time.Second

// mappedAt says what the shadow has at r, and where else it has the same, if it has.
func (s *Shadow) mappedAt(fd int, r mem.Range) (m homeproxy.Mapped, at mem.Addr, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", s.PID))
	if err != nil {
		return m, 0, err
	}
	as, _ := image.ParseMaps(b, s.Region.Range())
	a := image.Find(as, r.Start)
	if a == nil || !a.File || a.End < r.End {
		return m, 0, errors.New("it is no file")
	}
	f, err := s.openArea(*a)
	if err != nil {
		return m, 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return m, 0, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	part := a.At(r)
	end := mem.Addr(part.Offset + r.Len())
	system := st.Uid == 0 && st.Mode&0o022 == 0
	access, err := accessMode(s.PID, fd)
	switch {
	case err != nil:
		return m, 0, err
	case access != syscall.O_RDONLY:
		return m, 0, errors.New("its descriptor can write it")
	case a.Shared && !system:
		return m, 0, errors.New("it is shared, and others than root can write it")
	}
	changed := [2]uint64{uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano())}
	now := uint64(kern.Now(kern.ClockRealtime))
	m = homeproxy.Mapped{Dev: a.Object.Dev, Inode: a.Object.Inode, Size: uint64(fi.Size()), Changed: changed,
		Stable: max(changed[0], changed[1])+uint64(settledFor) < now}
	at = r.Start
	for _, c := range as {
		if c.Object != a.Object || c.Shared != a.Shared || c.Range == a.Range || a.Range != r {
			continue
		}
		if mem.Addr(c.Offset) <= mem.Addr(part.Offset) && mem.Addr(c.Offset+c.Len()) >= end {
			at = c.Start
		}
	}
	return m, at, nil
}

// Kinds of file systems whose files are no plain files.
const (
	fsFUSE  = 0x65735546
	fsHuge  = 0x958458f6
	fsProc  = 0x9fa0
	fsSysfs = 0x62656572
)

// openArea opens the file of an area, if it is a plain one.
func (s *Shadow) openArea(a image.Area) (*os.File, error) {
	path := fmt.Sprintf("/proc/%d/map_files/%x-%x", s.PID, uint64(a.Start), uint64(a.End))
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return nil, err
	}
	switch {
	case !fi.Mode().IsRegular():
		return nil, errors.New("it is a device")
	case fs.Type == fsFUSE, fs.Type == fsHuge, fs.Type == fsProc, fs.Type == fsSysfs:
		return nil, fmt.Errorf("it lies in a file system of type %#x", fs.Type)
	}
	return os.Open(path)
}

// accessMode reads how descriptor fd was opened.
func accessMode(pid, fd int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return 0, err
	}
	var pos int64
	var flags int
	if _, err := fmt.Sscanf(string(b), "pos:\t%d\nflags:\t%o", &pos, &flags); err != nil {
		return 0, err
	}
	return flags & syscall.O_ACCMODE, nil
}

// piece answers a request for n bytes, at off, of the file that the shadow has at at.
func (s *Shadow) piece(tid id.HomePID, seq id.Seq, at mem.Addr, off, n uint64) {
	b, err := s.readPiece(at, off, n)
	if err != nil {
		s.log.Warn("a file that a guest has mapped cannot be read", "process", s.Process, "at", at, "err", err)
		s.result(tid, seq, homeproxy.Result{Ret: -int64(kern.EFAULT)})
		return
	}
	s.result(tid, seq, homeproxy.Result{Ret: int64(len(b)), Out: []homeproxy.Blob{{Addr: at, Data: b}}})
}

func (s *Shadow) readPiece(at mem.Addr, off, n uint64) ([]byte, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", s.PID))
	if err != nil {
		return nil, err
	}
	as, _ := image.ParseMaps(maps, s.Region.Range())
	a := image.Find(as, at)
	if a == nil || !a.File {
		return nil, errors.New("it is not mapped")
	}
	f, err := s.openArea(*a)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	k, err := f.ReadAt(b, int64(off))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:k], nil
}
