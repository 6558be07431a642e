package gossip_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"mosix/gossip"
	"mosix/internal/id"
)

// One period of one node in a large cluster: its tick, and what two others send it. A simulated minute of 10,000 nodes is
// 600,000 of them.
func BenchmarkPeriod(b *testing.B) {
	const n = 1000
	names := make([]id.Node, n)
	for i := range names {
		names[i] = id.Node("node-" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)))
	}
	roster := gossip.NewList(names...)
	nodes := make(map[id.Node]*gossip.Machine, n)
	for i, name := range names {
		nodes[name] = gossip.New(name, roster, rand.New(rand.NewPCG(1, uint64(i))), gossip.Config{})
	}
	now := time.Duration(0)
	period := func(name id.Node) {
		now += time.Millisecond
		m := nodes[name]
		m.Update(gossip.Entry{LoadMilli: 1500}, now)
		m.Tick(now)
		for _, p := range m.Ready().Send {
			nodes[p.To].Step(name, p.Msg, now)
			for _, ack := range nodes[p.To].Ready().Send {
				m.Step(p.To, ack.Msg, now)
			}
		}
	}
	for i := range 20 * n {
		period(names[i%n])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		period(names[i%n])
	}
}
