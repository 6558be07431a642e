package memnet_test

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mosix/internal/transport"
	"mosix/internal/transport/memnet"
	"mosix/internal/transport/transporttest"
)

var _ transporttest.Cluster = (*memnet.Network)(nil)

func TestConformance(t *testing.T) {
	for name, f := range transporttest.All {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, memnet.New()) })
		})
	}
}

// pair gives both ends of a stream from a to b.
func pair(t *testing.T, n *memnet.Network) (a, b transport.Conn) {
	t.Helper()
	accepted := make(chan transport.Conn, 1)
	n.Node("b").Handle(transport.ProtoService, func(c transport.Conn) { accepted <- c })
	a, err := n.Node("a").Dial(context.Background(), "b", transport.ProtoService)
	if err != nil {
		t.Fatal(err)
	}
	b = <-accepted
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestCutShorterThanTheTimeoutOnlyDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, b := pair(t, n)
		start := time.Now()
		n.Cut("b", "a")
		if _, err := a.Write([]byte("late")); err != nil {
			t.Fatalf("a buffer takes what cannot be sent yet: %v", err)
		}
		time.AfterFunc(memnet.CutTimeout-time.Second, func() { n.Heal("a", "b") })
		got := make([]byte, 4)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "late" {
			t.Fatalf("%q, %v", got, err)
		}
		if d := time.Since(start); d != memnet.CutTimeout-time.Second {
			t.Errorf("arrived after %v", d)
		}
	})
}

func TestLongCutBreaksBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		a, b := pair(t, n)
		start := time.Now()
		time.AfterFunc(time.Second, func() { n.Cut("a", "b") }) // while b waits already
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("reader: %v", err)
		}
		if d := time.Since(start); d != time.Second+memnet.CutTimeout {
			t.Errorf("noticed after %v", d)
		}
		n.Heal("a", "b")
		if _, err := a.Write([]byte{1}); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("the other end, after the link came back: %v", err)
		}
	})
}

func TestDialOverACutLinkEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		n.Node("b")
		n.Cut("a", "b")
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := n.Node("a").Dial(ctx, "b", transport.ProtoMove); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("after %v", d)
		}
	})
}
