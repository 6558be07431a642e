package workloads

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mosix/test/cluster"
)

// Watch follows every copy of one process of the program page on this machine, from outside of all of mosix: it looks for
// processes whose number in their own namespace is the process's, and reads the page in their memory. It needs root.
type Watch struct {
	token   string
	pid     int
	address int64

	mu     sync.Mutex
	copies map[int]*copyOfPage // by number on the machine
	others map[int]bool        // processes that were looked at and are none
	events []event
	stop   chan struct{}
	done   chan struct{}
}

type copyOfPage struct {
	counter uint64
	first   *event    // it has grown once: that may be memory that was put there
	last    time.Time // when the counter was last seen to have grown again
}

// event is a proof that a copy ran: it wrote this stamp itself.
type event struct {
	stamp   uint64
	copy    int
	counter uint64
}

const (
	watchPeriod = 4 * time.Millisecond
	tokenBytes  = 32
)

// NewWatch begins to watch the process that is pid in its namespace and has told address.
func NewWatch(token string, pid int, address uint64) *Watch {
	w := &Watch{
		token: token, pid: pid, address: int64(address), copies: map[int]*copyOfPage{}, others: map[int]bool{},
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.stop:
				return
			case <-time.After(watchPeriod):
				w.sample()
			}
		}
	}()
	return w
}

// Stop ends the watch.
func (w *Watch) Stop() {
	close(w.stop)
	<-w.done
}

func (w *Watch) sample() {
	pids, err := os.ReadDir("/proc")
	if err != nil {
		return // /proc is always there; a next sample may succeed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range pids {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || w.others[pid] {
			continue
		}
		if w.copies[pid] == nil && innermost(pid) != w.pid {
			w.others[pid] = true
			continue
		}
		counter, stamp, ok := w.read(pid)
		if !ok {
			continue // not yet filled, given back, or gone
		}
		if c := w.copies[pid]; c != nil && counter != c.counter && laidDown(pid) {
			c.counter = counter // memory that was carried here: a process that is held, or parked, does not write
			continue
		}
		w.saw(pid, counter, stamp, time.Now())
	}
}

// saw takes one reading. The first of a copy proves nothing: what is in it may have been copied there.
func (w *Watch) saw(pid int, counter, stamp uint64, now time.Time) {
	c := w.copies[pid]
	if c == nil {
		w.copies[pid] = &copyOfPage{counter: counter}
		return
	}
	if counter == c.counter || w.known(stamp) {
		c.first = nil
		return
	}
	c.counter = counter
	e := event{stamp, pid, counter}
	if c.first == nil { // one that runs grows from each sample to the next, one that is filled now and then
		c.first = &e
		return
	}
	if n := len(w.events); n == 0 || w.events[n-1] != *c.first {
		w.events = append(w.events, *c.first)
	}
	c.first, c.last = &e, now
	w.events = append(w.events, e)
}

// known: this very stamp was read in some copy before, so it travelled into this one as data.
func (w *Watch) known(stamp uint64) bool {
	for i := len(w.events) - 1; i >= 0 && i > len(w.events)-200; i-- {
		if w.events[i].stamp == stamp {
			return true
		}
	}
	return false
}

func (w *Watch) read(pid int) (counter, stamp uint64, ok bool) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "mem"))
	if err != nil {
		return 0, 0, false
	}
	defer f.Close()
	var b [tokenBytes + 16]byte
	if n, _ := f.ReadAt(b[:], w.address); n != len(b) {
		return 0, 0, false
	}
	if token, _, _ := bytes.Cut(b[:tokenBytes], []byte{0}); string(token) != w.token {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b[tokenBytes:]), binary.LittleEndian.Uint64(b[tokenBytes+8:]), true
}

// laidDown reports whether no thread of pid can have executed its own program just now: it has a tracer, which makes calls in it
// while it fills its memory, or each thread waits in the code that mosix has planted.
func laidDown(pid int) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	if status, err := os.ReadFile(filepath.Join(dir, "status")); err != nil || !bytes.Contains(status, []byte("\nTracerPid:\t0\n")) {
		return true
	}
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		return false
	}
	var lo, hi uint64
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "/memfd:mosix-shadow") {
			from, to, _ := strings.Cut(strings.Fields(line)[0], "-")
			a, _ := strconv.ParseUint(from, 16, 64)
			b, _ := strconv.ParseUint(to, 16, 64)
			if lo == 0 {
				lo = a
			}
			hi = b
		}
	}
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil || lo == 0 {
		return false
	}
	for _, t := range tasks {
		stat, _ := os.ReadFile(filepath.Join(dir, "task", t.Name(), "stat"))
		if bytes.Contains(stat, []byte(") t ")) {
			continue
		}
		if !waitsWithin(filepath.Join(dir, "task", t.Name(), "syscall"), lo, hi) {
			return false
		}
	}
	return true
}

