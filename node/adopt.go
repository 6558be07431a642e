package node

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mosix/homeproxy/guest"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/pack"
	"mosix/internal/procfs"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/internal/transport"
	"mosix/internal/wire"
	"mosix/migrator/ferry"
	"mosix/migrator/freeze"
	"mosix/migrator/thaw"
)

// found is a region that an earlier agent left in a process.
type found struct {
	pid int
	uid uint32
	g   *region.Region
}

// adoptTime is the longest that a process may keep the others from being taken up.
const adoptTime = 10 * time.Second

// adopt takes up what an earlier agent of this node left: shadows and guests go on, half-made moves are undone. The regions in
// the processes are the only journal.
func (n *Node) adopt() error {
	pids, err := procfs.Default.PIDs()
	if err != nil {
		return err
	}
	var all []found
	for _, pid := range pids {
		if pid == os.Getpid() {
			continue
		}
		g, err := findRegion(pid, n.code)
		if err != nil {
			n.log.Error("a process holds a shared page that this agent cannot read; it is left alone", "pid", pid, "err", err)
			n.leaveAlone(pid) // it may be a guest
			continue
		}
		if g == nil {
			continue
		}
		st, err := procfs.Default.Status(pid)
		if err != nil {
			g.Close() // it has ended
			continue
		}
		all = append(all, found{pid, st.UID.Real, g})
	}
	agree(all)
	var guests []found
	for _, f := range all {
		if thaw.IsGuest(f.uid) {
			guests = append(guests, f)
		}
	}
	for _, f := range all {
		var err error
		state := f.g.Header().State
		// Keepers and guests are known by their ids. What a region says of itself counts only for the processes of this node's
		// users, and can do no more to them than they can do themselves.
		switch {
		case thaw.IsKeeper(f.uid):
			if err = n.adoptGuest(f, guests); err != nil {
				n.leaveAlone(f.pid)
			}
		case thaw.IsGuest(f.uid):
			continue // with its keeper
		case state == stub.StateKeeper || state == stub.StateGuest:
			err = errors.New("it claims to be a guest, with ids that no guest has")
		}
		if err == nil && !thaw.IsKeeper(f.uid) {
			done := make(chan error, 1)
			go func() { done <- n.adoptOwn(f, state) }()
			select {
			case err = <-done:
			case <-time.After(adoptTime): // a user can make a process that does not stop; the others must not wait for it
				err = fmt.Errorf("it could not be held within %v; it is taken up when it can be", adoptTime)
			}
		}
		if err != nil && !errors.Is(err, tracer.ErrGone) {
			n.log.Error("what an earlier agent left could not be taken up", "pid", f.pid, "state", state, "err", err)
		}
	}
	return nil
}

// adoptOwn takes up a process of this node, which an earlier agent has parked or had begun to.
func (n *Node) adoptOwn(f found, state uint32) error {
	switch state {
	case stub.StatePlanted:
		return n.uproot(f)
	case stub.StateParking:
		return n.unlay(f)
	case stub.StateParked:
		n.log.Info("a process was parked for a move that was not committed: it runs on", "pid", f.pid)
		return ferry.Unpark(f.pid, f.g, n.code)
	case stub.StateCommitted, stub.StateAway, stub.StateReturning:
		return n.adoptShadow(f)
	}
	return nil
}

// findRegion opens the region of a process, if it has one.
func findRegion(pid int, code *stub.Code) (*region.Region, error) {
	b, err := os.ReadFile(procfs.Default.Path(pid, "maps"))
	if err != nil || !strings.Contains(string(b), stub.Name) {
		return nil, nil
	}
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, "/memfd:"+stub.Name) {
			continue
		}
		span, _, _ := strings.Cut(line, " ")
		lo, hi, _ := strings.Cut(span, "-")
		f, err := os.OpenFile(procfs.Default.Path(pid, "map_files", trimZeros(lo)+"-"+trimZeros(hi)), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("open the shared page: %w", err)
		}
		g, err := region.Attach(f, code)
		if err != nil {
			f.Close()
			return nil, err
		}
		at, err := strconv.ParseUint(lo, 16, 64)
		if err != nil || mem.Addr(at) != g.Base {
			g.Close()
			return nil, fmt.Errorf("the shared page lies at %s, its header says %#x", lo, uint64(g.Base))
		}
		return g, nil
	}
	return nil, nil
}

// trimZeros gives an address as the names in map_files have it.
func trimZeros(s string) string {
	if t := strings.TrimLeft(s, "0"); t != "" {
		return t
	}
	return "0"
}

// uproot takes a region out of a process whose move never got as far as parking.
func (n *Node) uproot(f found) error {
	return tracer.Run(func() error {
		p, err := tracer.Open(f.pid, n.code)
		if err != nil {
			return err
		}
		defer p.Close()
		p.Region, p.Unattended = f.g, true
		l, err := p.Seize(f.pid)
		if err != nil {
			return err
		}
		freeze.Mend(p, nil)
		if err := p.Uproot(l); err != nil {
			return err
		}
		return l.Release()
	})
}

