package sim

// fluid is one station with the processors of all nodes, whose jobs share them at no cost. Its mean slowdown is that of M/M/c with
// Erlang's formula, whatever the lifetimes are.
type fluid struct{}

func (fluid) begin(*cluster)           {}
func (fluid) place(c *cluster, j *job) { c.run(j, c.nodes[0]) }
func (fluid) idle(*cluster, *node)     {}

// placer knows how many jobs every node has. A job goes to the node with the fewest, its home where that is one of them (join the
// shortest queue). With steals, a node that becomes idle gets the job that gains most by a move, whose remaining time is known.
type placer struct{ steals bool }

func (p *placer) begin(*cluster) {}

// slowdown is what one more job would have on n.
func slowdown(n *node) float64 {
	return n.capacity.Slowdown(n.capacity.Of(float64(len(n.jobs) + n.booked + 1)))
}

func (p *placer) place(c *cluster, j *job) {
	best, least, same := j.home, slowdown(j.home), 1
	for _, n := range c.nodes {
		switch s := slowdown(n); {
		case s < least:
			best, least, same = n, s, 1
		case s == least && best != j.home:
			if same++; c.rng.IntN(same) == 0 {
				best = n
			}
		}
	}
	// What is won by a shorter queue must be worth the start elsewhere.
	if gain := (slowdown(j.home) - least) * j.work; best != j.home && gain <= c.conf.RemoteStart.Seconds() {
		best = j.home
	}
	best.booked++
	c.startAt(j, best, func() { best.booked-- })
}

func (p *placer) idle(c *cluster, n *node) {
	if !p.steals || n.booked > 0 {
		return
	}
	there := slowdown(n)
	var best *job
	most := 0.0
	for _, o := range c.nodes {
		here := o.capacity.Slowdown(o.capacity.Of(float64(len(o.jobs))))
		if len(o.jobs) < 2 || here <= there {
			continue
		}
		for _, j := range o.jobs {
			// The job wins by the move, and those that it leaves win as if it had ended; both as far as the present queues last.
			r := o.remains(j)
			gain := r*(here-there) - c.cost(o, n, j.bytes).Seconds()
			if gain > most {
				best, most = j, gain
			}
		}
	}
	if best == nil {
		return
	}
	n.booked++
	c.move(best, n, func(bool) { n.booked-- })
}
