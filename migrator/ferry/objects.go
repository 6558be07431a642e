package ferry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/mem"
	"mosix/internal/pack"
	"mosix/internal/wire"
)

// objects is what the source of a move knows of the objects, files above all, of which its process has parts.
type objects struct {
	pid  int
	mem  *os.File
	seen sights
}

// sights are the objects of which the processes of a family have parts.
type sights map[image.Object]*object

type object struct {
	f     *os.File // nil: it cannot be opened, and is read through the process
	size  uint64
	sent  []mem.Range // in the object, ascending
	stamp stamp       // when the first of it was about to be sent
	whole bool        // it has been sent before, and what is zero now may not have been
}

// stamp tells whether a file has been changed.
type stamp struct {
	size, mtime, ctime int64
	at                 time.Time
}

func stampOf(f *os.File) stamp {
	now := time.Now()
	fi, err := f.Stat()
	if err != nil {
		return stamp{at: now}
	}
	st := fi.Sys().(*syscall.Stat_t)
	return stamp{fi.Size(), st.Mtim.Nano(), st.Ctim.Nano(), now}
}

// settled is how long a file must have been left alone for its times to tell whether it is still the same: a file system may count
// them in ticks, or seconds.
const settled = 2 * time.Second

// changed reports whether the file may have been changed since s was taken of it.
func (s stamp) changed(now stamp) bool {
	return s.size != now.size || s.mtime != now.mtime || s.ctime != now.ctime || max(s.mtime, s.ctime) > s.at.Add(-settled).UnixNano()
}