// waitsWithin reports whether a thread waits in code from lo to hi. One that runs just then may be making a short call of mosix's, and is
// looked at again.
func waitsWithin(path string, lo, hi uint64) bool {
	for try := 0; ; try++ {
		b, _ := os.ReadFile(path)
		f := strings.Fields(string(b))
		if len(f) == 0 {
			return false
		}
		pc, err := strconv.ParseUint(strings.TrimPrefix(f[len(f)-1], "0x"), 16, 64)
		if err == nil {
			return pc >= lo && pc < hi
		}
		if try == 5 { // "running"
			return false
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// innermost is the number of process pid in its own PID namespace.
func innermost(pid int) int {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(rest)
			n, _ := strconv.Atoi(f[len(f)-1])
			return n
		}
	}
	return 0
}

// Running lists the copies that have counted since t.
func (w *Watch) Running(t time.Time) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	var pids []int
	for pid, c := range w.copies {
		if c.last.After(t) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Alternations is how often the copy that ran was another than the one before, in the order of time stamps. Of a process of
// which one copy runs at a time it is at most the number of moves.
func (w *Watch) Alternations() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return alternations(w.events)
}

// Turns tells when which copy ran, in time stamps from the first on: what a failure is judged by.
func (w *Watch) Turns() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	sorted := byStamp(w.events)
	for i := 0; i < len(sorted); {
		j := i
		for j < len(sorted) && sorted[j].copy == sorted[i].copy {
			j++
		}
		first, last := sorted[i], sorted[j-1]
		fmt.Fprintf(&b, "%d ran from %d to %d (%d times, counters %d to %d)\n", first.copy, first.stamp-sorted[0].stamp, last.stamp-sorted[0].stamp, j-i, first.counter, last.counter)
		i = j
	}
	return b.String()
}

func byStamp(events []event) []event {
	return slices.SortedFunc(slices.Values(events), func(a, b event) int { return cmp.Compare(a.stamp, b.stamp) })
}

func alternations(events []event) int {
	n := 0
	sorted := byStamp(events)
	for i := 1; i < len(sorted); i++ {
		if sorted[i].copy != sorted[i-1].copy {
			n++
		}
	}
	return n
}

// Page is a running process of the program page, with its watches: of itself, and of its children.
type Page struct {
	Process
	All  []*Watched
	said *sharedBuffer
	out  *sharedBuffer
}

// Watched is one process with its watch.
type Watched struct {
	*Watch
	Home int // the number of the original on the machine
}

var (
	pageLine  = regexp.MustCompile(`(?m)^page ([0-9a-f]+)$`)
	childLine = regexp.MustCompile(`(?m)^child ([0-9]+)$`)
)

// StartPage starts one in n, with so many children, and waits until it counts.
func StartPage(n Node, token string, children int) (*Page, error) {
	p := &Page{said: &sharedBuffer{}, out: &sharedBuffer{}}
	var err error
	if p.Process, err = n.Start([]string{Program("page"), token, strconv.Itoa(children)}, false, p.out, p.said); err != nil {
		return nil, err
	}
	pid, err := awaitPID(p.said, nil)
	if err != nil {
		return nil, err
	}
	m := pageLine.FindStringSubmatch(p.said.String())
	if m == nil {
		return nil, fmt.Errorf("it did not tell its page: %s", p.said.String())
	}
	address, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil {
		return nil, err
	}
	pids := []int{pid}
	for _, m := range childLine.FindAllStringSubmatch(p.said.String(), -1) {
		kid, _ := strconv.Atoi(m[1])
		pids = append(pids, kid)
	}
	if len(pids) != 1+children {
		return nil, fmt.Errorf("it did not tell of %d children: %s", children, p.said.String())
	}
	for _, pid := range pids {
		w := &Watched{Watch: NewWatch(token, pid, address)}
		p.All = append(p.All, w)
		if _, ok := cluster.Until(5*time.Second, func() bool { return len(w.Running(time.Time{})) == 1 }); !ok {
			p.Stop()
			return nil, fmt.Errorf("the page of %d was not seen to count from outside (%d copies)", pid, len(w.Running(time.Time{})))
		}
		w.Home = w.Running(time.Time{})[0]
	}
	return p, nil
}

// Stop ends the watches.
func (p *Page) Stop() {
	for _, w := range p.All {
		w.Stop()
	}
}

// RunsSince reports whether each of them has counted, somewhere, since t.
func (p *Page) RunsSince(t time.Time) bool {
	return !slices.ContainsFunc(p.All, func(w *Watched) bool { return len(w.Running(t)) == 0 })
}

// Said is what the page printed on standard output.
func (p *Page) Said() string { return p.out.String() }
