package node

import (
	"context"
	"testing"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
	"mosix/node/api"
)

// TestNobodyTakesWhatHeLikes: an idle node gets the process that it was offered a moment ago, and nothing else.
func TestNobodyTakesWhatHeLikes(t *testing.T) {
	p, other := id.Process{Home: "n1", PID: 100, Start: 1}, id.Process{Home: "n1", PID: 101, Start: 2}
	for name, b := range map[string]*balance{
		"nothing was offered":          {},
		"another process was":          {gifts: map[id.Node]promised{"n2": {balancer.Move{Process: other}, now()}}},
		"another node was offered it":  {gifts: map[id.Node]promised{"n3": {balancer.Move{Process: p}, now()}}},
		"long ago":                     {gifts: map[id.Node]promised{"n2": {balancer.Move{Process: p}, now() - giftTime - time.Second}}},
		"it is on its way to somebody": {gifts: map[id.Node]promised{"n2": {balancer.Move{Process: p}, now()}}, attempts: []balancer.Attempt{{Process: p, To: "n4", Outcome: balancer.Pending}}},
	} {
		b.n = &Node{name: "n1"}
		if r := b.onGive(context.Background(), "n2", p); r.Result != api.ResultRefused || r.Error == "" {
			t.Errorf("%s: %+v", name, r)
		}
		if _, left := b.gifts["n2"]; left {
			t.Errorf("%s: the offer can be taken again", name)
		}
	}
}
