package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
	"mosix/internal/procfs"
	"mosix/internal/require"
	"mosix/migrator/eligible"
	"mosix/node/api"
	"mosix/node/control"
)

// Where a process may go: by what was required when it was started, and by the rules for its command.

// wanted is what was required of the nodes of processes.
type wanted struct {
	mu      sync.Mutex
	by      map[id.Process]*require.Expr
	asking  atomic.Bool
	lately  []require.Node // what was known of the nodes when it was last asked
	askedAt time.Time
}

// mostWanted bounds the processes whose requirements are remembered.
const mostWanted = 4096

func (n *Node) require(p id.Process, e *require.Expr) error {
	w := &n.wanted
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[id.Process]*require.Expr{}
	}
	for q := range w.by {
		if !isThere(q) {
			delete(w.by, q)
		}
	}
	if len(w.by) >= mostWanted {
		return fmt.Errorf("the requirements of %d processes are remembered, and there is no room for more", mostWanted)
	}
	w.by[p] = e
	return nil
}

// facts is what expressions may ask of the nodes that are alive, this one first. It asks those that were not asked of late.
func (n *Node) facts(ctx context.Context) []require.Node {
	v := n.balance.view()
	numbers := func(x balancer.Node, guests, away uint32) map[string]float64 {
		return map[string]float64{"cpus": x.CPUs, "speed": x.Speed, "load": x.Load, "mem": float64(x.MemFree), "memtotal": float64(x.MemTotal),
			"age": x.Age.Seconds(), "guests": float64(guests), "away": float64(away)}
	}
	self := n.balance.entry()
	out := []require.Node{{Name: string(n.name), Numbers: numbers(v.Self, self.Guests, self.Away)}}
	own := n.describeTarget()
	targets := []*eligible.Target{&own}
	var alive []balancer.Node
	for _, x := range v.Nodes {
		if x.Unfit == "" || x.Unfit == "it takes no guests" {
			alive = append(alive, x)
		}
	}
	told := make([]*eligible.Target, len(alive))
	var wg sync.WaitGroup
	for i, x := range alive {
		wg.Go(func() { told[i] = n.targetOf(ctx, x.Name) })
	}
	wg.Wait()
	counts := map[id.Node][2]uint32{}
	for _, e := range n.peer.View() {
		counts[e.Node] = [2]uint32{e.Guests, e.Away}
	}
	for i, x := range alive {
		if told[i] == nil {
			continue // what it has is not known
		}
		c := counts[x.Name]
		out, targets = append(out, require.Node{Name: string(x.Name), Numbers: numbers(x, c[0], c[1])}), append(targets, told[i])
	}
	for i, t := range targets {
		out[i].Features, out[i].Tags = t.CPU.Features(), t.Tags
		for name, v := range t.Indices {
			if _, own := out[i].Numbers[name]; !own {
				out[i].Numbers[name] = v
			}
		}
	}
	return out
}

// lately is what was known of the nodes a moment ago. It does not wait: older knowledge has it asked for anew.
func (n *Node) lately() []require.Node {
	w := &n.wanted
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.askedAt) > targetAge && w.asking.CompareAndSwap(false, true) {
		n.goes(func() {
			defer w.asking.Store(false)
			now := n.facts(n.ctx)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lately, w.askedAt = now, time.Now()
		})
	}
	return w.lately
}

// barred lists the nodes of v to which a process of this home does not go, and why, and says whether it stays altogether.
func (n *Node) barred(v *balancer.View, p id.Process, command string) (out map[id.Node]string, stays string) {
	n.wanted.mu.Lock()
	own := n.wanted.by[p]
	n.wanted.mu.Unlock()
	r := n.ruleFor(command)
	switch {
	case r == nil && own == nil:
		return nil, ""
	case r != nil && r.Move == "never":
		return nil, fmt.Sprintf("the rule for %q keeps it here", r.Command)
	case r != nil && r.Most > 0:
		away := 0
		n.mu.Lock()
		for _, x := range n.records {
			if (x.away != nil || x.moving) && x.id != p && r.fits(x.comm) {
				away++
			}
		}
		n.mu.Unlock()
		if away >= r.Most {
			return nil, fmt.Sprintf("the rule for %q lets %d go at once, and so many are away", r.Command, r.Most)
		}
	}
	var all, some *require.Expr
	if r != nil {
		all, some = r.require, r.prefer
	}
	if own == nil && all == nil && some == nil {
		return nil, ""
	}
	known := map[id.Node]require.Node{}
	for _, x := range n.lately() {
		known[id.Node(x.Name)] = x
	}
	out = map[id.Node]string{}
	preferred := false
	for _, x := range v.Nodes {
		f, ok := known[x.Name]
		switch {
		case !ok:
			out[x.Name] = "what it has is not known yet"
		case own != nil && !own.Holds(f):
			out[x.Name] = "it was started with --select " + own.String()
		case all != nil && !all.Holds(f):
			out[x.Name] = fmt.Sprintf("the rule for %q requires %s", r.Command, all)
		case some != nil && x.Unfit == "" && some.Holds(f):
			preferred = true
		}
	}
	for _, x := range v.Nodes {
		if f := known[x.Name]; preferred && out[x.Name] == "" && !some.Holds(f) {
			out[x.Name] = fmt.Sprintf("the rule for %q prefers %s, and there are such nodes", r.Command, some)
		}
	}
	return out, ""
}

