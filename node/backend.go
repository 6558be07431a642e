package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/procfs"
	"mosix/migrator/eligible"
	"mosix/node/api"
	"mosix/node/control"
)

// Status implements control.Backend.
func (n *Node) Status(ctx context.Context) (api.Status, error) {
	var st api.Status
	view := map[id.Node]api.Node{}
	for _, e := range n.peer.View() {
		view[e.Node] = api.Node{Load: float64(e.UpperMilli) / 1000, CPUs: float64(e.CPUMilli) / 1000, Speed: float64(e.SpeedMilli) / 1000,
			MemTotalBytes: e.MemTotal, MemFreeBytes: e.MemFree, Guests: int(e.Guests), Away: int(e.Away), AgeSeconds: e.Age.Seconds()}
	}
	for _, m := range n.peer.Members() {
		x := view[m.Name]
		if m.Self {
			e := n.balance.entry()
			x = api.Node{Load: float64(e.UpperMilli) / 1000, CPUs: float64(e.CPUMilli) / 1000, Speed: float64(e.SpeedMilli) / 1000,
				MemTotalBytes: e.MemTotal, MemFreeBytes: e.MemFree, Guests: int(e.Guests), Away: int(e.Away)}
		}
		x.Name, x.ID, x.Address, x.State, x.Self = m.Name, m.PeerID, m.Addr.String(), string(m.State), m.Self
		st.Nodes = append(st.Nodes, x)
	}
	sort.Slice(st.Nodes, func(i, j int) bool { return st.Nodes[i].Name < st.Nodes[j].Name })
	n.differences(ctx, st.Nodes)
	return st, nil
}

// Processes implements control.Backend.
func (n *Node) Processes(_ context.Context, asker control.Asker, all bool) ([]control.Process, error) {
	var out []control.Process
	seen := map[id.HomePID]bool{}
	guests := map[int]bool{}
	var rows []*record
	n.mu.Lock()
	for _, r := range n.records {
		rows = append(rows, r)
	}
	ts := slices.Collect(maps.Values(n.guests))
	n.mu.Unlock()
	for _, t := range ts {
		p := t.profile()
		guests[t.g.PID], guests[t.g.Den.KeeperID] = true, true
		out = append(out, control.Process{UID: control.NoOwner, Process: api.Process{PID: t.g.Process.PID, Home: t.g.Process.Home, Where: n.name,
			User: "-", Command: t.command, State: api.ProcessAway, CPUSeconds: t.cpu().Seconds(), RSSBytes: rss(t.g.PID), Threads: len(t.g.Threads()),
			Moves: int(t.g.Epoch), Epoch: t.g.Epoch, ForwardedCalls: p.Calls, ForwardedBytes: p.Bytes, Talk: p.Talk}})
	}
	for _, r := range rows {
		if p, ok := n.row(r); ok {
			seen[p.PID] = true
			out = append(out, p)
		}
	}
	for _, c := range n.balance.processes() {
		if seen[id.HomePID(c.PID)] || guests[c.PID] {
			continue
		}
		p, ok := n.describe(c.PID, asker)
		if ok && (all || len(p.Refusals) == 0 && len(n.unfit(c.PID)) == 0) {
			seen[p.PID] = true
			out = append(out, p)
		}
	}
	if all {
		pids, err := procfs.Default.PIDs()
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			if seen[id.HomePID(pid)] || guests[pid] {
				continue
			}
			if p, ok := n.describe(pid, asker); ok {
				out = append(out, p)
			}
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Home != out[j].Home {
			return out[i].Home == n.name || out[j].Home != n.name && out[i].Home < out[j].Home
		}
		return out[i].PID < out[j].PID
	})
	return out, nil
}

