package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"mosix/internal/fault"
	"mosix/internal/id"
	"mosix/migrator/eligible"
	"mosix/node/api"
)

// What a process would find on another node: its processor and kernel.

// poorer, armed with an error, makes a node say that its processor has no AVX and nothing that came after it: for tests of
// processors that differ, on one machine.
var poorer = fault.Register("processor-without-avx")

const (
	opTarget   = "target"
	targetAge  = 10 * time.Second // for how long an answer is good
	targetTime = 2 * time.Second
)

// targets is what other nodes have told of themselves.
type targets struct {
	mu   sync.Mutex
	told map[id.Node]told
}

type told struct {
	t  *eligible.Target // nil: it did not say
	at time.Time
}

// describeTarget is this node's answer.
func (n *Node) describeTarget() eligible.Target {
	t := *n.target
	if poorer.Hit() != nil {
		t.CPU = t.CPU.Without("avx")
	}
	t.Tags, t.Indices = n.conf.Tags, n.indices.values()
	return t
}

// targetOf asks a node what a process would find there. nil means that it cannot be known: an older agent, or one out of reach.
func (n *Node) targetOf(ctx context.Context, node id.Node) *eligible.Target {
	n.targets.mu.Lock()
	old, ok := n.targets.told[node]
	n.targets.mu.Unlock()
	if ok && old.t != nil && time.Since(old.at) < targetAge {
		return old.t
	}
	t, err := n.askTarget(ctx, node)
	if err != nil {
		n.log.Debug("a node does not say what a process would find there", "node", node, "err", err)
		return old.t
	}
	n.targets.mu.Lock()
	defer n.targets.mu.Unlock()
	if n.targets.told == nil {
		n.targets.told = map[id.Node]told{}
	}
	n.targets.told[node] = told{t, time.Now()}
	return t
}

func (n *Node) askTarget(ctx context.Context, node id.Node) (*eligible.Target, error) {
	ctx, cancel := context.WithTimeout(ctx, targetTime)
	defer cancel()
	var t eligible.Target
	if err := n.tell(ctx, node, request{Op: opTarget}, &t); err != nil {
		return nil, err
	}
	if t.Name == "" || len(t.CPU.Words) == 0 {
		return nil, fmt.Errorf("%s answered something else: its agent is older", node)
	}
	return &t, nil
}

// differences fills in what the processors of other nodes have and lack. It asks those that were not asked of late, all at once.
func (n *Node) differences(ctx context.Context, nodes []api.Node) {
	var wg sync.WaitGroup
	for i := range nodes {
		x := &nodes[i]
		x.CPULacks, x.CPUAlsoHas = []string{}, []string{}
		if x.Self {
			x.CPUModel = n.target.CPU.Model
			continue
		}
		if x.State != "alive" {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if t := n.targetOf(ctx, x.Name); t != nil {
				x.CPUModel = t.CPU.Model
				x.CPULacks = append(x.CPULacks, eligible.Missing(n.target.CPU, t.CPU)...)
				for _, set := range eligible.Wider(n.target.CPU, t.CPU) {
					x.CPULacks = append(x.CPULacks, "an XSAVE area without "+set)
				}
				x.CPUAlsoHas = append(x.CPUAlsoHas, eligible.Missing(t.CPU, n.target.CPU)...)
				x.OtherKernel = t.VDSOBuildID != n.target.VDSOBuildID
			}
		}()
	}
	wg.Wait()
}
