package guest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"mosix/homeproxy"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/stub"
)

// The keeper's region has room where a shadow keeps its record: there stands, for each thread, the last call that was sent
// home, so that an agent which is started later can repeat it by the same name. Seq of 0 marks a free entry.
const (
	noteSize = 32 // thread, restarted call, sequence, notification, undecided, restart block
	maxNotes = (stub.NoticesOff - stub.RecordOff) / noteSize
)

// note writes down a call in flight.
func (g *Guest) note(c *call) {
	b := g.Den.noteOf(c.tid)
	if b == nil {
		return
	}
	var restart uint32
	if c.restart {
		restart = c.nr
	}
	le.PutUint32(b[4:], restart)
	var state uint32
	if c.wish != nil {
		state = unborn
	}
	le.PutUint32(b[24:], state)
	le.PutUint64(b[16:], c.id)
	le.PutUint64(b[8:], uint64(c.seq))
}

// noteTaken writes down that notification nid of a thread was taken and is not decided yet: the kernel tells of it only once.
func (g *Guest) noteTaken(tid id.HomePID, nid uint64) {
	b := g.Den.noteOf(tid)
	if b == nil {
		return
	}
	le.PutUint64(b[8:], uint64(g.seqs[tid]))
	le.PutUint32(b[24:], le.Uint32(b[24:])|undecided)
	le.PutUint64(b[16:], nid)
}

// noteBlock writes down which call the restart block of a thread at home continues.
func (g *Guest) noteBlock(tid id.HomePID, nr uint32) {
	if b := g.Den.noteOf(tid); b != nil {
		le.PutUint32(b[28:], nr)
	}
}

const (
	undecided = 1          // marks an entry whose notification was taken, and nothing sent for it
	unborn    = 2          // … whose call Seq makes somebody: at home perhaps, and not here
	tornOut   = ^uint32(0) // in place of a thread's number: it has ended, and its entry is free
)

// noteOf finds the entry of a thread, or makes one; nil when the notebook is full.
func (d *Den) noteOf(tid id.HomePID) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.notes == nil {
		d.readNotes()
	}
	i, ok := d.notes[tid]
	if !ok {
		if i = len(d.notes) + len(d.free); len(d.free) > 0 {
			i = d.free[len(d.free)-1]
			d.free = d.free[:len(d.free)-1]
		}
		if i >= maxNotes {
			return nil
		}
		d.notes[tid] = i
		b := d.entry(i)
		clear(b[4:])
		le.PutUint32(b, uint32(tid))
	}
	return d.entry(i)
}

// unborn reports whether somebody whom thread tid has made at home is not here yet.
func (d *Den) unborn(tid id.HomePID) bool {
	b := d.noteOf(tid)
	return b != nil && le.Uint32(b[24:])&unborn != 0
}

// bore takes down that nobody is missing.
func (d *Den) bore(tid id.HomePID) {
	if b := d.noteOf(tid); b != nil {
		le.PutUint32(b[24:], le.Uint32(b[24:])&^unborn)
	}
}

// tearOut frees the entry of a thread that has ended.
func (d *Den) tearOut(tid id.HomePID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i, ok := d.notes[tid]; ok {
		le.PutUint32(d.entry(i), tornOut)
		delete(d.notes, tid)
		d.free = append(d.free, i)
	}
}

func (d *Den) entry(i int) []byte {
	at := stub.RecordOff + i*noteSize
	return d.Keeper.B[at : at+noteSize]
}

// readNotes finds out what an earlier agent has written.
func (d *Den) readNotes() {
	d.notes, d.free = map[id.HomePID]int{}, nil
	for i := range maxNotes {
		switch tid := le.Uint32(d.entry(i)); tid {
		case 0:
			return
		case tornOut:
			d.free = append(d.free, i)
		default:
			d.notes[id.HomePID(tid)] = i
		}
	}
}

// Adopt takes up the calls that an earlier agent left unanswered. The guest's threads still wait in them; what they asked stands
// in /proc.
func (g *Guest) Adopt() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lent()
	defer g.decideLast()
	for tid, host := range g.tids {
		b := g.Den.noteOf(tid)
		if b == nil {
			continue
		}
		seq, nid, restart := id.Seq(le.Uint64(b[8:])), le.Uint64(b[16:]), le.Uint32(b[4:])
		g.seqs[tid] = seq
		if nr := le.Uint32(b[28:]); nr != 0 {
			g.restarts[tid] = nr
		}
		if nid == 0 || !kern.NotifValid(g.listener, nid) {
			continue
		}
		nr, args, err := blockedIn(g.PID, host)
		if err != nil {
			return err
		}
		if le.Uint32(b[24:])&undecided != 0 {
			g.decide(kern.Notif{ID: nid, PID: uint32(host), Nr: int32(nr), Args: args})
			continue
		}
		c := &call{tid: tid, host: host, id: nid, nr: nr, seq: seq, started: time.Now()}
		if restart != 0 {
			c.nr, c.restart = restart, true
		}
		row := homeproxy.Lookup(c.nr)
		if wish, ok := g.wishOf(c.nr, args); ok { // home knows what has become of it
			c.wish, c.req = &wish, wish.Request(g.signalState(host).blocked)
			g.births++
			g.calls[tid] = c
			continue
		}
		switch row.Classify(args) {
		case homeproxy.Home:
			c.c = homeproxy.NewCall(c.nr, args)
			c.c.PID = int(g.Process.PID)
			if row.NeedsMask(args) {
				c.mask, c.masked = g.signalState(host).blocked, true
			}
			req, errno, class := c.c.Gather(g)
			if errno != 0 || class != homeproxy.Home {
				return fmt.Errorf("call %s of thread %d cannot be read again", row.Name, tid)
			}
			req.Mask, c.req = c.mask, req
			g.calls[tid] = c
		default:
			g.both(c, row, args)
		}
	}
	return nil
}

// decideLast decides about the call that an earlier agent took last from the filter of this guest, where it died before it wrote down that
// it had. The caller holds mu.
func (g *Guest) decideLast() {
	n := *g.Den.Keeper.Notice(g.member().Listener)
	tid, ours := g.back[int(n.PID)]
	if !ours || n.ID == 0 || !kern.NotifValid(g.listener, n.ID) {
		return
	}
	if b := g.Den.noteOf(tid); b != nil && le.Uint64(b[16:]) == n.ID {
		return
	}
	g.log.Info("a call that an earlier agent had just taken", "process", g.Process, "thread", tid, "call", n.Nr)
	g.decide(n)
}

// blockedIn reads the system call that a thread waits in.
func blockedIn(pid, tid int) (nr uint32, args [6]uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	if err != nil {
		return 0, args, err
	}
	f := strings.Fields(string(b))
	if len(f) < 7 {
		return 0, args, fmt.Errorf("thread %d is in no call: %q", tid, b)
	}
	n, err := strconv.ParseUint(f[0], 10, 32)
	for i := range args {
		args[i], _ = strconv.ParseUint(strings.TrimPrefix(f[i+1], "0x"), 16, 64)
	}
	return uint32(n), args, err
}
