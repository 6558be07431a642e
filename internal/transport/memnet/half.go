package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// buffered is how much a writer may be ahead of its reader: as much as a pair of socket buffers.
const buffered = 256 << 10

// half carries bytes in one direction of a stream.
type half struct {
	wire              *wire
	twin              *half // the other direction
	readEnd, writeEnd end

	mu       sync.Mutex
	buf      []byte
	finished bool          // the writer will write no more
	gone     bool          // the reader will read no more
	broken   bool          // the link was cut for too long
	changed  chan struct{} // closed, and replaced, whenever anything above changes
}

func newHalf(w *wire) *half {
	h := &half{wire: w, changed: make(chan struct{})}
	h.readEnd.init()
	h.writeEnd.init()
	return h
}

func (h *half) wakeLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *half) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finished = true
	h.wakeLocked()
}

func (h *half) abandon() {
	h.readEnd.close()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone, h.buf = true, nil
	h.wakeLocked()
}

// breakLink ends both directions, as a reset does.
func (h *half) breakLink() {
	h.breakOne()
	h.twin.breakOne()
}

func (h *half) breakOne() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken, h.buf = true, nil
	h.wakeLocked()
}

func (h *half) read(b []byte) (int, error) {
	for {
		if err := h.readEnd.err(); err != nil {
			return 0, err
		}
		h.mu.Lock()
		up, toggled := h.wire.state()
		changed := h.changed
		switch {
		case h.broken:
			h.mu.Unlock()
			return 0, syscall.ETIMEDOUT
		case up && (len(h.buf) > 0 || len(b) == 0):
			n := copy(b, h.buf)
			h.buf = h.buf[n:]
			h.wakeLocked()
			h.mu.Unlock()
			return n, nil
		case up && h.finished:
			h.mu.Unlock()
			return 0, io.EOF
		}
		h.mu.Unlock()
		h.wait(up, toggled, changed, h.readEnd.done())
	}
}

func (h *half) write(b []byte) (int, error) {
	n := 0
	for {
		if err := h.writeEnd.err(); err != nil {
			return n, err
		}
		h.mu.Lock()
		up, toggled := h.wire.state()
		changed := h.changed
		switch {
		case h.broken:
			h.mu.Unlock()
			return n, syscall.ETIMEDOUT
		case h.finished:
			h.mu.Unlock()
			return n, net.ErrClosed
		case up && h.gone:
			h.mu.Unlock()
			return n, syscall.EPIPE
		case len(h.buf) < buffered && len(b) > n: // also while the link is cut: buffers take what they can hold
			k := min(buffered-len(h.buf), len(b)-n)
			h.buf = append(h.buf, b[n:n+k]...)
			n += k
			h.wakeLocked()
		}
		h.mu.Unlock()
		if n == len(b) {
			return n, nil
		}
		h.wait(up, toggled, changed, h.writeEnd.done())
	}
}

// wait returns when something has changed that may let a read or write go on. Where the link stays cut for too long it
// breaks the stream.
func (h *half) wait(up bool, toggled, changed, done <-chan struct{}) {
	if up {
		select {
		case <-toggled:
		case <-changed:
		case <-done:
		}
		return
	}
	t := time.NewTimer(CutTimeout)
	defer t.Stop()
	for {
		select {
		case <-toggled:
			return
		case <-done:
			return
		case <-changed: // nothing that happens on a cut link ends the wait, but its breaking
			h.mu.Lock()
			broken := h.broken
			changed = h.changed
			h.mu.Unlock()
			if broken {
				return
			}
		case <-t.C:
			h.breakLink()
			return
		}
	}
}

// end is the deadline and the closing of one end of a half.
type end struct {
	mu     sync.Mutex
	timer  *time.Timer
	past   bool
	closed bool
	ch     chan struct{} // closed when past or closed
}

func (e *end) init() { e.ch = make(chan struct{}) }

func (e *end) done() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ch
}

func (e *end) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return net.ErrClosed
	case e.past:
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (e *end) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer != nil {
		e.timer.Stop()
	}
	if !e.closed && !e.past {
		close(e.ch)
	}
	e.closed = true
}

func (e *end) set(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if e.past {
		e.past, e.ch = false, make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	d := time.Until(t)
	if d <= 0 {
		e.past = true
		close(e.ch)
		return
	}
	ch := e.ch
	e.timer = time.AfterFunc(d, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.ch == ch && !e.past && !e.closed {
			e.past = true
			close(ch)
		}
	})
}
