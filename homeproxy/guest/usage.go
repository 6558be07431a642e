package guest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"mosix/homeproxy"
	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/procfs"
	"mosix/internal/stub"
	"mosix/migrator/thaw"
)

const (
	sysSetrlimit = 160
	sysGetrusage = 98
	sysTimes     = 100

	tick = 10_000_000 // ns: in what /proc counts
)

// account is what a guest has used of processors: what is asked of home is answered with home's count, and this is added.
type account struct {
	before  image.Usage                // on all hosts before this one
	threads map[id.HomePID]image.Usage // the same, of each thread
	atHome  uint64                     // ns, what home had counted when the process left
	said    map[id.HomePID]image.Usage // by thread, 0 for all: no number is ever less than one that was told before

	// What home has counted, when it was last asked: it counts on only while it makes calls.
	home  map[id.HomePID]homeCount
	calls uint64 // sent home, other than for a count
}

type homeCount struct {
	ns, calls uint64
	at        time.Time
}

// countFresh is for how long a count of home's is good while calls are made there.
const countFresh = 20 * time.Millisecond

// accountRoom is what a guest has of the keeper's scratch.
const accountRoom = stub.ScratchSize / stub.MaxMembers &^ 7

// openAccount begins the account: from the image (without threads for a process that was born here), or as an earlier agent has
// written it into the keeper's scratch, which nobody uses any more and no guest sees. There is room for some threads: with more,
// their clocks go back when an agent is followed by another.
func (g *Guest) openAccount(m *image.Process) {
	g.used = account{threads: map[id.HomePID]image.Usage{}, said: map[id.HomePID]image.Usage{}, home: map[id.HomePID]homeCount{}}
	b := g.Den.Keeper.Scratch()[g.entry*accountRoom:][:accountRoom]
	at := 0
	word := func(v *uint64) {
		if m != nil {
			le.PutUint64(b[at:], *v)
		} else {
			*v = le.Uint64(b[at:])
		}
		at += 8
	}
	entry := func(u *image.Usage) {
		for _, v := range []*uint64{&u.Run, &u.User, &u.Sys, &u.MinFlt, &u.MajFlt, &u.MaxRSS} {
			word(v)
		}
	}
	const entrySize = 7 * 8
	var n uint64
	if m != nil {
		n = min(uint64(len(m.Threads)), uint64(len(b)/entrySize-2))
		g.used.before, g.used.atHome = m.Away, m.CPUTime
		for i := range m.Threads {
			g.used.threads[m.Threads[i].TID] = m.Threads[i].Away
		}
	}
	word(&n)
	word(&g.used.atHome)
	entry(&g.used.before)
	for i := range min(n, uint64(len(b)/entrySize-2)) {
		var tid uint64
		var u image.Usage
		if m != nil {
			tid, u = uint64(m.Threads[i].TID), m.Threads[i].Away
		}
		word(&tid)
		entry(&u)
		g.used.threads[id.HomePID(tid)] = u
	}
	if m != nil && len(m.Threads) > 0 {
		g.limitCPU(m.Limits[kern.LimitCPU][0], m.Limits[kern.LimitCPU][1])
	}
}

// limitCPU gives the guest the rest of a limit of CPU time: its kernel counts from 0.
func (g *Guest) limitCPU(soft, hard uint64) {
	used := (g.used.atHome + g.used.before.Run) / 1e9
	rest := func(limit uint64) uint64 {
		switch {
		case limit == ^uint64(0):
			return limit
		case limit <= used+1:
			return 1 // 0 would be none
		}
		return limit - used
	}
	if err := kern.SetLimit(g.PID, kern.LimitCPU, rest(soft), rest(hard)); err != nil && !kern.IsGone(err) {
		g.log.Warn("a guest has no limit of CPU time", "process", g.Process, "err", err)
	}
}

// Charge enters what was used up to now into the image with which the guest leaves.
func (g *Guest) Charge(m *image.Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.Away = g.usage(0)
	for i := range m.Threads {
		m.Threads[i].Away = g.usage(m.Threads[i].TID)
	}
}

// Used is what the process has used away up to now.
func (g *Guest) Used() image.Usage {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.usage(0)
}

// lastUsage goes home with the end of the process.
func (g *Guest) lastUsage() []homeproxy.Blob { return []homeproxy.Blob{{Data: g.usage(0).Encode()}} }

// usage is what was used away: by thread tid, or by all for 0. g.mu is held.
func (g *Guest) usage(tid id.HomePID) image.Usage {
	u, before := g.here(tid), g.used.before
	if tid != 0 {
		before = g.used.threads[tid]
	}
	u = before.Plus(u)
	last := g.used.said[tid]
	u.Run = max(u.Run, last.Run)
	if u.Sys = max(min(u.Sys, u.Run), last.Sys); u.Sys > u.Run-last.User {
		u.Sys = u.Run - last.User
	}
	u.User = u.Run - u.Sys
	g.used.said[tid] = u
	return u
}

// here is what this host has counted of a thread, or of all. User and system time come in ticks: the rest of what has run is
// taken for user time.
func (g *Guest) here(tid id.HomePID) (u image.Usage) {
	var st procfs.Stat
	if tid == 0 {
		st, _ = procfs.Default.Stat(g.PID)
		u.Run = uint64(max(kern.Now(kern.CPUClock(g.PID)), 0))
		if b, err := procfs.Default.Read(g.PID, "status"); err == nil {
			u.MaxRSS = highest(string(b))
		}
	} else {
		host := g.tids[tid]
		if host == 0 {
			return u
		}
		st, _ = procfs.Default.TaskStat(g.PID, host)
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", g.PID, host))
		run, _, _ := strings.Cut(string(b), " ")
		u.Run, _ = strconv.ParseUint(run, 10, 64)
	}
	u.Sys, u.MinFlt, u.MajFlt = min(st.STime*tick, u.Run), st.MinFlt, st.MajFlt
	u.User = u.Run - u.Sys
	return u
}