// row describes a process that has moved, or is moving.
func (n *Node) row(r *record) (control.Process, bool) {
	st, err := procfs.Default.Stat(int(r.id.PID))
	if err != nil || st.Start != r.id.Start {
		n.mu.Lock()
		if r.away == nil && !r.moving {
			delete(n.records, r.id)
		}
		n.mu.Unlock()
		return control.Process{}, false
	}
	status, err := procfs.Default.Status(int(r.id.PID))
	if err != nil {
		return control.Process{}, false
	}
	cmd, _ := procfs.Default.Cmdline(int(r.id.PID))
	p := control.Process{UID: status.UID.Real, Process: api.Process{PID: r.id.PID, Home: n.name, Where: n.name, User: userName(status.UID.Real),
		Command: commandText(cmd, st.Comm), State: api.ProcessHome, CPUSeconds: cpuOf(st).Seconds(), RSSBytes: status.VMRSSBytes, Threads: st.Threads}}
	n.mu.Lock()
	defer n.mu.Unlock()
	p.CPUSeconds += float64(r.used.Run) / 1e9
	p.WrittenPerSecond = r.written
	p.Moves, p.Epoch, p.Locked = r.moves, r.epoch, time.Now().Before(r.lockedUntil)
	if a := r.away; a != nil {
		p.Where, p.State = a.where, api.ProcessAway
		a.mu.Lock()
		p.CPUSeconds = max(a.cpu.Seconds(), p.CPUSeconds)
		p.ForwardedCalls, p.ForwardedBytes, p.Talk = a.profile.Calls, a.profile.Bytes, a.profile.Talk
		a.mu.Unlock()
		if p.Command == "" {
			p.Command = r.comm
		}
	}
	if r.moving {
		p.State = api.ProcessMoving
	}
	return p, true
}

// describe describes a process that has not moved.
func (n *Node) describe(pid int, asker control.Asker) (control.Process, bool) {
	f, err := eligible.Gather(procfs.Default, pid, eligible.Options{})
	if err != nil {
		return control.Process{}, false
	}
	return n.fromFacts(f, asker), true
}

func (n *Node) fromFacts(f eligible.Facts, asker control.Asker) control.Process {
	return control.Process{UID: f.Status.UID.Real, Process: api.Process{PID: id.HomePID(f.PID), Home: n.name, Where: n.name, User: userName(f.Status.UID.Real),
		Command: commandText(f.Command, f.Stat.Comm), State: api.ProcessHome, CPUSeconds: cpuOf(f.Stat).Seconds(), RSSBytes: f.Status.VMRSSBytes,
		Threads: f.Stat.Threads, Refusals: eligible.Judge(f, n.rights(asker, false), nil)}}
}

// cpuOf is the CPU time that a process has used.
func cpuOf(st procfs.Stat) time.Duration {
	return time.Duration(st.UTime+st.STime) * time.Second / procfs.TicksPerSecond
}

func commandText(words []string, comm string) string {
	if len(words) == 0 {
		return "[" + comm + "]"
	}
	return strings.Join(words, " ")
}

func rss(pid int) uint64 {
	st, err := procfs.Default.Status(pid)
	if err != nil {
		return 0
	}
	return st.VMRSSBytes
}

// rights is what an asker may do, for package eligible.
func (n *Node) rights(a control.Asker, privileged bool) eligible.Asker {
	e := eligible.Asker{UID: a.UID, GID: a.GID, Root: a.Root(), AllowPrivileged: privileged && a.Root()}
	if a.PID > 0 {
		if st, err := procfs.Default.Status(int(a.PID)); err == nil {
			e.Caps = st.Caps.Permitted
		}
	}
	return e
}

