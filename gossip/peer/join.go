package peer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/mdns"
)

const (
	joinAlone = 2 * time.Second  // between two attempts to reach somebody while this node is alone
	joinAgain = 15 * time.Second // and between looks for seeds and dead members that have come back
	silence   = 5 * time.Second  // without gossip, and five periods, before this node thinks itself forgotten

	mdnsService = "_mosix._tcp"
	mdnsTimeout = time.Second
)

// joinForever reaches out to seeds, to dead members and to whom mDNS finds, as long as they are not known to be alive. Where
// the answer is a stranger's, certificates keep it out.
func (p *Peer) joinForever(ctx context.Context) {
	server := p.announce()
	if server != nil {
		defer server.Shutdown()
	}
	for {
		alive, dead := p.table.addresses()
		// Members that never write may not know of this node, which knows of them: they had it for dead, or elsewhere, when it
		// last told them. They are told again.
		forgotten := len(alive) > 1 && time.Since(p.started)-time.Duration(p.heard.Load()) > silence+5*p.period()
		candidates := dead
		if forgotten {
			candidates = nil // the dead would only take time
			for a := range alive {
				candidates = append(candidates, a)
			}
			p.shuffle(candidates)
			candidates = candidates[:min(3, len(candidates))]
		}
		for _, s := range p.o.Config.Seeds {
			candidates = append(candidates, p.lookup(ctx, s)...)
		}
		if p.o.Config.MDNS {
			candidates = append(candidates, p.discover(ctx)...)
		}
		tried := make(map[netip.AddrPort]bool)
		for _, a := range candidates {
			if ctx.Err() != nil {
				return
			}
			if alive[a] && !forgotten || tried[a] || a == p.addr {
				continue
			}
			tried[a] = true
			if _, err := p.list.Join([]string{a.String()}); err != nil {
				p.log.Debug("cannot join by this address; trying again later", "addr", a.String(), "err", err)
			}
		}
		pause := joinAgain
		if len(alive) <= 1 || forgotten {
			pause = joinAlone
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (p *Peer) shuffle(a []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.o.Rand.Shuffle(len(a), func(i, j int) { a[i], a[j] = a[j], a[i] })
}

func (p *Peer) lookup(ctx context.Context, seed string) []netip.AddrPort {
	host, port, err := net.SplitHostPort(withPort(seed, int(p.addr.Port())))
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		p.log.Warn("seed has a port that is none", "seed", seed, "err", err)
		return nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		p.log.Debug("seed cannot be found; trying again later", "seed", seed, "err", err)
		return nil
	}
	out := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(n)))
	}
	return out
}

// fingerprint tells clusters on one network apart without naming them.
func (p *Peer) fingerprint() string {
	h := sha256.Sum256(p.o.Identity.Authority)
	return "cluster=" + hex.EncodeToString(h[:8])
}

// announce answers those who look for nodes on the local network; nil where that is not wanted, or not possible.
func (p *Peer) announce() *mdns.Server {
	if !p.o.Config.MDNS {
		return nil
	}
	name := p.o.Identity.PeerID()
	s, err := mdns.NewMDNSService(name, mdnsService, "", name+".local.", int(p.addr.Port()), []net.IP{p.addr.Addr().AsSlice()},
		[]string{p.fingerprint()})
	var server *mdns.Server
	if err == nil {
		server, err = mdns.NewServer(&mdns.Config{Zone: s, Iface: p.iface(), Logger: log.New(io.Discard, "", 0)})
	}
	if err != nil {
		p.log.Info("other nodes cannot find this one by mDNS; seeds still work", "err", err)
		return nil
	}
	return server
}

// discover asks the local network for nodes of this cluster.
func (p *Peer) discover(ctx context.Context) []netip.AddrPort {
	entries := make(chan *mdns.ServiceEntry, 256)
	err := mdns.QueryContext(ctx, &mdns.QueryParam{
		Service: mdnsService, Timeout: mdnsTimeout, Interface: p.iface(), Entries: entries,
		DisableIPv6: p.addr.Addr().Is4(), DisableIPv4: p.addr.Addr().Is6(), Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		p.log.Debug("mDNS query failed; trying again later", "err", err)
	}
	close(entries)
	var out []netip.AddrPort
	for e := range entries {
		ip := e.AddrV4
		if ip == nil && e.AddrV6IPAddr != nil {
			ip = e.AddrV6IPAddr.IP
		}
		a, ok := netip.AddrFromSlice(ip)
		if !ok || e.Port <= 0 || e.Port > 65535 {
			continue
		}
		for _, f := range e.InfoFields {
			if f == p.fingerprint() {
				out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(e.Port)))
			}
		}
	}
	return out
}

// iface is the interface that has this node's address; nil for the system's choice.
func (p *Peer) iface() *net.Interface {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for i := range all {
		addrs, err := all[i].Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if ipn, ok := a.(*net.IPNet); ok && ipn.IP.Equal(p.addr.Addr().AsSlice()) {
				return &all[i]
			}
		}
	}
	return nil
}
