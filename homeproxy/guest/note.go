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
	maxNotes = stub.RecordSize / noteSize
)

// note writes down a call in flight.
func (g *Guest) note(c *call) {
	i := g.noteOf(c.tid)
	if i < 0 {
		return
	}
	b := g.Keeper.B[stub.RecordOff+i*noteSize:]
	le.PutUint32(b, uint32(c.tid))
	var restart uint32
	if c.restart {
		restart = c.nr
	}
	le.PutUint32(b[4:], restart)
	le.PutUint32(b[24:], 0)
	le.PutUint64(b[16:], c.id)
	le.PutUint64(b[8:], uint64(c.seq))
}

// noteTaken writes down that notification nid of a thread was taken and is not decided yet: the kernel tells of it only once.
func (g *Guest) noteTaken(tid id.HomePID, nid uint64) {
	i := g.noteOf(tid)
	if i < 0 {
		return
	}
	b := g.Keeper.B[stub.RecordOff+i*noteSize:]
	le.PutUint64(b[8:], uint64(g.seqs[tid]))
	le.PutUint32(b[24:], undecided)
	le.PutUint64(b[16:], nid)
	le.PutUint32(b, uint32(tid))
}

// noteBlock writes down which call the restart block of a thread at home continues.
func (g *Guest) noteBlock(tid id.HomePID, nr uint32) {
	if i := g.noteOf(tid); i >= 0 {
		b := g.Keeper.B[stub.RecordOff+i*noteSize:]
		le.PutUint32(b[28:], nr)
	}
}

// undecided marks an entry whose notification was taken, and nothing sent for it.
const undecided = 1

// noteOf finds the entry of a thread, or a free one.
func (g *Guest) noteOf(tid id.HomePID) int {
	for i := range maxNotes {
		b := g.Keeper.B[stub.RecordOff+i*noteSize:]
		if t := id.HomePID(le.Uint32(b)); t == tid || t == 0 {
			return i
		}
	}
	return -1
}

// Adopt takes up the calls that an earlier agent left unanswered. The guest's threads still wait in them; what they asked stands
// in /proc.
func (g *Guest) Adopt() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range maxNotes {
		b := g.Keeper.B[stub.RecordOff+i*noteSize:]
		tid := id.HomePID(le.Uint32(b))
		if tid == 0 {
			break
		}
		seq, nid, restart := id.Seq(le.Uint64(b[8:])), le.Uint64(b[16:]), le.Uint32(b[4:])
		g.seqs[tid] = seq
		if nr := le.Uint32(b[28:]); nr != 0 {
			g.restarts[tid] = nr
		}
		host, alive := g.tids[tid]
		if !alive || !kern.NotifValid(g.Listener, nid) {
			continue
		}
		nr, args, err := blockedIn(g.PID, host)
		if err != nil {
			return err
		}
		if le.Uint32(b[24:]) == undecided {
			g.decide(kern.Notif{ID: nid, PID: uint32(host), Nr: int32(nr), Args: args})
			continue
		}
		c := &call{tid: tid, host: host, id: nid, nr: nr, seq: seq, started: time.Now()}
		if restart != 0 {
			c.nr, c.restart = restart, true
		}
		switch row := homeproxy.Lookup(c.nr); row.Classify(args) {
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
