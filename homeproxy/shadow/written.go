package shadow

import (
	"sync"
	"sync/atomic"

	"mosix/internal/kern"
)

// A guest has its own copy of what it has mapped of files. When somebody else writes such a file, the process comes home, where it has
// the file itself. Until then it must not hear of anything that happened afterwards: what it learns, it learns by the results of
// its calls and by signals. Results that come in then are kept from its threads until they are at home, and signals stay there.
//
// Writes through a mapping of somebody else's tell nobody.

// watcher is asked for all shadows of an agent: the kernel counts watchers, for each user.
type watcher struct {
	mu  sync.Mutex
	n   *kern.Inotify // nil: this kernel gives none any more
	has map[int32]map[*Shadow]bool
}

var watched = sync.OnceValue(func() *watcher {
	n, err := kern.InotifyOpen()
	if err != nil {
		return &watcher{}
	}
	w := &watcher{n: n, has: map[int32]map[*Shadow]bool{}}
	go func() {
		for n.Wait(w.look) == nil {
		}
	}()
	return w
})

// watchFile makes s hear of writes to the file at path.
func (s *Shadow) watchFile(path string) {
	w := watched()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n == nil {
		return
	}
	wd, err := w.n.Watch(path)
	if err != nil {
		s.log.Debug("writes to a file that a guest has mapped are not noticed", "process", s.Process, "err", err)
		return
	}
	if w.has[wd] == nil {
		w.has[wd] = map[*Shadow]bool{}
	}
	w.has[wd][s] = true
	s.watches.Store(true)
}

// unwatch ends that.
func (s *Shadow) unwatch() {
	if !s.watches.Load() {
		return
	}
	w := watched()
	w.mu.Lock()
	defer w.mu.Unlock()
	for wd, by := range w.has {
		if delete(by, s); len(by) == 0 {
			w.n.Forget(wd)
			delete(w.has, wd)
		}
	}
}

// look finds out what was written, and returns whether anything was.
func (w *watcher) look() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n == nil {
		return false
	}
	wds := w.n.Written()
	for _, wd := range wds {
		for s := range w.has[wd] {
			s.isWritten()
		}
		if wd == kern.InotifyLost {
			for _, by := range w.has {
				for s := range by {
					s.isWritten()
				}
			}
		}
	}
	return len(wds) > 0
}

func (s *Shadow) isWritten() {
	if s.written.CompareAndSwap(false, true) {
		go s.tellWritten()
	}
}

// tellWritten has the process called home, if anybody can.
func (s *Shadow) tellWritten() {
	s.mu.Lock()
	tell := s.OnWritten
	if s.closed || s.out == nil { // who connects is told
		tell = nil
	}
	s.mu.Unlock()
	if tell != nil {
		tell()
	}
}

// writes is what a shadow knows of writes to files of which its process has parts.
type writes struct {
	watches atomic.Bool
	written atomic.Bool
}

// Succeeds makes s, which takes charge of the shadow after old, know what old knew.
func (s *Shadow) Succeeds(old *Shadow) {
	if old.outdated() {
		s.isWritten()
	}
}

// outdated reports whether a file of which the process has parts was written since it left.
func (s *Shadow) outdated() bool {
	if s.watches.Load() && !s.written.Load() {
		watched().look()
	}
	return s.written.Load()
}
