package peer

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"mosix/internal/id"
)

// maxStreams bounds the TCP connections that memberlist serves at once; it has no bound of its own, and strangers can open them.
const maxStreams = 128

// wire is memberlist's network, counted and bounded.
type wire struct {
	*memberlist.NetTransport
	stats   *counters
	streams chan net.Conn
	places  chan struct{}
	done    chan struct{}
}

var _ memberlist.NodeAwareTransport = (*wire)(nil)

func newWire(t *memberlist.NetTransport, stats *counters) *wire {
	w := &wire{
		NetTransport: t, stats: stats, streams: make(chan net.Conn), places: make(chan struct{}, maxStreams), done: make(chan struct{}),
	}
	go w.admit()
	return w
}

func (w *wire) admit() {
	for {
		select {
		case <-w.done:
			return
		case c := <-w.NetTransport.StreamCh():
			select {
			case w.places <- struct{}{}:
			default:
				c.Close()
				continue
			}
			select {
			case w.streams <- &placed{Conn: c, places: w.places}:
			case <-w.done:
				c.Close()
				return
			}
		}
	}
}

// StreamCh implements memberlist.Transport.
func (w *wire) StreamCh() <-chan net.Conn { return w.streams }

// WriteToAddress implements memberlist.NodeAwareTransport.
func (w *wire) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	w.stats.packets.Add(1)
	w.stats.packetBytes.Add(uint64(len(b)))
	return w.NetTransport.WriteToAddress(b, a)
}

// Shutdown implements memberlist.Transport.
func (w *wire) Shutdown() error {
	// The listeners of NetTransport wait until somebody takes what they have accepted.
	stopped := make(chan struct{})
	go func() {
		for {
			select {
			case <-stopped:
				return
			case c := <-w.NetTransport.StreamCh():
				c.Close()
			case <-w.NetTransport.PacketCh():
			}
		}
	}()
	close(w.done)
	err := w.NetTransport.Shutdown()
	close(stopped)
	return err
}

// placed is a stream that gives its place back when it is closed.
type placed struct {
	net.Conn
	places chan struct{}
	once   sync.Once
}

func (c *placed) Close() error {
	c.once.Do(func() { <-c.places })
	return c.Conn.Close()
}

// counters are what a Peer counts.
type counters struct {
	sent, sentBytes         atomic.Uint64
	received, receivedBytes atomic.Uint64
	rejected                atomic.Uint64 // malformed, forged, repeated or from strangers
	overrun                 atomic.Uint64 // came faster than they were taken
	strangers               atomic.Uint64 // nodes that wanted in and were refused, each time
	packets, packetBytes    atomic.Uint64 // datagrams of membership and gossip together, encrypted
}

// logs takes memberlist's log lines. They are also the only place where it says that a probe has failed: its public
// interface shows members until they are dead, without a state.
type logs struct {
	log     *slog.Logger
	suspect func(id.Node)
}

var _ io.Writer = logs{}

// Write implements io.Writer; package log gives it one line at a time.
func (l logs) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b))
	if n, ok := suspected(line); ok {
		l.suspect(n)
	}
	// What memberlist calls errors are mostly peers that went away and strangers at the door: a node's own table and counters
	// say that better, and strangers must not fill the log.
	level := slog.LevelDebug
	if strings.Contains(line, "Conflicting address") {
		level = slog.LevelWarn
	}
	l.log.Log(context.Background(), level, line)
	return len(b), nil
}

// suspected finds the name of a node of which memberlist says that its probe has failed.
func suspected(line string) (id.Node, bool) {
	_, rest, ok := strings.Cut(line, "memberlist: Suspect ")
	if !ok {
		return "", false
	}
	name, _, ok := strings.Cut(rest, " has failed, no acks received")
	return id.Node(name), ok
}
