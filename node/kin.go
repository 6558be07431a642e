package node

import (
	"sync"
	"time"

	"mosix/homeproxy"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/migrator/freeze"
)

// kin knows what processes of this home have used away, so that their parents, where these are guests too, are told with their ends.
// Home's kernel does that for what was used at home.
type kin struct {
	mu       sync.Mutex
	used     map[id.HomePID]usedAway    // by each, up to now
	children map[id.Process]image.Usage // by those whose end it was told, and theirs
}

type usedAway struct {
	p  id.Process
	u  image.Usage
	at time.Time
}

// kinMost is how many are remembered before those are forgotten whose ends were told to somebody else long ago.
const (
	kinMost = 4096
	kinAge  = 5 * time.Minute
)

// note takes what a process has used away.
func (k *kin) note(p id.Process, u image.Usage) {
	if u == (image.Usage{}) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.used == nil {
		k.used, k.children = map[id.HomePID]usedAway{}, map[id.Process]image.Usage{}
	}
	if len(k.used) >= kinMost {
		for pid, x := range k.used {
			if time.Since(x.at) > kinAge && !isProcess(x.p) {
				delete(k.used, pid)
				delete(k.children, x.p)
			}
		}
	}
	k.used[p.PID] = usedAway{p, u, time.Now()}
}

func isProcess(p id.Process) bool {
	start, err := freeze.StartTime(int(p.PID))
	return err == nil && start == p.Start
}

// of is what the children of p have used away that p has waited for.
func (k *kin) of(p id.Process) image.Usage {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.children[p]
}

// amend completes the answer to a call of process p: what its children have used away is added to what home has counted of them.
func (k *kin) amend(p id.Process, nr uint32, args [6]uint64, ret int64, out []homeproxy.Blob) {
	const getrusage, times, wait4, waitid = 98, 100, 61, 247
	switch nr {
	case wait4, waitid:
		pid := homeproxy.Reaped(nr, args, ret, out, func(pid int) bool {
			_, err := freeze.StartTime(pid)
			return err != nil
		})
		if pid == 0 {
			return
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		x, ok := k.used[id.HomePID(pid)]
		if !ok {
			return
		}
		at := args[3]
		if nr == waitid {
			at = args[4]
		}
		theirs := k.children[x.p]
		delete(k.used, x.p.PID)
		delete(k.children, x.p)
		all := x.u.Plus(theirs)
		if b := homeproxy.Rusage(out, at); b != nil {
			homeproxy.AddRusage(b, all)
		}
		k.children[p] = k.children[p].Plus(all)
	case getrusage:
		if int32(args[0]) != -1 {
			return
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if b := homeproxy.Rusage(out, args[1]); b != nil {
			homeproxy.AddRusage(b, k.children[p])
		}
	case times:
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, b := range out {
			if len(b.Data) == 32 {
				homeproxy.AddTimes(b.Data[16:], k.children[p])
			}
		}
	}
}
