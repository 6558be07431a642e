// Package ferry drives a move over a connection: it reads and writes the frames, holds the processes, and does what package
// migrator decides. Its one invariant: Commit is sent in one line of one function, after the process was parked.
package ferry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/pack"
	"mosix/internal/wire"
)

// How a broken way is noticed. Each end of a guarded stream sends a Beat every beatEvery, whatever else it does; where nothing at
// all has come in for maxSilence, the stream is closed: a process that is held for the move must run on within a second.
const (
	beatEvery  = 100 * time.Millisecond
	maxSilence = 700 * time.Millisecond
	ahead      = 4 // frames that are read before somebody asks for them
)

// Stream is a connection that carries frames. Send may be called from several goroutines.
type Stream struct {
	conn net.Conn
	r    *bufio.Reader
	mu   sync.Mutex // guards writes
	Sent uint64     // bytes of payload, guarded by mu

	// Of a guarded stream:
	frames chan wire.Frame
	broken chan struct{} // closed when err is set
	err    error         // why nothing more comes in
	closed chan struct{}
	once   sync.Once
}

// NewStream speaks frames over conn.
func NewStream(conn net.Conn) *Stream {
	s := &Stream{conn: conn, closed: make(chan struct{})}
	s.r = bufio.NewReaderSize(heard{s}, 1<<16)
	return s
}

// heard reads from a stream's connection and gives up when nothing at all was heard for too long.
type heard struct{ s *Stream }

func (h heard) Read(b []byte) (int, error) {
	if h.s.frames == nil {
		return h.s.conn.Read(b)
	}
	_ = h.s.conn.SetReadDeadline(time.Now().Add(maxSilence))
	n, err := h.s.conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("nothing was heard of the other agent for %v: %w", maxSilence, err)
	}
	return n, err
}

// Guard begins to watch the stream: from then on a broken way ends it, also while nobody reads or writes. Both ends guard a
// move, after their first frames.
func (s *Stream) Guard() {
	s.frames, s.broken = make(chan wire.Frame, ahead), make(chan struct{})
	go s.beat()
	go s.read()
}

func (s *Stream) beat() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.closed:
			return
		case <-s.broken:
			return
		case <-tick.C:
			if s.Send(wire.Beat, 0, nil) != nil {
				return // whoever reads finds out why
			}
		}
	}
}

func (s *Stream) read() {
	for {
		f, err := wire.ReadInto(s.r, space)
		if err != nil {
			s.err = err
			close(s.broken)
			_ = s.conn.SetWriteDeadline(time.Now()) // who writes now writes for nobody
			s.conn.Close()
			return
		}
		if f.Type == wire.Beat {
			continue
		}
		select {
		case s.frames <- f:
		case <-s.closed:
			return
		}
	}
}

// Err reports why nothing more can come in over a guarded stream; nil as long as the way seems open.
func (s *Stream) Err() error {
	select {
	case <-s.broken:
		return closedByPeer(s.err)
	default:
		return nil
	}
}

// large holds the buffers of frames of memory that are done with: to make one anew for each costs more than to send it.
var large sync.Pool

const largeFrame = 1<<20 + 64<<10 // what package pages puts into one, with its head

func space(n int) []byte {
	if n < largeFrame/4 || n > largeFrame {
		return make([]byte, n)
	}
	if b, ok := large.Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, largeFrame)
}

// reuse takes back the payload of a frame that nobody needs any more.
func reuse(payload []byte) {
	if cap(payload) == largeFrame {
		large.Put(&payload)
	}
}

// Send writes one frame.
func (s *Stream) Send(t wire.Type, e id.Epoch, payload []byte) error {
	f := wire.Frame{Type: t, Epoch: e, Payload: payload}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		if err := s.Err(); err != nil {
			return err
		}
	}
	s.Sent += uint64(len(payload))
	_ = s.conn.SetWriteDeadline(time.Now().Add(30 * time.Second))
	if len(payload) < 16<<10 {
		_, err := s.conn.Write(f.Append(make([]byte, 0, len(payload)+16)))
		return err
	}
	h := f.Head()
	if _, err := s.conn.Write(h[:]); err != nil {
		return err
	}
	_, err := s.conn.Write(payload)
	return err
}