// Migrate implements control.Backend.
func (n *Node) Migrate(ctx context.Context, asker control.Asker, req api.MigrateRequest) (api.MigrateResult, error) {
	if req.Home != "" && req.Home != n.name {
		return n.askHome(ctx, asker, req)
	}
	p, err := n.locate(req.PID)
	if err != nil {
		return api.MigrateResult{}, err
	}
	o := order{cause: causeCommand, strategy: req.Strategy, asker: n.rights(asker, req.AllowPrivileged)}
	n.mu.Lock()
	r := n.records[p]
	out := r != nil && r.away != nil
	n.mu.Unlock()
	if out && !asker.Root() && asker.UID != r.uid {
		return api.MigrateResult{PID: p.PID, Home: n.name, From: r.away.where, To: id.Node(req.To), Result: api.ResultRefused,
			Refusals: image.Refusals{{What: eligible.NotTraceable, Why: "The process belongs to another user; ask that user, or root."}}}, nil
	}
	switch req.To {
	case api.ToHome:
		o.to = n.name
	case api.ToBest:
		to, why := n.balance.best(p)
		if to == "" {
			return api.MigrateResult{PID: p.PID, Home: n.name, From: n.name, To: n.name, Result: api.ResultRefused,
				Refusals: image.Refusals{{What: "no-better-node", Why: "No other node would do better: " + why}}}, nil
		}
		o.to = to
	default:
		o.to = id.Node(req.To)
		if !n.knows(o.to) {
			return api.MigrateResult{}, fmt.Errorf("node %q: %w; mosixctl status lists them", req.To, control.ErrNoNode)
		}
	}
	return n.carry(context.WithoutCancel(ctx), p, o), nil
}

func (n *Node) knows(x id.Node) bool {
	for _, m := range n.peer.Members() {
		if m.Name == x {
			return true
		}
	}
	return false
}

// Explain implements control.Backend.
func (n *Node) Explain(_ context.Context, asker control.Asker, pid id.HomePID, home id.Node) (control.Explanation, error) {
	if home != "" && home != n.name {
		return control.Explanation{}, fmt.Errorf("%d@%s: ask the agent of %s, the home of the process: %w", pid, home, home, control.ErrInvalid)
	}
	p, err := n.locate(pid)
	if err != nil {
		return control.Explanation{}, err
	}
	n.mu.Lock()
	r := n.records[p]
	isAway := r != nil && r.away != nil
	n.mu.Unlock()
	if isAway {
		row, ok := n.row(r)
		if !ok {
			return control.Explanation{}, fmt.Errorf("process %d: %w", pid, control.ErrNoProcess)
		}
		return control.Explanation{UID: row.UID, Explanation: api.Explanation{Process: row.Process, Movable: asker.Root() || asker.UID == row.UID, Candidate: true}}, nil
	}
	fs, err := gatherFamily(int(pid))
	if err != nil {
		return control.Explanation{}, fmt.Errorf("process %d: %w: %v", pid, control.ErrNoProcess, err)
	}
	f := fs[0]
	f.Family = nil // by itself
	row := n.fromFacts(f, asker)
	if r != nil {
		if moved, ok := n.row(r); ok {
			row.Process.Moves, row.Process.Epoch, row.Process.Locked = moved.Moves, moved.Epoch, moved.Locked
		}
	}
	e := control.Explanation{UID: row.UID, Explanation: api.Explanation{Process: row.Process}}
	e.Refusals = eligible.Judge(f, n.rights(asker, false), nil)
	e.Movable = len(e.Refusals) == 0
	if rs := judgeFamily(fs, n.rights(asker, false), nil); len(fs) > 1 && len(rs) == 0 {
		e.Movable = true
		for _, x := range fs[1:] {
			e.Family = append(e.Family, id.HomePID(x.PID))
		}
	} else if len(fs) > 1 {
		e.Refusals = rs
	}
	e.Unfit = n.balance.unfit(f, false)
	e.Candidate = len(eligible.Judge(f, eligible.OwnerOf(f), nil)) == 0 && len(e.Unfit) == 0 && !row.Locked
	e.Process.Refusals = e.Refusals
	return e, nil
}

// unfit says why a process is no candidate, from what the last sample knows.
func (n *Node) unfit(pid int) image.Refusals {
	f, err := eligible.Gather(procfs.Default, pid, eligible.Options{})
	if err != nil {
		return image.Refusals{{What: "gone"}}
	}
	return n.balance.unfit(f, false)
}

// Moves implements control.Backend.
func (n *Node) Moves(context.Context, control.Asker) ([]control.Move, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]control.Move(nil), n.history...), nil
}
