package node

import (
	"context"
	"errors"
	"time"

	"mosix/homeproxy"
	"mosix/homeproxy/shadow"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/procfs"
	"mosix/migrator/eligible"
)

// What a process of this home is while it is away: what it has used there, and whether it may still be there.

// charge enters into an image what the process has used away up to now.
func (r *record) charge(m *image.Process) {
	m.Away = r.used
	for i := range m.Threads {
		m.Threads[i].Away = r.usedBy[m.Threads[i].TID]
	}
}

// usedAway is the CPU time of former absences, ns.
func (r *record) usedAway() uint64 { return r.used.Run }

// settle takes what the process has used away from the image with which it came home. Node.mu is held.
func (r *record) settle(m *image.Process) {
	r.used, r.usedBy = m.Away, map[id.HomePID]image.Usage{}
	for i := range m.Threads {
		r.usedBy[m.Threads[i].TID] = m.Threads[i].Away
	}
}

// attend makes a know what its shadow does that concerns others.
func (a *away) attend(sh *shadow.Shadow) {
	sh.OnBorn, sh.OnChange, sh.OnWritten = a.bear, a.look, a.outdated
	sh.OnExit = func(u image.Usage) { a.n.kin.note(a.r.id, u) }
	sh.Children = func() image.Usage { return a.n.kin.of(a.r.id) }
	sh.Amend = func(nr uint32, args [6]uint64, ret int64, out []homeproxy.Blob) {
		a.n.kin.amend(a.r.id, nr, args, ret, out)
	}
}

// privileged reports whether a process has rights of root.
func privileged(pid int) bool {
	st, err := procfs.Default.Status(pid)
	if err != nil {
		return false
	}
	for _, u := range st.UID.All() {
		if u == 0 {
			return true
		}
	}
	return st.Caps.Permitted|st.Caps.Effective|st.Caps.Ambient != 0
}

// look calls the process home where a call that it has made there has taken the right to be away from it, or has given it more
// rights than it left with: no host gets those. It does not wait.
func (a *away) look() {
	a.changes.Add(1)
	if a.looking.CompareAndSwap(false, true) {
		a.n.goes(a.lookAgain)
	}
}

// lookAgain looks until nothing has changed since it began to.
func (a *away) lookAgain() {
	for {
		seen := a.changes.Load()
		rs, err := a.standing()
		if err == nil && len(rs) > 0 {
			a.notHere(rs[0])
		}
		if a.changes.Load() != seen {
			continue
		}
		a.looking.Store(false)
		if a.changes.Load() == seen || !a.looking.CompareAndSwap(false, true) {
			return
		}
	}
}

// outdated calls the process home since somebody has written a file of which it has parts.
func (a *away) outdated() {
	a.n.goes(func() {
		a.notHere(image.Refusal{What: "file-written", Evidence: "a file that it has mapped"})
	})
}

func (a *away) standing() (image.Refusals, error) {
	f, err := eligible.Gather(procfs.Default, int(a.r.id.PID), eligible.Options{})
	if err != nil {
		return nil, err
	}
	return eligible.Standing(f, eligible.Asker{Root: true, AllowPrivileged: a.privileged}), nil
}

func (a *away) notHere(why image.Refusal) {
	a.n.log.Info("a process may not be away any more, and is called home", "process", a.r.id, "where", a.where, "why", why.What, "evidence", why.Evidence)
	ctx, cancel := context.WithTimeoutCause(a.n.ctx, time.Minute, errors.New("its host did not send it home within a minute"))
	defer cancel()
	if err := a.n.recall(ctx, a.r, causeComeHome); err != nil {
		a.n.log.Warn("a process that may not be away could not be called home", "process", a.r.id, "err", err)
	}
}