// Recv reads one frame, waiting at most d (0: for ever).
func (s *Stream) Recv(d time.Duration) (wire.Frame, error) {
	if s.frames != nil {
		return s.next(d)
	}
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = s.conn.SetReadDeadline(at)
	f, err := wire.ReadInto(s.r, space)
	return f, closedByPeer(err)
}

// next is Recv of a guarded stream: frames that came in before it broke are still there.
func (s *Stream) next(d time.Duration) (wire.Frame, error) {
	select {
	case f := <-s.frames:
		return f, nil
	default:
	}
	var late <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		late = t.C
	}
	select {
	case f := <-s.frames:
		return f, nil
	case <-s.broken:
		select {
		case f := <-s.frames:
			return f, nil
		default:
			return wire.Frame{}, closedByPeer(s.err)
		}
	case <-late:
		return wire.Frame{}, fmt.Errorf("the other agent lives and has not answered within %v: %w", d, os.ErrDeadlineExceeded)
	}
}

func closedByPeer(err error) error {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the other agent has closed the connection: %w", err)
	}
	return err
}

// Expect reads one frame that must be of type want. An Abort or Refuse from the other side becomes an error of its own.
func (s *Stream) Expect(want wire.Type, d time.Duration) (wire.Frame, error) {
	f, err := s.Recv(d)
	switch {
	case err != nil:
		return f, err
	case f.Type == want:
		return f, nil
	case f.Type == wire.Abort:
		return f, &AbortError{Why: string(f.Payload)}
	case f.Type == wire.Refuse:
		return f, &RefusedError{Refusals: decodeRefusals(f.Payload)}
	}
	return f, fmt.Errorf("the other agent sent a frame of type %d where %d was due", f.Type, want)
}

// Hello exchanges versions; both ends call it first.
func (s *Stream) Hello() error {
	if err := s.Send(wire.Hello, 0, wire.HelloPayload()); err != nil {
		return err
	}
	f, err := s.Expect(wire.Hello, 10*time.Second)
	if err != nil {
		return err
	}
	_, err = wire.Agree(f.Payload)
	return err
}

// Close closes the connection.
func (s *Stream) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.conn.Close()
}

// Probe asks the other end of a guarded move for a sign of life and waits for it. Nothing else may be due from it. short tells
// it that the copy here lives no longer than the lease of a move from now on.
func (s *Stream) Probe(e id.Epoch, short bool) error {
	var payload []byte
	if short {
		payload = []byte{1}
	}
	if err := s.Send(wire.Ping, e, payload); err != nil {
		return err
	}
	_, err := s.Expect(wire.Pong, stepTime)
	return err
}

// phases notes how long the parts of a freeze take, for the log.
type phases struct {
	at   time.Time
	took []any
}

// mark says that the part called what has just ended.
func (p *phases) mark(what string) {
	now := time.Now()
	if !p.at.IsZero() {
		p.took = append(p.took, what, now.Sub(p.at))
	}
	p.at = now
}

// AbortError says that the other side gave the move up.
type AbortError struct{ Why string }

func (e *AbortError) Error() string { return "the other node gave the move up: " + e.Why }

// RefusedError says that the target does not take the process.
type RefusedError struct{ Refusals image.Refusals }

func (e *RefusedError) Error() string { return "refused: " + e.Refusals.String() }

func encodeRefusals(rs image.Refusals) []byte {
	w := &pack.Writer{}
	w.U32(uint32(len(rs)))
	for _, r := range rs {
		w.String(r.What)
		w.String(r.Why)
		w.String(r.Evidence)
	}
	return w.B
}

func decodeRefusals(b []byte) image.Refusals {
	r := pack.NewReader(b)
	n := r.Count(12)
	var out image.Refusals
	for i := 0; i < n && r.Err() == nil; i++ {
		out = append(out, image.Refusal{What: r.String(), Why: r.String(), Evidence: r.String()})
	}
	if r.Err() != nil || len(out) == 0 {
		out = append(out, image.Refusal{What: "refused", Why: "the target refused without a reason that this agent can read"})
	}
	return out
}
