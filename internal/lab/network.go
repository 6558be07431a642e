package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Names inside the namespaces. They need not be unique on the machine, whose own network the lab does not touch.
const (
	bridgeName = "mosix"
	nodeLink   = "eth0"
	netBits    = 24
)

func nodeAddress(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

// hub is the network namespace that holds the bridge. It has no process of its own: every init holds it open, so it ends
// with the last of them.
type hub struct {
	file   *os.File
	handle *netlink.Handle
	bridge netlink.Link
}

func newHub() (*hub, error) {
	file, err := newNetNS()
	if err != nil {
		return nil, fmt.Errorf("make the bridge's network namespace: %w", err)
	}
	h := &hub{file: file}
	if h.handle, err = netlink.NewHandleAt(netns.NsHandle(rawFD(file)), syscall.NETLINK_ROUTE); err != nil {
		h.close()
		return nil, fmt.Errorf("open netlink in the bridge's namespace: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	h.bridge = &netlink.Bridge{LinkAttrs: attrs}
	if err := h.handle.LinkAdd(h.bridge); err != nil {
		h.close()
		return nil, fmt.Errorf("make a bridge (kernel option CONFIG_BRIDGE, module bridge): %w", err)
	}
	if err := h.handle.LinkSetUp(h.bridge); err != nil {
		h.close()
		return nil, fmt.Errorf("switch the bridge on: %w", err)
	}
	return h, nil
}

func (h *hub) close() {
	if h.handle != nil {
		h.handle.Close()
	}
	h.file.Close()
}

// plug joins the network namespace of process pid to the bridge, by a pair whose far end is eth0 there.
func (h *hub) plug(name string, pid int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.MasterIndex = h.bridge.Attrs().Index
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: nodeLink, PeerNamespace: netlink.NsPid(pid)}
	if err := h.handle.LinkAdd(pair); err != nil {
		return fmt.Errorf("make a veth pair (kernel option CONFIG_VETH, module veth): %w", err)
	}
	if err := h.handle.LinkSetUp(pair); err != nil {
		return fmt.Errorf("switch %s on: %w", name, err)
	}
	return nil
}

// newNetNS makes a network namespace and leaves every thread where it was.
func newNetNS() (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	c := make(chan result)
	go func() {
		runtime.LockOSThread()
		was, err := netns.Get()
		if err != nil {
			c <- result{err: err}
			return
		}
		defer was.Close()
		ns, err := netns.New()
		if err != nil {
			runtime.UnlockOSThread()
			c <- result{err: err}
			return
		}
		if netns.Set(was) == nil {
			runtime.UnlockOSThread() // otherwise the thread ends with this goroutine
		}
		c <- result{file: os.NewFile(uintptr(ns), "bridge namespace")}
	}()
	r := <-c
	return r.file, r.err
}

// setUpNetwork runs in the init, whose network namespace has lo and eth0 by now.
func setUpNetwork(n Node) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("switch lo on: %w", err)
	}
	eth, err := netlink.LinkByName(nodeLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", nodeLink, err)
	}
	// Nodes have version 4 addresses only, so that a cut link has no other way round. ::1 stays.
	err = os.WriteFile("/proc/sys/net/ipv6/conf/"+nodeLink+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("switch IPv6 off on %s: %w", nodeLink, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(n.Address), Mask: net.CIDRMask(netBits, 32)}}
	if err := netlink.AddrAdd(eth, addr); err != nil {
		return fmt.Errorf("give %s the address %s: %w", nodeLink, n.Address, err)
	}
	if err := netlink.LinkSetUp(eth); err != nil {
		return fmt.Errorf("switch %s on: %w", nodeLink, err)
	}
	return nil
}

// nobody is a hardware address that no card of a lab has.
var nobody = net.HardwareAddr{0x02, 0, 0, 0, 0, 0}

// link cuts this node's way to peer, or heals it. A cut is a wrong, permanent entry in the neighbour table: what is sent to
// peer arrives nowhere, silently, as over a pulled cable, for new and for standing connections. A route that drops would
// instead answer the sender with an error at once.
func (n *nodeInit) link(peer string, cut bool) error {
	ip := net.ParseIP(peer)
	if ip == nil {
		return fmt.Errorf("%q is not an address", peer)
	}
	eth, err := netlink.LinkByName(nodeLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", nodeLink, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.Index(n.cut, peer)
	if cut == (i >= 0) {
		return nil // it is so already
	}
	entry := &netlink.Neigh{LinkIndex: eth.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: nobody}
	if cut {
		if err := netlink.NeighSet(entry); err != nil {
			return fmt.Errorf("cut the way to %s: %w", peer, err)
		}
		n.cut = append(n.cut, peer)
		return nil
	}
	if err := netlink.NeighDel(entry); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("heal the way to %s: %w", peer, err)
	}
	n.cut = slices.Delete(n.cut, i, i+1)
	return nil
}
