package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
	"mosix/internal/transport"
	"mosix/node/api"
)

// What agents ask one another before anything moves: whether a node would take a process, and what a busy node would give an idle one.

// Requests to another agent; each is answered in JSON.
const (
	opOffer  = "offer"  // request.Offer; a balancer.Answer. Where it says yes a place is booked
	opCancel = "cancel" // request.Process; {}. The place is not needed
	opWant   = "want"   // request.Asker is idle; a gift
	opGive   = "give"   // request.Process, to the asker; an api.MigrateResult
)

// gift is what a busy node would send to an idle one.
type gift struct {
	Move *balancer.Move `json:"move,omitempty"`
	Why  string         `json:"why"` // nothing, if there is no move
}

// consultTime is how long an agent that is asked may take to answer: one that is slower is busy.
const consultTime = time.Second

// tell sends a request to another agent and reads its answer.
func (n *Node) tell(ctx context.Context, to id.Node, q request, answer any) error {
	c, err := n.net.Dial(ctx, to, transport.ProtoControl)
	if err != nil {
		return err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(end)
	}
	if err := json.NewEncoder(c).Encode(q); err != nil {
		return err
	}
	return json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(answer)
}

// consult asks the nodes that m names, all at once, and books a place at the best. "" and the reasons where all have refused.
func (b *balance) consult(ctx context.Context, m balancer.Move) (to id.Node, why error) {
	told, errs := b.survey(ctx, m.Process, m.Ask, m.Offer)
	best := balancer.Choose(told)
	if best < 0 {
		b.giveUp(m.Process, told, "")
		return "", errors.Join(errs...)
	}
	b.giveUp(m.Process, told, told[best].Node)
	return told[best].Node, nil
}

// survey asks nodes, all at once, whether they would take a process. Those that say yes have booked a place, and perhaps one that does not
// answer in time.
func (b *balance) survey(ctx context.Context, p id.Process, ask []id.Node, o balancer.Offer) ([]balancer.Told, []error) {
	told := make([]balancer.Told, len(ask))
	errs := make([]error, len(ask))
	var wg sync.WaitGroup
	for i, name := range ask {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, consultTime)
			defer cancel()
			told[i].Node = name
			if errs[i] = b.n.tell(ctx, name, request{Op: opOffer, Process: p, Offer: &o}, &told[i].Answer); errs[i] == nil && !told[i].Answer.OK {
				errs[i] = errors.New(told[i].Answer.Why)
			}
		})
	}
	wg.Wait()
	return told, errs
}

// giveUp gives back the places that nodes have booked, but for the one at to. It does not wait.
func (b *balance) giveUp(p id.Process, told []balancer.Told, to id.Node) {
	n := b.n
	for _, x := range told {
		if refused := !x.Answer.OK && x.Answer.Why != ""; refused || x.Node == to {
			continue // one that did not answer in time may have booked a place all the same
		}
		n.goes(func() {
			ctx, cancel := context.WithTimeout(n.ctx, consultTime)
			defer cancel()
			_ = n.tell(ctx, x.Node, request{Op: opCancel, Process: p}, &struct{}{}) // a place that nobody takes is given up in a minute
		})
	}
}

// onOffer judges what another node asks about.
func (b *balance) onOffer(from id.Node, o balancer.Offer) balancer.Answer {
	o.From, o.Explicit = from, false
	if _, why := b.n.closed(); why != "" {
		return balancer.Answer{Why: fmt.Sprintf("%s takes no guests: %s", b.n.name, why)}
	}
	if why := b.n.crowded(newcomers{home: o.Process.Home, count: 1, bytes: o.Bytes, ready: o.Ready}); why != "" {
		return balancer.Answer{Why: fmt.Sprintf("%s takes no more guests like it: %s", b.n.name, why)}
	}
	return b.book(o)
}

// cancel gives a booked place up.
func (b *balance) cancel(p id.Process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.meter.Cancel(p)
}

// onWant chooses what would be sent to an idle node.
func (b *balance) onWant(asker balancer.Node) gift {
	p, ok := b.policy.(balancer.Puller)
	if !ok {
		return gift{Why: "the policy here gives nothing away"}
	}
	m, no := p.Give(b.view(), asker, now(), b.random())
	if no != "" {
		return gift{Why: no}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gifts == nil {
		b.gifts = map[id.Node]promised{}
	}
	b.gifts[asker.Name] = promised{m, now()}
	return gift{Move: &m}
}

// promised is a move that was offered to an idle node.
type promised struct {
	m  balancer.Move
	at time.Duration
}

// giftTime is how long an idle node may take to choose.
const giftTime = 5 * time.Second

// onGive sends a process to an idle node that has chosen it: one that was offered to it a moment ago, for nobody takes what he likes.
func (b *balance) onGive(ctx context.Context, to id.Node, p id.Process) api.MigrateResult {
	b.mu.Lock()
	g, ok := b.gifts[to]
	delete(b.gifts, to)
	b.mu.Unlock()
	if !ok || g.m.Process != p || now()-g.at > giftTime {
		return api.MigrateResult{Result: api.ResultRefused, Error: fmt.Sprintf("%v was not offered to %s", p, to)}
	}
	if b.isLeaving(p) {
		return api.MigrateResult{Result: api.ResultRefused, Error: fmt.Sprintf("%v is on its way already", p)}
	}
	b.n.sends(g.m, nil)
	return api.MigrateResult{Result: b.act(ctx, g.m, b.note(g.m))}
}

// isLeaving reports whether a process is about to be sent somewhere.
func (b *balance) isLeaving(p id.Process) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.attempts {
		if a.Process == p && a.Outcome == balancer.Pending {
			return true
		}
	}
	return false
}

// pull asks for work where this node is idle and its policy wants some, and has the best of what is offered sent here.
func (b *balance) pull(v balancer.View) {
	p, ok := b.policy.(balancer.Puller)
	if !ok {
		return
	}
	b.mu.Lock()
	busy := b.pulling
	b.mu.Unlock()
	if busy {
		return
	}
	ask := p.Pull(v, now(), b.random())
	if len(ask) == 0 {
		return
	}
	b.mu.Lock()
	b.pulling = true
	b.mu.Unlock()
	b.n.goes(func() {
		defer func() {
			b.mu.Lock()
			b.pulling = false
			b.mu.Unlock()
		}()
		b.fetch(ask, v.Self)
	})
}

func (b *balance) fetch(ask []id.Node, self balancer.Node) {
	n := b.n
	gifts := make([]gift, len(ask))
	var wg sync.WaitGroup
	for i, name := range ask {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(n.ctx, consultTime)
			defer cancel()
			if err := n.tell(ctx, name, request{Op: opWant, Asker: &self}, &gifts[i]); err != nil {
				n.log.Debug("a node that was asked for work does not answer", "node", name, "err", err)
			}
		})
	}
	wg.Wait()
	best := -1
	for i, g := range gifts {
		if g.Move != nil && (best < 0 || g.Move.Gain > gifts[best].Move.Gain) {
			best = i
		}
	}
	if best < 0 {
		return
	}
	m := gifts[best].Move
	n.log.Info("idle, and asks for work", "process", m.Process, "from", ask[best], "reason", m.Reason)
	ctx, cancel := context.WithTimeout(n.ctx, 2*time.Minute)
	defer cancel()
	var res api.MigrateResult
	if err := n.tell(ctx, ask[best], request{Op: opGive, Process: m.Process}, &res); err != nil || res.Result != api.ResultMoved {
		n.log.Info("what was asked for does not come", "process", m.Process, "from", ask[best], "result", res.Result, "err", err)
	}
}
