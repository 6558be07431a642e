package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
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
	n := b.n
	told := make([]balancer.Told, len(m.Ask))
	errs := make([]error, len(m.Ask))
	var wg sync.WaitGroup
	for i, name := range m.Ask {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, consultTime)
			defer cancel()
			told[i].Node = name
			if errs[i] = n.tell(ctx, name, request{Op: opOffer, Process: m.Process, Offer: &m.Offer}, &told[i].Answer); errs[i] == nil && !told[i].Answer.OK {
				errs[i] = errors.New(told[i].Answer.Why)
			}
		})
	}
	wg.Wait()
	best := balancer.Choose(told)
	for i, x := range told {
		if i == best || !x.Answer.OK && errs[i] == nil {
			continue
		}
		if x.Answer.OK || errs[i] != nil && !n.isRefusal(x) { // one that did not answer in time may have booked a place
			n.goes(func() {
				ctx, cancel := context.WithTimeout(n.ctx, consultTime)
				defer cancel()
				_ = n.tell(ctx, x.Node, request{Op: opCancel, Process: m.Process}, &struct{}{}) // a place that nobody takes is given up in a minute
			})
		}
	}
	if best < 0 {
		return "", errors.Join(errs...)
	}
	return told[best].Node, nil
}

// isRefusal reports whether a node has answered, and said no.
func (n *Node) isRefusal(x balancer.Told) bool { return !x.Answer.OK && x.Answer.Why != "" }

// onOffer judges what another node asks about.
func (b *balance) onOffer(from id.Node, o balancer.Offer) balancer.Answer {
	o.From, o.Explicit = from, false
	b.n.mu.Lock()
	closing := b.n.closing
	b.n.mu.Unlock()
	if closing {
		return balancer.Answer{Why: fmt.Sprintf("%s is shutting down and takes no guests", b.n.name)}
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
	return gift{Move: &m}
}

// onGive sends a process to an idle node that has chosen it.
func (b *balance) onGive(ctx context.Context, to id.Node, p id.Process) api.MigrateResult {
	for _, c := range b.view().Processes {
		if c.Process != p || c.Unmovable != "" {
			continue
		}
		b.mu.Lock()
		m := balancer.Move{Process: p, To: to, Reason: fmt.Sprintf("%s is idle and has asked for work", to), Offer: balancer.Offer{
			Process: p, From: b.n.name, Load: b.meter.True(now()), CPUs: b.snap.CPUs, Speed: b.snap.Speed, Ready: math.Max(1, c.ReadyLast), Bytes: c.Bytes}}
		b.mu.Unlock()
		return api.MigrateResult{Result: b.begin(ctx, m)}
	}
	return api.MigrateResult{Result: api.ResultRefused}
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
