package transport_test

import (
	"context"
	"io"
	"testing"

	"mosix/internal/transport"
)

// A forwarded call is a small request and a small answer; a move is bulk one way. The direct road is there because it is
// the faster one at both.
func BenchmarkRoads(b *testing.B) {
	l := newLoopback(b)
	from, to := l.Node("a"), l.Node("b")
	for _, proto := range roads {
		b.Run("round-trip"+proto, func(b *testing.B) {
			to.Handle(proto, func(c transport.Conn) { defer c.Close(); _, _ = io.Copy(c, c) })
			c, err := from.Dial(context.Background(), "b", proto)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			buf := make([]byte, 128)
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("bulk"+proto, func(b *testing.B) {
			to.Handle(proto, func(c transport.Conn) {
				defer c.Close()
				_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, c, make([]byte, 256<<10))
			})
			c, err := from.Dial(context.Background(), "b", proto)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			buf := make([]byte, 256<<10)
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("dial"+proto, func(b *testing.B) {
			to.Handle(proto, func(c transport.Conn) { c.Close() })
			for b.Loop() {
				c, err := from.Dial(context.Background(), "b", proto)
				if err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}