// refresh looks, when all processes are held, whether what was sent of files is still what is in them. Where it may not be, all of
// that is sent again.
func (o *objects) refresh(s *Stream, e id.Epoch, as []image.Area) error {
	for _, a := range as {
		x := o.seen[a.Object]
		if !a.File || x == nil || x.f == nil || len(x.sent) == 0 || a.Shared && !a.Fixed() {
			continue
		}
		now := stampOf(x.f)
		if !x.stamp.changed(now) {
			continue
		}
		x.sent, x.stamp, x.whole = nil, now, true
		x.stamp.at = now.at.Add(settled) // nobody of the family writes it any more: it is read once more only
		if size := uint64(now.size); size != x.size {
			x.size = size
			if err := s.Send(wire.File, e, encodeFile(a.Object, x.size, 0, nil)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ErrWritten says that somebody has written a file of which the process has parts, while it was about to leave.
var ErrWritten = errors.New("a file that it has mapped was written just now: try again")

// touched reports whether a file of which something was sent has changed since it was looked at last: by then its home hears
// of what is written later.
func (s sights) touched() bool {
	for _, x := range s {
		if x.f == nil || len(x.sent) == 0 {
			continue
		}
		if now := stampOf(x.f); x.stamp.size != now.size || x.stamp.mtime != now.mtime || x.stamp.ctime != now.ctime {
			return true
		}
	}
	return false
}

// Frames of an object: of its content as much as fits, zeros left out.
const (
	objectFrame = 1 << 20
	objectPiece = 64 << 10
)

// announce tells the target of each object, before any area is laid out, how long it is.
func (o *objects) announce(s *Stream, e id.Epoch, as []image.Area) error {
	for _, a := range as {
		if !a.File {
			continue
		}
		x := o.seen[a.Object]
		if x == nil {
			if x = o.open(a); x == nil {
				continue // it has changed since it was looked at: there is another look
			}
			o.seen[a.Object] = x
		} else if x.f != nil || x.size >= a.Offset+a.Len() {
			continue
		}
		if x.f == nil {
			x.size = max(x.size, a.Offset+a.Len())
		}
		if err := s.Send(wire.File, e, encodeFile(a.Object, x.size, 0, nil)); err != nil {
			return err
		}
	}
	return nil
}

func (o *objects) open(a image.Area) *object {
	name := strconv.FormatUint(uint64(a.Start), 16) + "-" + strconv.FormatUint(uint64(a.End), 16)
	x := &object{}
	// Looked at before it is opened: to open a device may do something.
	path := fmt.Sprintf("/proc/%d/map_files/%s", o.pid, name)
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || !st.Mode().IsRegular() {
		return x
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		x.f, x.size, x.stamp = f, uint64(st.Size()), stampOf(f)
	}
	return x
}

// send sends what the areas as show of their objects and the target has not got yet. Memory that the process shares and may
// write is not sent so: it travels with the pages.
func (o *objects) send(s *Stream, e id.Epoch, as []image.Area) (sent uint64, err error) {
	for _, a := range as {
		if !a.File || a.Shared && !a.Fixed() {
			continue
		}
		x := o.seen[a.Object]
		if x == nil {
			continue
		}
		in := mem.Range{Start: mem.Addr(a.Offset), End: min(mem.Addr(a.Offset+a.Len()), mem.Addr(x.size))}
		if in.Len() == 0 {
			continue
		}
		for _, r := range mem.Subtract([]mem.Range{in}, x.sent) {
			n, err := o.sendPart(s, e, a, x, r)
			if err != nil {
				return sent, err
			}
			sent += n
		}
		x.sent = mem.Normalize(append(x.sent, in))
	}
	return sent, nil
}

func (o *objects) sendPart(s *Stream, e id.Epoch, a image.Area, x *object, r mem.Range) (sent uint64, err error) {
	buf := make([]byte, min(objectFrame, r.Len()))
	for at := r.Start; at < r.End; {
		b := buf[:min(uint64(len(buf)), uint64(r.End-at))]
		n := len(b)
		if x.f != nil {
			n, _ = x.f.ReadAt(b, int64(at)) // what ends early has become shorter: a fault there, as at home
		} else {
			o.readPages(b, a.Start+(at-mem.Addr(a.Offset)))
		}
		for i := 0; i < n; i += objectPiece {
			piece := b[i:min(i+objectPiece, n)]
			if allZero(piece) && !x.whole {
				continue
			}
			if err := s.Send(wire.File, e, encodeFile(a.Object, x.size, uint64(at)+uint64(i), piece)); err != nil {
				return sent, err
			}
			sent += uint64(len(piece))
		}
		at += mem.Addr(len(b))
	}
	return sent, nil
}

// readPages reads memory of the process, as far as it is there.
func (o *objects) readPages(b []byte, at mem.Addr) {
	for i := 0; i < len(b); i += mem.PageSize {
		p := b[i:min(i+mem.PageSize, len(b))]
		if n, err := o.mem.ReadAt(p, int64(at)+int64(i)); err != nil || n != len(p) {
			clear(p)
		}
	}
}

func (s sights) close() {
	for _, x := range s {
		if x.f != nil {
			x.f.Close()
		}
	}
}

var zeros [objectPiece]byte

func allZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

func encodeFile(o image.Object, size, off uint64, data []byte) []byte {
	w := &pack.Writer{B: make([]byte, 0, 40+len(data))}
	w.U64(o.Dev)
	w.U64(o.Inode)
	w.U64(size)
	w.U64(off)
	w.B = append(w.B, data...)
	return w.B
}

func decodeFile(b []byte) (o image.Object, size, off uint64, data []byte, err error) {
	r := pack.NewReader(b)
	o = image.Object{Dev: r.U64(), Inode: r.U64()}
	size, off = r.U64(), r.U64()
	return o, size, off, r.Rest(), r.Err()
}

// adviser knows what a process has advised for its areas.
type adviser struct{ known []image.Area }

// quickPages is how much memory a process may have in use for a look at its advice to cost next to nothing: some 10 ms go for
// each GiB in small pages.
const quickPages = 64 << 20 / mem.PageSize

// advise gives the areas as, with what is known of them. While the process is held, it is looked at again only where that is quick: what a
// large process says between the last round and the freeze is not heard. While it runs, the areas are those of the look at its advice:
// what it has mapped between two looks would be an area of which nothing is known, and is made without being reserved.
func (v *adviser) advise(as []image.Area, pid int, exclude mem.Range, held, home bool) []image.Area {
	if !held || v.known == nil || resident(pid) <= quickPages {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid)); err == nil {
			v.known, _ = image.ParseMaps(b, exclude)
			if !home {
				image.AtHome(v.known)
			}
			if !held && len(v.known) > 0 && image.CheckAreas(v.known) == nil {
				return slices.Clone(v.known)
			}
		}
	}
	image.Advise(as, v.known)
	return as
}

// resident is how many pages a process has in use.
func resident(pid int) (pages int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	_, _ = fmt.Sscanf(string(b), "%d %d", new(int), &pages)
	return pages
}
