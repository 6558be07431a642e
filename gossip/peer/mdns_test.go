package peer

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"mosix/internal/config"
	"mosix/internal/id"
)

// Nodes without seeds find each other on the local network, and leave another cluster's nodes alone. It needs a network of
// its own: a network namespace, in a process of its own.
func TestNodesFindEachOtherByMDNS(t *testing.T) {
	const inside = "MOSIX_TEST_MDNS"
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	if os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNodesFindEachOtherByMDNS$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	// One interface with three addresses stands for a network with three nodes: what is multicast on it reaches all of them.
	lan := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan"}, PeerName: "lan2"}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(lan); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.9.8.1/24", "10.9.8.2/24", "10.9.8.3/24"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(lan, addr); err != nil {
			t.Fatal(err)
		}
	}
	lan2, err := netlink.LinkByName("lan2") // plugged in, so that the other end has a carrier
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []netlink.Link{lo, lan, lan2} {
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	// Where a machine has no default route, multicast needs one of its own.
	multicast := &net.IPNet{IP: net.IPv4(224, 0, 0, 0).To4(), Mask: net.CIDRMask(4, 32)}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lan.Attrs().Index, Dst: multicast, Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	ours, theirs := newCluster(t), newCluster(t)
	start := func(c *cluster, addr, name string) *node {
		return c.startAs(c.identity(c.authority, id.Node(name)), config.Config{Bind: addr, MDNS: true}, nil)
	}
	other := start(theirs, "10.9.8.3", "other")
	n1, n2 := start(ours, "10.9.8.1", "n1"), start(ours, "10.9.8.2", "n2")
	eventually(t, "the two nodes of one cluster see each other", allAlive(n1, n2))
	if len(other.Members()) != 1 || n1.state("other") != "" {
		t.Errorf("clusters mixed: %+v, %+v", other.Members(), n1.Members())
	}
}
