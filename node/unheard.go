package node

import (
	"sync"

	"mosix/internal/abi"
	"mosix/internal/region"
)

// unheard keeps the signals that were sent to a guest until its host says that it has them: a connection that breaks loses none.
type unheard struct {
	mu   sync.Mutex
	last uint64
	list []numbered
}

// numbered is a signal with its number among those of one absence, from 1 on.
type numbered struct {
	region.Signal
	number uint64
}

func (u *unheard) add(s region.Signal) numbered {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last++
	n := numbered{s, u.last}
	u.list = append(u.list, n)
	return n
}

// after forgets the signals up to number heard and returns those after it. A host that was started anew may have heard of
// signals of which this agent, itself new, knows nothing: numbers go on after them.
func (u *unheard) after(heard uint64) []numbered {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last = max(u.last, heard)
	for len(u.list) > 0 && u.list[0].number <= heard {
		u.list = u.list[1:]
	}
	return append([]numbered(nil), u.list...)
}

// ahead reports whether one of set was sent after that of number heard.
func (u *unheard) ahead(heard, set uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.list {
		if x := &u.list[i]; x.number > heard && abi.SigBit(x.Info.Signo())&set != 0 {
			return true
		}
	}
	return false
}
