// Package ferry drives a move over a connection: it reads and writes the frames, holds the processes, and does what package
// migrator decides. Its one invariant: Commit is sent in one line of one function, after the process was parked.
package ferry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/pack"
	"mosix/internal/wire"
)

// Stream is a connection that carries frames. Send may be called from several goroutines.
type Stream struct {
	conn net.Conn
	r    *bufio.Reader
	mu   sync.Mutex // guards writes
	Sent uint64     // bytes of payload, guarded by mu
}

// NewStream speaks frames over conn.
func NewStream(conn net.Conn) *Stream {
	return &Stream{conn: conn, r: bufio.NewReaderSize(conn, 1<<16)}
}

// Send writes one frame.
func (s *Stream) Send(t wire.Type, e id.Epoch, payload []byte) error {
	f := wire.Frame{Type: t, Epoch: e, Payload: payload}
	s.mu.Lock()
	defer s.mu.Unlock()
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
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = s.conn.SetReadDeadline(at)
	f, err := wire.Read(s.r)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the other agent has closed the connection: %w", err)
	}
	return f, err
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
func (s *Stream) Close() error { return s.conn.Close() }

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