// barredFrom says why the balancer of its host does not pass a process of this home on to a node, or "".
func (n *Node) barredFrom(p id.Process, r *record, to id.Node) string {
	v := balancer.View{Nodes: []balancer.Node{{Name: to}}}
	n.mu.Lock()
	command := r.comm
	n.mu.Unlock()
	out, stays := n.barred(&v, p, command)
	if stays != "" {
		return stays
	}
	return out[to]
}

// Place implements control.Backend: where a process is to begin that is about to execute a program.
func (n *Node) Place(ctx context.Context, asker control.Asker, req api.PlaceRequest) (api.Placement, error) {
	out := api.Placement{Home: n.name}
	p, err := n.locate(req.PID)
	if err != nil {
		return out, err
	}
	if st, err := procfs.Default.Status(int(req.PID)); err != nil || !asker.Root() && st.UID.Real != asker.UID {
		return out, fmt.Errorf("process %d is not yours: %w", req.PID, control.ErrForbidden)
	}
	v := n.balance.view()
	barred, stays := n.barred(&v, p, commandOf(req.Program))
	if req.Select != "" || req.Order != "" {
		return n.choose(ctx, p, req, barred, v)
	}
	policy, ok := n.balance.policy.(balancer.Placer)
	switch {
	case stays != "":
		out.Why = stays
		return out, nil
	case privileged(int(req.PID)):
		out.Why = "it has rights of root, which no other node gets by itself"
		return out, nil
	case !ok:
		out.Why = fmt.Sprintf("policy %s lets everything begin at home", n.balance.policy.Name())
		return out, nil
	}
	s := &n.balance.births
	s.mu.Lock()
	life := s.whole(req.Program + " " + commandOf(req.Program))
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, birthTime)
	defer cancel()
	n.balance.mu.Lock()
	cost := n.balance.costs.Of(unknownBytes)
	n.balance.mu.Unlock()
	out.To, _, out.Why = n.balance.place(ctx, policy, v, p, balancer.Birth{Life: life, Bytes: unknownBytes, Cost: cost, Barred: barred})
	return out, nil
}

// unknownBytes is the memory that is expected of a process of which nothing is known.
const unknownBytes = 16 << 20

// commandOf is how the kernel will call a process that executes a file.
func commandOf(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	return name[:min(len(name), 15)]
}

// choose finds a node that req selects, and remembers that the process goes to no other.
func (n *Node) choose(ctx context.Context, p id.Process, req api.PlaceRequest, barred map[id.Node]string, v balancer.View) (out api.Placement, err error) {
	out.Home = n.name
	text := req.Select
	if text == "" {
		text = "true"
	}
	sel, err := require.Parse(text)
	if err != nil {
		return out, fmt.Errorf("--select %s: %w: %w", req.Select, err, control.ErrInvalid)
	}
	var order require.Order
	if req.Order != "" {
		if order, err = require.ParseOrder(req.Order); err != nil {
			return out, fmt.Errorf("--order %s: %w: %w", req.Order, err, control.ErrInvalid)
		}
	}
	all := n.facts(ctx)
	for _, name := range slices.Concat(sel.Indices(), order.Indices()) {
		if !slices.ContainsFunc(all, func(x require.Node) bool { _, ok := x.Numbers[name]; return ok }) {
			return out, fmt.Errorf("no node has an index %q, and it is none of the numbers that all have (%s): %w", name, strings.Join(require.Names(), ", "), control.ErrInvalid)
		}
	}
	unfit := map[string]string{}
	for _, x := range v.Nodes {
		unfit[string(x.Name)] = x.Unfit
	}
	fitting := slices.DeleteFunc(slices.Clone(all), func(x require.Node) bool {
		return !sel.Holds(x) || unfit[x.Name] != "" || barred[id.Node(x.Name)] != ""
	})
	if len(fitting) == 0 {
		return out, fmt.Errorf("none of %d nodes fits --select %s now: %w", len(all), req.Select, control.ErrNoNode)
	}
	if req.Order == "" { // what is best for it: the least slowdown
		order, _ = require.ParseOrder("(load + 1) / speed")
	}
	order.Sort(fitting)
	if req.Select != "" {
		if err := n.require(p, sel); err != nil {
			return out, err
		}
	}
	out.Why = fmt.Sprintf("%d of %d nodes fit", len(fitting), len(all))
	if best := id.Node(fitting[0].Name); best != n.name {
		out.To = best
	}
	return out, nil
}
