package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/transport"
	"mosix/migrator/eligible"
	"mosix/node/api"
	"mosix/node/control"
)

// request is what one agent asks of another: to move a process whose home the other is.
type request struct {
	Op      string     `json:"op"`
	Process id.Process `json:"process"`
	To      id.Node    `json:"to"`
	Cause   string     `json:"cause"`
	Load    float64    `json:"load"`
	Ready   float64    `json:"ready"`
	CPUs    float64    `json:"cpus"`
	Speed   float64    `json:"speed"`
	Relief  bool       `json:"relief,omitempty"` // memory is short where it is

	Offer *balancer.Offer `json:"offer,omitempty"` // of opOffer
	Asker *balancer.Node  `json:"asker,omitempty"` // of opWant
}

const maxRequest = 64 << 10

// backHold is how long a guest is not passed on to a node that it has left.
const backHold = 2 * time.Minute

// onControl answers another agent.
func (n *Node) onControl(c transport.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	var q request
	if err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&q); err != nil {
		return
	}
	switch q.Op {
	case opTarget:
		_ = json.NewEncoder(c).Encode(n.describeTarget())
		return
	case opHasGuest:
		_ = json.NewEncoder(c).Encode(n.hasGuest(c.Peer(), q.Process))
		return
	case opOffer:
		if q.Offer != nil {
			_ = json.NewEncoder(c).Encode(n.balance.onOffer(c.Peer(), *q.Offer))
		}
		return
	case opCancel:
		n.balance.cancel(q.Process)
		_ = json.NewEncoder(c).Encode(struct{}{})
		return
	case opWant:
		if q.Asker != nil {
			q.Asker.Name = c.Peer()
			_ = json.NewEncoder(c).Encode(n.balance.onWant(*q.Asker))
		}
		return
	case opGive:
		_ = json.NewEncoder(c).Encode(n.balance.onGive(n.ctx, c.Peer(), q.Process))
		return
	}
	var res api.MigrateResult
	n.mu.Lock()
	r := n.records[q.Process]
	fits := r != nil && r.away != nil && r.away.where == c.Peer()
	var left time.Time
	var pinned bool
	if fits {
		left, pinned = r.left[q.To], r.pinned
	}
	n.mu.Unlock()
	barred := ""
	if fits {
		barred = n.barredFrom(q.Process, r, q.To)
	}
	switch {
	case q.Op != "pass-on":
		res = api.MigrateResult{Result: api.ResultFailed, Error: fmt.Sprintf("%s does not know the request %q", n.name, q.Op)}
	case !fits:
		res = api.MigrateResult{Result: api.ResultFailed, Error: fmt.Sprintf("%v is not a guest of %s", q.Process, c.Peer())}
	case pinned:
		res = api.MigrateResult{Result: api.ResultRefused, Refusals: image.Refusals{{What: "locked", Why: "The process is locked: its home's balancer leaves it where it is (mosixctl lock)."}}}
	case barred != "":
		res = api.MigrateResult{Result: api.ResultRefused, Refusals: image.Refusals{{What: "not-for-it", Why: fmt.Sprintf("%s is not for it: %s.", q.To, barred)}}}
	case time.Since(left) < backHold && !q.Relief: // only home knows where it has been
		res = api.MigrateResult{Result: api.ResultRefused, Refusals: image.Refusals{{What: "came-from-there", Why: fmt.Sprintf(
			"The process left %s %.0f s ago, and does not go back so soon.", q.To, time.Since(left).Seconds())}}}
	default:
		o := order{to: q.To, cause: causeBalancer, auto: true, relief: q.Relief, load: q.Load, ready: q.Ready, cpus: q.CPUs, speed: q.Speed, asker: eligible.Asker{Root: true}}
		res = n.carry(n.ctx, q.Process, o)
	}
	_ = json.NewEncoder(c).Encode(res)
}

// passOn lets the home of a guest move it elsewhere, as the balancer here wants.
func (n *Node) passOn(ctx context.Context, m balancer.Move) string {
	n.mu.Lock()
	t := n.guests[m.Process]
	n.mu.Unlock()
	if t == nil {
		return api.ResultFailed
	}
	if m.To == m.Process.Home {
		if err := n.sendHome(t, causeBalancer); err != nil {
			n.log.Warn("a guest could not be sent home", "process", m.Process, "err", err)
			return api.ResultFailed
		}
		return api.ResultMoved
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var res api.MigrateResult
	if err := n.tell(ctx, m.Process.Home, request{Op: "pass-on", Process: m.Process, To: m.To, Cause: causeBalancer, Load: m.Offer.Load, Ready: m.Offer.Ready,
		CPUs: m.Offer.CPUs, Speed: m.Offer.Speed, Relief: m.Offer.Relief}, &res); err != nil {
		n.log.Warn("the home of a guest does not pass it on", "process", m.Process, "to", m.To, "err", err)
		return api.ResultFailed
	}
	return res.Result
}

// askHome moves a guest of this node by a command that was given here: only root may, and only home or away from here.
func (n *Node) askHome(ctx context.Context, asker control.Asker, req api.MigrateRequest) (api.MigrateResult, error) {
	n.mu.Lock()
	var t *tenant
	for _, x := range n.guests {
		if x.g.Process.Home == req.Home && x.g.Process.PID == req.PID {
			t = x
		}
	}
	n.mu.Unlock()
	if t == nil {
		return api.MigrateResult{}, fmt.Errorf("%d@%s is no guest of this node: %w; ask the agent of %s", req.PID, req.Home, control.ErrNoProcess, req.Home)
	}
	res := api.MigrateResult{PID: req.PID, Home: req.Home, From: n.name, To: id.Node(req.To), Result: api.ResultFailed, Refusals: image.Refusals{}}
	if !asker.Root() {
		return res, fmt.Errorf("a guest of another node is moved here by root only: %w", control.ErrForbidden)
	}
	if req.To == api.ToHome {
		res.To = req.Home
	}
	t0 := time.Now()
	if res.To == req.Home {
		err := n.sendHome(t, causeCommand)
		if err != nil {
			res.Error = err.Error()
			return res, nil
		}
		res.Result, res.TotalMS = api.ResultMoved, ms(time.Since(t0))
		return res, nil
	}
	res.Result = n.passOn(ctx, balancer.Move{Process: t.g.Process, To: res.To})
	res.TotalMS = ms(time.Since(t0))
	return res, nil
}