// unlay undoes a parking that was not completed: the process runs its program.
func (n *Node) unlay(f found) error {
	fam, err := image.Decode(f.g.Record())
	if err != nil {
		return fmt.Errorf("read the record of a process that was about to be parked: %w", err)
	}
	return tracer.Run(func() error {
		p, err := tracer.Open(f.pid, n.code)
		if err != nil {
			return err
		}
		defer p.Close()
		p.Region = f.g
		if err := p.SeizeAll(); err != nil {
			return err
		}
		freeze.Mend(p, nil)
		if err := errors.Join(thaw.Unlay(p, fam), freeze.Undrain(p, &fam.Members[0])); err != nil {
			return err
		}
		if err := p.Uproot(p.Leader()); err != nil {
			return err
		}
		return p.ReleaseAll()
	})
}

// adoptShadow takes charge of a shadow whose guest runs elsewhere, or may do so.
func (n *Node) adoptShadow(f found) error {
	h := f.g.Header()
	fam, err := image.Decode(f.g.Record())
	if err != nil {
		return fmt.Errorf("read the record of a shadow: %w", err)
	}
	start, err := freeze.StartTime(f.pid)
	if err != nil {
		return err
	}
	if fam.Process.Home != n.name || int(fam.Process.PID) != f.pid || fam.Process.Start != start {
		return fmt.Errorf("the record in process %d is of %v", f.pid, fam.Process)
	}
	// The record may be the guest's last image, from a homecoming that was not decided: the absence is that of the header.
	fam.Epoch = id.Epoch(h.Epoch)
	// The guest may have changed its actions since it left: what the shadow has now says which signals are whose.
	st, err := procfs.Default.Status(f.pid)
	if err != nil {
		return err
	}
	m := &fam.Members[0]
	for s := 1; s < len(m.Actions); s++ {
		bit := uint64(1) << (s - 1)
		switch recorded := freeze.Recorded(s, m.Actions[s]); {
		case uint64(st.SigCgt)&bit != 0 && !recorded:
			m.Actions[s].Handler = 2 // some function
		case uint64(st.SigIgn)&bit != 0:
			m.Actions[s].Handler = 1
		case uint64(st.SigCgt)&bit == 0 && recorded:
			m.Actions[s].Handler = 0
		}
	}
	if err := tracer.Run(func() error {
		p, err := tracer.Open(f.pid, n.code)
		if err != nil {
			return err
		}
		defer p.Close()
		return thaw.Rescue(p, f.g)
	}); err != nil {
		return err
	}
	r := n.record(fam.Process)
	n.mu.Lock()
	r.moves = int(fam.Epoch)
	n.mu.Unlock()
	a, err := n.depart(r, fam, f.g, id.Node(region.String(h.Peer[:])))
	if err != nil {
		return err
	}
	n.log.Info("took up a shadow", "process", fam.Process, "epoch", fam.Epoch, "where", a.where)
	return nil
}

// adoptGuest takes charge of the guests of a keeper.
func (n *Node) adoptGuest(k found, guests []found) error {
	h, kp := k.g.Header(), k.g.Keeper()
	home := id.Node(region.String(h.Home[:]))
	members := map[id.HomePID]int{} // that live, by their numbers at home
	for i := range int(min(kp.Count, stub.MaxMembers)) {
		if m := k.g.Member(i); m.PID != 0 && atomic.LoadUint32(&m.Ended) == 0 {
			members[id.HomePID(m.PID)] = i
		}
	}
	if home == "" {
		return kern.Kill(k.pid, 9) // it was never put to work
	}
	told := n.tellEnds(k.g, home)
	if len(members) == 0 {
		n.goes(func() {
			if told.Wait(); n.ctx.Err() == nil { // a later agent tells what this one could not
				_ = kern.Kill(k.pid, 9)
				k.g.Close()
			}
		})
		return nil
	}
	listeners, err := listenersOf(k, members)
	if err != nil {
		return err
	}
	den := &guest.Den{Keeper: k.g, KeeperID: k.pid, Log: n.log}
	for _, d := range n.conf.Cgroup {
		den.Cgroups = append(den.Cgroups, thaw.CgroupOf(d, id.Process{Home: home, PID: id.HomePID(h.PID)}, k.pid))
	}
	// All are known before the first call is taken: one of a thread that nobody knows would be lost.
	var tenants []*tenant
	for _, body := range guests {
		st, err := procfs.Default.Stat(body.pid)
		if err != nil || st.PPID != k.pid {
			continue
		}
		tids, err := thaw.HostTIDs(body.pid)
		if err != nil {
			continue // it has ended
		}
		for pid, host := range tids {
			i, ok := members[pid]
			if !ok && host == body.pid {
				_ = kern.Kill(body.pid, 9) // half born when the agent died: its parent asks again
			}
			if ok && host == body.pid {
				t, err := n.adoptMember(den, i, home, body, listeners[k.g.Member(i).Listener])
				if err != nil {
					n.log.Error("a guest that an earlier agent left could not be taken up", "pid", body.pid, "home", home, "number", pid, "err", err)
					n.leaveAlone(body.pid)
					continue
				}
				tenants = append(tenants, t)
			}
		}
	}
	if len(tenants) == 0 {
		return kern.Kill(k.pid, 9)
	}
	together := &company{}
	for _, t := range tenants {
		if t.g.Together() {
			together.all = append(together.all, t)
			t.company = together
		}
	}
	for _, t := range tenants {
		for _, parent := range tenants {
			if parent.g.Lends(t.g.Process.PID) {
				t.parent = parent
			}
		}
		t.take(t.g)
		t.g.Begin()
		n.log.Info("took up a guest", "process", t.g.Process, "epoch", t.g.Epoch, "pid", t.g.PID)
	}
	return nil
}

