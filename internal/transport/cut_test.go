package transport_test

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"mosix/internal/transport"
)

// A cut link is noticed on both roads in about ten seconds, by an end that only waits and by an end that sends. It needs a
// network that can be cut: a network namespace of its own, in a process of its own.
func TestCutLinkIsNoticed(t *testing.T) {
	const inside = "MOSIX_TEST_CUT"
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	if os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestCutLinkIsNoticed$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	l := newLoopback(t)
	a, b := l.Node("a"), l.Node("b")
	type end struct {
		who   string
		after time.Duration
		err   error
	}
	ends := make(chan end, 4*len(roads))
	var cut time.Time
	ready := make(chan struct{})
	watch := func(who string, c transport.Conn, do func() error) {
		<-ready
		err := do()
		ends <- end{who, time.Since(cut), err}
		c.Close()
	}
	waits := func(c transport.Conn) func() error {
		return func() error { _, err := c.Read(make([]byte, 1)); return err }
	}
	sends := func(c transport.Conn) func() error {
		return func() error {
			for {
				if _, err := c.Write(make([]byte, 100)); err != nil {
					return err
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
	for _, proto := range roads {
		b.Handle(proto, func(c transport.Conn) { watch(proto+" accepted, waits", c, waits(c)) })
		for who, do := range map[string]func(transport.Conn) func() error{"dialled, waits": waits, "dialled, sends": sends} {
			c, err := a.Dial(context.Background(), "b", proto)
			if err != nil {
				t.Fatal(err)
			}
			go watch(proto+" "+who, c, do(c))
		}
	}
	if err := netlink.LinkSetDown(lo); err != nil {
		t.Fatal(err)
	}
	cut = time.Now()
	close(ready)
	for range 4 * len(roads) {
		select {
		case e := <-ends:
			t.Logf("%s: after %v: %v", e.who, e.after.Round(100*time.Millisecond), e.err)
			if e.err == nil {
				t.Errorf("%s: got a byte over a cut link", e.who)
			}
		case <-time.After(25 * time.Second):
			t.Fatal("an end has noticed nothing after 25 s")
		}
	}
}
