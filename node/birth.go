package node

import (
	"encoding/binary"
	"fmt"

	"mosix/homeproxy"
	"mosix/homeproxy/guest"
	"mosix/homeproxy/shadow"
	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/migrator"
	"mosix/migrator/freeze"
	"mosix/migrator/thaw"
)

// bear makes a shadow of its own of a process that a's shadow has made. Asked again for the same it answers the same.
func (a *away) bear(pid, slot int) (about homeproxy.Blob, err error) {
	n := a.n
	tell := func(p id.Process, e id.Epoch) homeproxy.Blob {
		return homeproxy.Blob{Data: binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, p.Start), uint64(e))}
	}
	start, err := freeze.StartTime(pid)
	if err != nil {
		return about, err
	}
	p := id.Process{Home: n.name, PID: id.HomePID(pid), Start: start}
	n.mu.Lock()
	known := n.records[p]
	n.mu.Unlock()
	if known != nil && known.away != nil {
		return tell(p, known.away.epoch), nil
	}
	if slot <= 0 {
		_ = kern.Kill(pid, 9)
		return about, fmt.Errorf("the new process %d does not stand where it was put", pid)
	}
	done, ok := a.use()
	if !ok {
		return about, fmt.Errorf("%v is away no longer", a.r.id)
	}
	defer done()
	f, g, err := freeze.Birth{PID: pid, Parent: a.region, Slot: slot, Actions: a.shadow().Actions(), Home: n.name, Peer: a.where,
		Lease: n.env.MoveLease + migrator.Margin, Code: n.code}.Settle()
	if err != nil {
		_ = kern.Kill(pid, 9) // it has never run, and must not wait for ever
		return about, err
	}
	child, err := n.depart(n.record(f.Process), f, g, a.where)
	if err != nil {
		g.Close()
		_ = kern.Kill(pid, 9)
		return about, err
	}
	child.memory.Store(memoryGoing)
	if err := child.sh.Release(&f.Members[0], thaw.Kept, func() { child.memory.Store(memoryGone) }); err != nil {
		child.memory.Store(memoryHeld)
	}
	return tell(f.Process, f.Epoch), nil
}

var _ shadow.Born = (*away)(nil).bear

// Born implements guest.Link: a process that a guest has made here becomes a guest itself.
func (t *tenant) Born(b guest.Newborn) error {
	c := &tenant{n: t.n, uid: t.uid, command: t.command, came: t.came, done: make(chan struct{}), held: make(chan struct{}, 1), parent: t}
	o := b.Options
	o.Link = c
	g, err := guest.New(o)
	if err != nil {
		return err
	}
	// Until it has attached it lives no longer than home waits for it.
	g.SetDeadline(uint64(kern.Now(kern.ClockBoottime) + int64(t.n.env.MoveLease)))
	c.take(g)
	g.Begin()
	return nil
}
