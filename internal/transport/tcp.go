package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// A cut link is noticed after about ten seconds: by unanswered probes while a connection is idle, by unacknowledged bytes
// while it is not.
const (
	tcpUserTimeout = 10 * time.Second
	sockUserTO     = 0x12 // TCP_USER_TIMEOUT, which package syscall does not name
)

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 4 * time.Second, Interval: 2 * time.Second, Count: 3}

// tuneTCP makes c notice a cut link. TCP_NODELAY is Go's default.
func tuneTCP(c net.Conn) error {
	if k, ok := c.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		if err := k.SetKeepAliveConfig(keepAlive); err != nil {
			return fmt.Errorf("set keep-alive: %w", err)
		}
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %T is no socket", c)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = rc.Control(func(fd uintptr) {
		serr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, sockUserTO, int(tcpUserTimeout.Milliseconds()))
	})
	if err := errors.Join(err, serr); err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}

const (
	maxHalfOpen       = 256
	maxHalfOpenOfHost = 32 // so that one stranger cannot take all the places
)

// gate bounds the connections that were accepted but have not yet proved to be a member's.
type gate struct {
	mu    sync.Mutex
	total int
	hosts map[netip.Addr]int
}

func newGate() *gate { return &gate{hosts: make(map[netip.Addr]int)} }

// enter takes a place for a connection from addr; leave gives it back, once.
func (g *gate) enter(addr net.Addr) (leave func(), ok bool) {
	var host netip.Addr
	if ap, err := netip.ParseAddrPort(addr.String()); err == nil {
		host = ap.Addr().Unmap().WithZone("")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= maxHalfOpen || g.hosts[host] >= maxHalfOpenOfHost {
		return nil, false
	}
	g.total++
	g.hosts[host]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.total--
		if g.hosts[host]--; g.hosts[host] == 0 {
			delete(g.hosts, host)
		}
	}, true
}
