package node

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"mosix/homeproxy/guest"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/pack"
)

// What agents learn of the traffic between a guest and its home: what a call between two nodes costs, and how a guest talks.

// price is what a forwarded call between here and another node costs its caller: the lower quartile of the latest, for on a node that
// is busy many take long, and it is not the calls that make it busy.
type price struct {
	last [16]time.Duration
	n    int
}

func (p *price) add(d time.Duration) {
	p.last[p.n%len(p.last)] = d
	p.n++
}

func (p *price) value() time.Duration {
	known := slices.Clone(p.last[:min(p.n, len(p.last))])
	slices.Sort(known)
	return known[len(known)/4]
}

// Bounds of what is believed of a price.
const (
	priceLeast = 10 * time.Microsecond
	priceMost  = time.Second
)

// answered learns from a call to, or from, another node, and how long it took.
func (b *balance) answered(by id.Node, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.prices[by]
	if p == nil {
		p = &price{}
		b.prices[by] = p
	}
	p.add(min(max(took, priceLeast), priceMost))
}

// priceTo is what a call between here and a node costs, as far as it is known.
func (b *balance) priceTo(node id.Node) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.prices[node]; p != nil {
		return p.value()
	}
	return callCost
}

// anyPrice is what a call costs to a node that is not chosen yet: the median of those that are known, which one node that lies, or is far
// away, does not move.
func (b *balance) anyPrice() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.prices) == 0 {
		return callCost
	}
	var known []time.Duration
	for _, p := range b.prices {
		known = append(known, p.value())
	}
	slices.Sort(known)
	return known[len(known)/2]
}

// profile is how a guest talks with its home, as its host sees it and tells home.
type profile struct {
	guest.Traffic
	Talk  float64       // seconds that it waits for home per second of computing
	Price time.Duration // of a call
}

// profile tells how the guest talks with home.
func (t *tenant) profile() profile {
	b := &t.n.balance
	p := profile{Traffic: t.g.Traffic(), Price: b.priceTo(t.g.Process.Home)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if x := b.talks[t.g.Process]; x != nil {
		p.Talk = x.share
	}
	return p
}

func (p profile) encode(w *pack.Writer) {
	for _, v := range []uint64{p.Calls, p.Bytes, p.Births, math.Float64bits(p.Talk), uint64(p.Price)} {
		w.U64(v)
	}
}

// profileSize is that of an encoded profile.
const profileSize = 5 * 8

// decodeProfile reads what follows the usage in the rest of a frame. What a host may say of a guest is bounded: it decides about moves.
func decodeProfile(rest []byte) (p profile, ok bool) {
	used := len(image.Usage{}.Encode())
	if len(rest) < used+profileSize {
		return p, false
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(rest[used+8*i:]) }
	p = profile{guest.Traffic{Calls: word(0), Bytes: word(1), Births: word(2)}, math.Float64frombits(word(3)), time.Duration(word(4))}
	const most = 1000
	if !(p.Talk >= 0) {
		p.Talk = 0
	}
	p.Talk = min(p.Talk, most)
	return p, p.Price > 0
}

// profiled takes what the host says of the guest.
func (a *away) profiled(p profile) {
	a.mu.Lock()
	a.profile = p
	a.mu.Unlock()
	a.n.balance.answered(a.where, p.Price)
}

func (a *away) profiles() profile {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.profile
}
