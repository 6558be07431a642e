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
	if res.View == homeproxy.NoView || len(res.Out) != 1 || res.Ret != int64(len(res.Out[0].Data)) || c.c.Total() > 0 {
		return
	}
	name := map[homeproxy.View]string{homeproxy.ViewStatus: "status", homeproxy.ViewStat: "stat", homeproxy.ViewThread: "stat", homeproxy.ViewStatm: "statm"}[res.View]
	path := fmt.Sprintf("/proc/%d/%s", g.PID, name)
	if tid := res.View.Thread(res.Out[0].Data); g.tids[id.HomePID(tid)] != 0 && (id.HomePID(tid) != g.Process.PID || res.View == homeproxy.ViewThread) {
		path = fmt.Sprintf("/proc/%d/task/%d/%s", g.PID, g.tids[id.HomePID(tid)], name)
	}
	here, err := os.ReadFile(path)
	if err != nil {
		return // it ends just now
	}
	b := res.View.Amend(res.Out[0].Data, here, uint64(len(g.Region.B)), stub.CodeSize)
	if res.View == homeproxy.ViewStat || res.View == homeproxy.ViewThread {
		b = homeproxy.AddTime(b, func(tid int) (user, sys uint64) {
			if res.View == homeproxy.ViewStat {
				tid = 0
			}
			u := g.usage(id.HomePID(tid))
			return u.User / tick, u.Sys / tick
		})
	}
	b = b[:min(uint64(len(b)), c.c.Args[2])] // the program's buffer has room for no more
	res.Out[0].Data, res.Ret = b, int64(len(b))
}
