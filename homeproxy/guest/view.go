package guest

import (
	"fmt"
	"os"

	"mosix/homeproxy"
	"mosix/internal/id"
	"mosix/internal/stub"
)

// showMemory puts what the guest uses of memory, and has used of processors, into what it has read of itself in /proc. The caller
// holds mu.
func (g *Guest) showMemory(c *call, res *homeproxy.Result) {
	if res.View == homeproxy.NoView || len(res.Out) == 0 {
		return
	}
	text, at := res.Out[0].Data, uint64(0)
	if len(res.Out) == 2 { // a part was read, and this is the whole
		text, at = res.Out[1].Data, uint64(res.Out[1].Addr)
		res.Out = res.Out[:1]
	}
	if res.Ret != int64(len(res.Out[0].Data)) || c.c.Total() > 0 {
		return
	}
	last := at+uint64(res.Ret) >= uint64(len(text)) || uint64(res.Ret) < c.c.Args[2]
	b := g.shown(res.View, text)
	b = b[min(at, uint64(len(b))):]
	if !last {
		b = b[:min(len(b), int(res.Ret))]
	}
	b = b[:min(uint64(len(b)), c.c.Args[2])] // the program's buffer has room for no more
	res.Out[0].Data, res.Ret = b, int64(len(b))
}

// shown is text, what home has in such a file, with what is so of the guest.
func (g *Guest) shown(v homeproxy.View, text []byte) []byte {
	name := map[homeproxy.View]string{homeproxy.ViewStatus: "status", homeproxy.ViewStat: "stat", homeproxy.ViewThread: "stat", homeproxy.ViewStatm: "statm"}[v]
	path := fmt.Sprintf("/proc/%d/%s", g.PID, name)
	if tid := v.Thread(text); g.tids[id.HomePID(tid)] != 0 && (id.HomePID(tid) != g.Process.PID || v == homeproxy.ViewThread) {
		path = fmt.Sprintf("/proc/%d/task/%d/%s", g.PID, g.tids[id.HomePID(tid)], name)
	}
	here, err := os.ReadFile(path)
	if err != nil {
		return text // it ends just now
	}
	b := v.Amend(text, v.Uncaught(here, g.faulting.Load()), uint64(len(g.Region.B)), stub.CodeSize)
	if v == homeproxy.ViewStat || v == homeproxy.ViewThread {
		b = homeproxy.AddTime(b, func(tid int) (user, sys uint64) {
			if v == homeproxy.ViewStat {
				tid = 0
			}
			u := g.usage(id.HomePID(tid))
			return u.User / tick, u.Sys / tick
		})
	}
	return b
}