// listenersOf takes the listeners of the members of a keeper over, by their numbers there.
func listenersOf(k found, members map[id.HomePID]int) (map[uint32]*os.File, error) {
	pidfd, err := kern.PidfdOpen(k.pid)
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	out := map[uint32]*os.File{}
	for _, i := range members {
		fd := k.g.Member(i).Listener
		if out[fd] != nil {
			continue
		}
		if out[fd], err = kern.PidfdGetfd(pidfd, int(fd), "seccomp listener"); err != nil {
			for _, f := range out {
				if f != nil {
					f.Close()
				}
			}
			return nil, err
		}
	}
	return out, nil
}

// tellEnds tells home of the guests that have ended while there was no agent.
func (n *Node) tellEnds(k *region.Region, home id.Node) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i := range int(min(k.Keeper().Count, stub.MaxMembers)) {
		m := k.Member(i)
		if m.PID == 0 || atomic.LoadUint32(&m.Ended) == 0 {
			continue
		}
		p := id.Process{Home: home, PID: id.HomePID(m.PID), Start: m.Start}
		wg.Go(func() {
			n.tellEnd(p, id.Epoch(m.Epoch), int(m.Status))
			if n.ctx.Err() == nil {
				m.PID = 0
			}
		})
	}
	return &wg
}

// tellEnd tells a process's home that its guest has ended here while there was no agent.
func (n *Node) tellEnd(p id.Process, e id.Epoch, status int) {
	tell := func() error {
		s, err := n.dial(n.ctx, p.Home, transport.ProtoService)
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Hello(); err != nil {
			return err
		}
		at := uint64(kern.Now(kern.ClockBoottime))
		w := &pack.Writer{}
		w.U32(uint32(p.PID))
		w.U64(p.Start)
		w.U64(at)
		w.U64(0)
		if err := s.Send(wire.Attach, e, w.B); err != nil {
			return err
		}
		for f, err := s.Recv(10 * time.Second); ; f, err = s.Recv(10 * time.Second) {
			switch {
			case err != nil:
				return err
			case f.Type == wire.Kill:
				return nil // it is no more there, too
			case f.Type == wire.Attached:
				l, d := &pack.Writer{}, &pack.Writer{}
				l.U64(at)
				l.U64(at)
				d.U32(uint32(status))
				if err := errors.Join(s.Send(wire.Lease, e, l.B), s.Send(wire.Died, e, d.B)); err != nil {
					return err
				}
			}
		}
	}
	for range 100 {
		err := tell()
		if err == nil {
			return
		}
		n.log.Debug("home was not told of a guest's end", "process", p, "err", err)
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// adoptMember takes charge of one guest, whose calls are not taken yet.
func (n *Node) adoptMember(den *guest.Den, entry int, home id.Node, body found, listener *os.File) (*tenant, error) {
	m := den.Keeper.Member(entry)
	p := id.Process{Home: home, PID: id.HomePID(m.PID), Start: m.Start}
	cmd, _ := procfs.Default.Cmdline(body.pid)
	t := &tenant{n: n, uid: 0, command: strings.Join(cmd, " "), done: make(chan struct{}), held: make(chan struct{}, 1)}
	g, err := guest.New(guest.Options{Process: p, Epoch: id.Epoch(m.Epoch), PID: body.pid, Den: den, Entry: entry, Region: body.g, Listener: listener,
		Clocks: thaw.Clocks{Mono: clockOffset(body.pid, "monotonic"), Boot: clockOffset(body.pid, "boottime"), Real: body.g.Header().RealOffset}, Link: t, Log: n.log, Code: n.code})
	if err != nil {
		return nil, err
	}
	t.g = g
	return t, g.Adopt()
}

// clockOffset reads how far a guest's clock is ahead of this host's, in nanoseconds.
func clockOffset(pid int, clock string) int64 {
	b, err := os.ReadFile(procfs.Default.Path(pid, "timens_offsets"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == clock {
			s, _ := strconv.ParseInt(f[1], 10, 64)
			ns, _ := strconv.ParseInt(f[2], 10, 64)
			return s*1e9 + ns
		}
	}
	return 0
}
