package guest

import (
	"fmt"
	"os"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
)

// files are what this agent knows of the files that a guest maps. An agent that is started later begins anew: it asks for more
// than it would have had to, and makes nothing wrong.
type files struct {
	byWhat map[homeproxy.Mapped]*standIn // those whose content cannot have changed
	bytes  uint64                        // of content that this agent holds for the guest
	views  []mem.Range                   // where the guest may have parts of files; a superset
	viewed bool                          // views is true
}

// maxFiles is how much of files a guest may have mapped here, in bytes: it is this agent that has to pay for it.
const maxFiles = 64 << 20

// standIn is a memfd in place of a file of home.
type standIn struct {
	rw, ro *os.File // ro is what the guest gets
	have   []mem.Range
}

// filling is a call of mmap for which parts of the file are still on their way.
type filling struct {
	in   *standIn
	at   mem.Addr // where the shadow has the file
	need []mem.Range
}

// mapFile maps a file of home: home first, then what is missing of its content, then the guest's own kernel.
func (g *Guest) mapFile(c *call, args [6]uint64) {
	if g.leaving || g.stopping[c.host] { // interrupted just now: the call is made again afterwards
		g.calls[c.tid] = c
		g.finish(c, -abi.ERestartNoInt)
		return
	}
	c.args = args
	g.dispatch(c, homeproxy.Request{Nr: c.nr, Args: args})
}

// mapped takes what home says of a file, or a part of it.
func (g *Guest) mapped(c *call, res homeproxy.Result) {
	if res.Ret < 0 {
		g.finish(c, res.Ret)
		return
	}
	if c.filling == nil {
		m, at, ok := homeproxy.ParseMapped(res.Out)
		if !ok { // no honest home
			g.comeHome(c, "mmap")
			return
		}
		in, err := g.standFor(m)
		if err != nil {
			g.log.Warn("a file of home cannot be stood in for", "process", g.Process, "err", err)
			g.comeHome(c, "mmap")
			return
		}
		start := c.args[5]
		end := min(start+(c.args[1]+mem.PageSize-1)&^(mem.PageSize-1), m.Size)
		f := &filling{in: in, at: at}
		if start < end {
			f.need = mem.Subtract([]mem.Range{{Start: mem.Addr(start), End: mem.Addr(end)}}, in.have)
		}
		if g.files.bytes+mem.Bytes(f.need) > maxFiles {
			g.comeHome(c, "mmap")
			return
		}
		c.filling = f
	} else if !g.filled(c, res) {
		g.comeHome(c, "mmap")
		return
	}
	f := c.filling
	if len(f.need) == 0 {
		c.seq = 0 // nothing of it is with home any more
		go g.install(c)
		return
	}
	if g.leaving || g.stopping[c.host] {
		g.finish(c, -abi.ERestartNoInt)
		return
	}
	r := f.need[0]
	g.dispatch(c, homeproxy.PieceRequest(f.at, uint64(r.Start), min(r.Len(), homeproxy.MaxPiece)))
}

// standFor finds or makes the stand-in of a file.
func (g *Guest) standFor(m homeproxy.Mapped) (*standIn, error) {
	if in := g.files.byWhat[m]; in != nil && m.Stable {
		return in, nil
	}
	rw, ro, err := kern.ReadableMemfd(image.StandInName(image.Object{Dev: m.Dev, Inode: m.Inode}), m.Size)
	if err != nil {
		return nil, err
	}
	in := &standIn{rw: rw, ro: ro}
	if m.Stable {
		if g.files.byWhat == nil {
			g.files.byWhat = map[homeproxy.Mapped]*standIn{}
		}
		g.files.byWhat[m] = in
	}
	return in, nil
}

// filled takes a piece.
func (g *Guest) filled(c *call, res homeproxy.Result) bool {
	f := c.filling
	r := f.need[0]
	n := min(r.Len(), homeproxy.MaxPiece)
	if len(res.Out) != 1 || uint64(len(res.Out[0].Data)) > n {
		return false
	}
	data := res.Out[0].Data
	if _, err := f.in.rw.WriteAt(data, int64(r.Start)); err != nil {
		g.log.Warn("no room for a file that a guest maps", "process", g.Process, "err", err)
		return false
	}
	got := mem.Range{Start: r.Start, End: r.Start + mem.Addr(n)}
	if uint64(len(data)) < n { // it has become shorter: a fault there, as at home
		if err := f.in.rw.Truncate(int64(r.Start) + int64(len(data))); err != nil {
			return false
		}
	}
	f.in.have = mem.Normalize(append(f.in.have, got))
	g.files.bytes += uint64(len(data))
	f.need = mem.Subtract(f.need, []mem.Range{got})
	return true
}

// install puts the stand-in where the guest has the descriptor of the file, and lets the guest's kernel map it. The guest has no
// descriptors of its own: what stands there later is mapped by nobody but us.
func (g *Guest) install(c *call) {
	err := kern.NotifAddFD(g.listener, c.id, c.filling.in.ro, int(int32(c.args[4])))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.files.viewed = false
	if _, kept := g.kept(c.filling.in); !kept {
		c.filling.in.close()
		c.filling.in = nil
	}
	if g.calls[c.tid] != c || c.answer != nil {
		return
	}
	if err != nil {
		g.log.Info("a guest cannot be given a file", "process", g.Process, "err", err)
		g.comeHome(c, "mmap")
		return
	}
	g.forget(c)
	g.proceed(c.id)
}

func (g *Guest) kept(in *standIn) (m homeproxy.Mapped, ok bool) {
	for m, x := range g.files.byWhat {
		if x == in {
			return m, true
		}
	}
	return m, false
}

func (in *standIn) close() {
	in.rw.Close()
	in.ro.Close()
}

func (f *files) close() {
	for _, in := range f.byWhat {
		in.close()
	}
	f.byWhat = nil
}

// remap moves, or changes the length of, memory of the guest's own. Where it is part of a file, the rest of the file is at home.
func (g *Guest) remap(c *call, row *homeproxy.Row, args [6]uint64) {
	old := mem.Range{Start: mem.Addr(args[0]), End: mem.Addr(args[0] + max(args[1], 1))}
	if !g.shows(old) {
		g.proceed(c.id)
		return
	}
	g.comeHome(c, row.Name)
}

// shows reports whether the guest has a part of a file, or of memory that may be shared, in r.
func (g *Guest) shows(r mem.Range) bool {
	for try := 0; ; try++ {
		if try > 0 || !g.files.viewed {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", g.PID))
			if err != nil {
				return false // it ends just now
			}
			as, _ := image.ParseMaps(b, mem.Range{})
			g.files.views, g.files.viewed = nil, true
			for _, a := range as {
				if a.File {
					g.files.views = append(g.files.views, a.Range)
				}
			}
		}
		hit := false
		for _, v := range g.files.views {
			hit = hit || v.Overlaps(r)
		}
		if !hit || try > 0 {
			return hit
		}
	}
}
