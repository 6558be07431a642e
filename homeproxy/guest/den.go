package guest

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/migrator/thaw"
)

// Den is what the guests share that stem from one arrival: the keeper and its namespaces, ids and cgroups. The first of them, a
// family in the usual case of one, have arrived, the others were born here.
type Den struct {
	Keeper   *region.Region
	KeeperID int
	Cgroups  []string
	Log      *slog.Logger

	births sync.Mutex // the keeper gives out one number at a time

	mu     sync.Mutex
	guests map[*Guest]bool
	tasks  map[int]*Guest     // by thread numbers here
	notes  map[id.HomePID]int // the entries of threads in the keeper's notebook
	free   []int              // entries of threads that have ended
	serves map[*os.File]bool  // the listeners of the filters: one for each process that has arrived, and those that it has made
	quit   chan struct{}      // closed when nobody is served any more; nil before Serve
	wg     sync.WaitGroup
}

// enter makes g a guest of d.
func (d *Den) enter(g *Guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.guests == nil {
		d.guests, d.tasks = map[*Guest]bool{}, map[int]*Guest{}
	}
	d.guests[g] = true
	for _, host := range g.tids {
		d.tasks[host] = g
	}
}

func (d *Den) addTask(host int, g *Guest) {
	d.mu.Lock()
	d.tasks[host] = g
	d.mu.Unlock()
}

func (d *Den) dropTask(host int, g *Guest) {
	d.mu.Lock()
	if d.tasks[host] == g {
		delete(d.tasks, host)
	}
	d.mu.Unlock()
}

// serve begins to take the notifications of a filter, with the first guest that is served and has it.
func (d *Den) serve(listener *os.File, number uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.quit == nil {
		d.quit, d.serves = make(chan struct{}), map[*os.File]bool{}
	}
	if !d.serves[listener] {
		d.serves[listener] = true
		d.wg.Add(1)
		go d.receive(listener, d.Keeper.Notice(number), d.quit)
	}
}

// leave takes g out, and returns whether it was the last.
func (d *Den) leave(g *Guest) bool {
	d.mu.Lock()
	there := d.guests[g]
	delete(d.guests, g)
	if there && g.told {
		g.member().PID = 0 // home knows of its end: no later agent must tell
	}
	for host, x := range d.tasks {
		if x == g {
			delete(d.tasks, host)
		}
	}
	last := there && len(d.guests) == 0
	if last && d.quit != nil {
		close(d.quit)
	}
	d.mu.Unlock()
	if last {
		d.wg.Wait()
	}
	return last
}

// close ends the keeper and frees what this agent has of the den, after its last guest was closed.
func (d *Den) close() {
	if err := kern.Kill(d.KeeperID, abi.SIGKILL); err != nil && !kern.IsGone(err) {
		d.Log.Warn("cannot end a keeper", "keeper", d.KeeperID, "err", err)
	}
	for l := range d.serves {
		l.Close()
	}
	d.Keeper.Close()
	thaw.RemoveCgroups(d.Cgroups)
}

// receive is the loop that takes notifications. The kernel itself writes them to where a later agent finds the last one.
func (d *Den) receive(listener *os.File, last *kern.Notif, quit chan struct{}) {
	defer d.wg.Done()
	var m meter
	for {
		select {
		case <-quit:
			return
		default:
		}
		in, hup := kern.PollIn(listener, 200*time.Millisecond)
		if hup && !in {
			return
		}
		if !in {
			continue
		}
		if err := kern.NotifRecv(listener, last); err != nil {
			continue // ENOENT: the caller died between the two
		}
		n := *last
		d.mu.Lock()
		g := d.tasks[int(n.PID)]
		d.mu.Unlock()
		if g == nil {
			d.Log.Error("a call of a thread that is not known", "keeper", d.KeeperID, "thread", n.PID)
			_ = kern.NotifSend(listener, n.ID, -int64(kern.ENOSYS), false)
			continue
		}
		g.handle(n)
		if wait := m.took(time.Now()); wait > 0 {
			time.Sleep(wait)
		}
	}
}

// ring wakes who waits at the keeper's doorbell.
func (d *Den) ring() { kern.FutexWake(&d.Keeper.Keeper().Doorbell, 1<<30) }

// alone reports whether g is the only guest, so that the keeper may end with it.
func (d *Den) alone(g *Guest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.guests) == 0 || len(d.guests) == 1 && d.guests[g]
}

// lease sets the end of g's lease, and that of the keeper, who stays as long as any of its guests.
func (d *Den) lease(g *Guest, end uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	atomic.StoreUint64(&g.member().Deadline, end)
	for x := range d.guests {
		if m := x.member(); atomic.LoadUint32(&m.Ended) == 0 {
			end = max(end, atomic.LoadUint64(&m.Deadline))
		}
	}
	atomic.StoreUint64(&d.Keeper.Keeper().Deadline, end)
}

// book enters a member, who is not running yet, in the keeper's table. It returns the number of the entry.
func (d *Den) book(m stub.Member) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	used := map[int]bool{}
	for g := range d.guests {
		used[g.entry] = true
	}
	k := d.Keeper.Keeper()
	n := int(min(k.Count, stub.MaxMembers))
	i := 0
	for i < n && (used[i] || d.Keeper.Member(i).PID != 0 && atomic.LoadUint32(&d.Keeper.Member(i).Ended) == 0) {
		i++
	}
	if i == stub.MaxMembers {
		return 0, fmt.Errorf("a keeper has room for %d processes", stub.MaxMembers)
	}
	e := d.Keeper.Member(i)
	// The keeper passes over entries that have ended; the last word makes it one that lives.
	atomic.StoreUint32(&e.Ended, 1)
	e.PID, e.Status, e.Deadline, e.Start, e.Epoch, e.Base, e.Shares, e.Listener, e.Together = m.PID, 0, m.Deadline, m.Start, m.Epoch, m.Base, m.Shares, m.Listener, 0
	atomic.StoreUint32(&e.Ended, 0)
	if i == n {
		atomic.StoreUint32(&k.Count, uint32(n+1))
	}
	return i, nil
}

// next makes the keeper's namespace give the number pid to whoever is made next. The caller holds births.
func (d *Den) next(pid id.HomePID) error {
	k := d.Keeper.Keeper()
	if int32(k.LastPID) < 0 {
		return kern.Errno(-int32(k.LastPID))
	}
	text := strconv.Itoa(int(pid) - 1)
	copy(k.Text[:], text)
	k.TextLen = uint32(len(text))
	ask := atomic.AddUint32(&k.Ask, 1)
	for late := time.Now().Add(5 * time.Second); ; {
		bell := atomic.LoadUint32(&k.Doorbell)
		if atomic.LoadUint32(&k.Answer) == ask {
			if k.Asked < 0 {
				return fmt.Errorf("choose the number %d for a new process: %w", pid, kern.Errno(-k.Asked))
			}
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("the keeper %d does not answer", d.KeeperID)
		}
		if err := kern.Kill(d.KeeperID, abi.SIGCHLD); err != nil {
			return err
		}
		kern.FutexWait(&k.Doorbell, bell, 20*time.Millisecond)
	}
}
