package freeze

import (
	"fmt"
	"time"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// Birth is a process that a shadow has made: it waits in a slot of its parent's region.
type Birth struct {
	PID     int
	Parent  *region.Region
	Slot    int                         // where it waits there
	Actions [abi.NSig + 1]abi.SigAction // of the parent
	Home    id.Node
	Peer    id.Node // where its guest is about to be
	Lease   time.Duration
	Code    *stub.Code
}

// Settle makes a shadow of its own of a process that a shadow has made: it gets its own region, waits there, and is away from the
// beginning. Should the agent die before, the process waits in its parent's region.
func (b Birth) Settle() (f *image.Family, g *region.Region, err error) {
	start, err := StartTime(b.PID)
	if err != nil {
		return nil, nil, err
	}
	err = tracer.Run(func() error {
		p, err := tracer.Open(b.PID, b.Code)
		if err != nil {
			return err
		}
		defer p.Close()
		t, err := p.Seize(b.PID)
		if err != nil {
			return err
		}
		idle := b.Parent.Slot(b.Slot).Idle // it may not have come to setting its mask yet
		if err := p.Replant(t, b.Parent); err != nil {
			return err
		}
		g = p.Region
		m := image.Process{PID: id.HomePID(b.PID), Actions: b.Actions}
		if m.Areas, m.VDSO, err = Areas(p); err != nil {
			return err
		}
		if err := describe(b.PID, &m); err != nil {
			return err
		}
		th := image.Thread{TID: m.PID, Mask: idle, Comm: m.Comm}
		if th.XState, err = kern.GetXState(t.TID); err != nil {
			return err
		}
		m.Threads = []image.Thread{th}
		f = &image.Family{Process: id.Process{Home: b.Home, PID: m.PID, Start: start}, Epoch: 1, Members: []image.Process{m}}
		if err := g.PutRecord(f.Encode()); err != nil {
			return err
		}
		h := g.Header()
		h.Epoch, h.PID, h.Start = uint64(f.Epoch), uint32(b.PID), start
		PutName(&h.Home, string(b.Home))
		PutName(&h.Peer, string(b.Peer))
		h.LeaseEnd = uint64(kern.Now(kern.ClockBoottime) + int64(b.Lease))
		if err := parkThread(p, g, 0, &th, &m, SignalFDs(b.PID)); err != nil {
			return err
		}
		g.Slot(0).Idle = idle
		h.State = stub.StateAway
		return t.Abandon()
	})
	if err != nil {
		if g != nil {
			g.Close()
		}
		return nil, nil, fmt.Errorf("make a shadow of the new process %d: %w", b.PID, err)
	}
	return f, g, nil
}
