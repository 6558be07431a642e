package peer

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"

	"mosix/internal/id"
	"mosix/internal/identity"
)

// delegate is what memberlist asks and tells. Its methods run under memberlist's lock.
type delegate struct {
	meta  func() []byte
	inbox chan<- []byte
	table *table
	stats *counters
}

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.AliveDelegate = (*delegate)(nil)
	_ memberlist.MergeDelegate = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
	_ memberlist.PingDelegate  = (*delegate)(nil)
)

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(limit int) []byte {
	b := d.meta()
	if len(b) > limit { // cannot be: a certificate has 300 bytes at most
		return nil
	}
	return b
}

// NotifyMsg implements memberlist.Delegate: a gossip datagram, from whom it says.
func (d *delegate) NotifyMsg(b []byte) {
	select {
	case d.inbox <- append([]byte(nil), b...):
	default:
		d.stats.overrun.Add(1)
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState([]byte, bool) {}

// NotifyAlive implements memberlist.AliveDelegate: who is no member does not come in, whoever speaks for it.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if _, _, err := d.table.verify(n); err != nil {
		d.stats.strangers.Add(1)
		return fmt.Errorf("%s at %s is not a member: %w", n.Name, n.Address(), err)
	}
	return nil
}

// NotifyMerge implements memberlist.MergeDelegate: whoever brings a node that never was a member, itself in the first place,
// is not merged with at all. A member whose time is over, or whose certificate was replaced, is only left out.
func (d *delegate) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		if n.State == memberlist.StateDead || n.State == memberlist.StateLeft {
			continue
		}
		if _, _, err := d.table.verify(n); err != nil && !errors.Is(err, identity.ErrExpired) && !errors.Is(err, errOutdated) {
			d.stats.strangers.Add(1)
			return fmt.Errorf("%s at %s is not a member: %w", n.Name, n.Address(), err)
		}
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.table.join(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.table.update(n) }

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.table.leave(n) }

// AckPayload implements memberlist.PingDelegate.
func (d *delegate) AckPayload() []byte { return nil }

// NotifyPingComplete implements memberlist.PingDelegate.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, _ []byte) {
	d.table.answered(id.Node(n.Name))
}
