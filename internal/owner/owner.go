// Package owner finds out whether somebody is at the machine. Its one invariant: it only looks; what it cannot look at counts as nobody,
// so that a machine without a seat never has an owner.
package owner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Source is one way to find out.
type Source interface {
	// Present says that somebody is at the machine, and by what that is seen.
	Present(now time.Time) (yes bool, why string)
}

// Sessions looks at the sessions that logind keeps: one that is active, on a seat, of a user, and not locked or idle.
type Sessions struct {
	Dir string // /run/systemd/sessions
}

// Present implements Source.
func (s Sessions) Present(time.Time) (bool, string) {
	files, err := filepath.Glob(filepath.Join(s.Dir, "*"))
	if err != nil {
		return false, ""
	}
	for _, f := range files {
		if strings.HasSuffix(f, ".ref") {
			continue
		}
		v := variables(f)
		if v["ACTIVE"] == "1" && v["SEAT"] != "" && v["CLASS"] == "user" && v["STATE"] == "active" && v["IDLE_HINT"] != "1" && v["LOCKED_HINT"] != "1" {
			return true, fmt.Sprintf("%s has an active session on %s", first(v["USER"], v["UID"], "somebody"), v["SEAT"])
		}
	}
	return false, ""
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// variables reads lines of NAME=value from a small regular file.
func variables(path string) map[string]string {
	const most = 64 << 10
	fi, err := os.Stat(path)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > most {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[k] = v
		}
	}
	return out
}

// Devices notes when the machine's input devices were used last: keyboards, mice and the like, whatever display they serve.
type Devices struct {
	Pattern string        // of their paths: /dev/input/event*
	Idle    time.Duration // for so long after that somebody counts as present

	mu   sync.Mutex
	last time.Time
	name string
	open map[string]bool
}

// Present implements Source. It begins to watch devices that have come since.
func (d *Devices) Present(now time.Time) (bool, string) {
	d.look()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last.IsZero() || now.Sub(d.last) >= d.Idle {
		return false, ""
	}
	return true, fmt.Sprintf("%s was used %.0f s ago", d.name, now.Sub(d.last).Seconds())
}

func (d *Devices) look() {
	paths, err := filepath.Glob(d.Pattern)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = map[string]bool{}
	}
	for _, p := range paths {
		if d.open[p] {
			continue
		}
		f, err := os.OpenFile(p, os.O_RDONLY|nonblock, 0)
		if err != nil {
			continue // it needs root, or is going just now
		}
		d.open[p] = true
		go d.watch(p, f)
	}
}

// watch reads what a device says until it is gone. What was pressed is thrown away.
func (d *Devices) watch(path string, f *os.File) {
	defer f.Close()
	b := make([]byte, 4096)
	for {
		n, err := f.Read(b)
		if n > 0 {
			d.mu.Lock()
			d.last, d.name = time.Now(), path
			d.mu.Unlock()
		}
		if err != nil || n == 0 {
			d.mu.Lock()
			delete(d.open, path)
			d.mu.Unlock()
			return
		}
	}
}

// Any is present where one of its sources is.
type Any []Source

// Present implements Source.
func (a Any) Present(now time.Time) (bool, string) {
	for _, s := range a {
		if yes, why := s.Present(now); yes {
			return true, why
		}
	}
	return false, ""
}