// highest reads VmHWM, in KiB.
func highest(status string) uint64 {
	_, rest, _ := strings.Cut(status, "VmHWM:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	n, _ := strconv.ParseUint(f[0], 10, 64)
	return n
}

// countsCPU reports whether a clock counts the CPU time of a process or a thread.
func countsCPU(clock uint32) bool {
	return clock == 2 || clock == 3 || int32(clock) < 0 && clock&3 != 3
}

// clockOwner is the thread, or 0 for the process, whose CPU time a clock counts; ok is false where it is another process's.
func (g *Guest) clockOwner(clock uint32, self id.HomePID) (tid id.HomePID, ok bool) {
	switch clock {
	case 2:
		return 0, true
	case 3:
		return self, true
	}
	n, thread := id.HomePID(^(int32(clock) >> 3)), clock&4 != 0
	switch {
	case thread && n == 0:
		return self, true
	case thread:
		return n, g.tids[n] != 0
	}
	return 0, n == 0 || n == g.Process.PID
}

// amend completes home's answer to a call that asks for CPU time, and sets limits here that were set at home. g.mu is held.
func (g *Guest) amend(c *call, res *homeproxy.Result) {
	if res.Ret < 0 || res.Ret == 0 && len(res.Out) == 0 && c.nr != abi.SysPrlimit && c.nr != sysSetrlimit {
		return
	}
	a := c.c.Args
	switch c.nr {
	case sysGetrusage:
		if who := int32(a[0]); who == 0 || who == 1 {
			tid := id.HomePID(0)
			if who == 1 {
				tid = c.tid
			}
			if b := written(res, a[1], 144); b != nil {
				homeproxy.AddRusage(b, g.usage(tid))
			}
		}
	case sysTimes:
		if b := written(res, a[0], 32); b != nil {
			homeproxy.AddTimes(b, g.usage(0))
		}
	case abi.SysClockGettime:
		clock := uint32(a[0])
		tid, own := g.clockOwner(clock, c.tid)
		if b := written(res, a[1], 16); b != nil && own && countsCPU(clock) {
			if clock&3 >= 2 {
				g.used.home[tid] = homeCount{le.Uint64(b)*1e9 + le.Uint64(b[8:]), g.used.calls, time.Now()}
			}
			homeproxy.AddNanos(b, clockPart(clock, g.usage(tid)), 1e9)
		}
	case abi.SysPrlimit:
		if pid := id.HomePID(int32(a[0])); a[2] != 0 && (pid == 0 || pid == g.Process.PID) {
			g.setLimit(c, uint32(a[1]), a[2])
		}
	case sysSetrlimit:
		g.setLimit(c, uint32(a[0]), a[1])
	}
}

// cpuClock answers a question for a clock of CPU time: here, where home's count is known, for programs ask again and again.
func (g *Guest) cpuClock(c *call, row *homeproxy.Row, args [6]uint64) {
	clock := uint32(args[0])
	tid, own := g.clockOwner(clock, c.tid)
	h, known := g.used.home[tid]
	if !own || clock&3 < 2 || !known || h.calls != g.used.calls && time.Since(h.at) > countFresh {
		g.forward(c, row, args)
		return
	}
	ns := h.ns + g.usage(tid).Run
	var b [16]byte
	le.PutUint64(b[:], ns/1e9)
	le.PutUint64(b[8:], ns%1e9)
	if n, err := g.WriteMemory(mem.Addr(args[1]), b[:]); err != nil || n != len(b) {
		g.reply(c, -int64(kern.EFAULT))
		return
	}
	g.reply(c, 0)
}

// clockPart is what a clock counts of u.
func clockPart(clock uint32, u image.Usage) uint64 {
	if clock&3 == 1 && int32(clock) < 0 { // CPUCLOCK_VIRT
		return u.User
	}
	return u.Run
}

// setLimit gives the guest a limit that home has just given the process: the one that home has read.
func (g *Guest) setLimit(c *call, what uint32, at uint64) {
	for _, b := range c.req.In {
		if uint64(b.Addr) != at || len(b.Data) != 16 {
			continue
		}
		soft, hard := le.Uint64(b.Data), le.Uint64(b.Data[8:])
		switch what {
		case kern.LimitCPU:
			g.limitCPU(soft, hard)
		case kern.LimitCore:
			if soft > 0 && !g.cores {
				c.homeward = "it may leave a core file from now on" // when it comes again it gets what that needs (thaw.Refault)
			}
			g.cores = soft > 0
		case kern.LimitData, kern.LimitStack, kern.LimitMemlock, kern.LimitAS:
			if what == kern.LimitAS {
				soft, hard = thaw.Beside(soft, g.Region), thaw.Beside(hard, g.Region)
			}
			if err := kern.SetLimit(g.PID, int(what), soft, hard); err != nil && !kern.IsGone(err) {
				g.log.Warn("a guest does not have the limit that it has set", "process", g.Process, "err", err)
			}
		}
	}
}

// written is the output of n bytes at a in home's answer, or nil.
func written(res *homeproxy.Result, a uint64, n int) []byte {
	for _, b := range res.Out {
		if b.Addr == mem.Addr(a) && len(b.Data) == n {
			return b.Data
		}
	}
	return nil
}
