package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"mosix/node/api"
)

// nodeCollector turns one Snapshot per scrape into gauges, so that all of them are of the same moment.
type nodeCollector struct{ snapshot func() Snapshot }

var _ prometheus.Collector = (*nodeCollector)(nil)

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descLoad       = gauge("mosix_load", "Ready processes per unit of capacity over the last period.")
	descMean       = gauge("mosix_load_mean", "The node's own view of its load: rises slowly, falls at once.")
	descUpper      = gauge("mosix_load_exported", "The load that others are told: rises at once, falls slowly.")
	descCapacity   = gauge("mosix_capacity_cpus", "CPUs of the node, or its quota, times their speed.")
	descMemTotal   = gauge("mosix_memory_total_bytes", "Memory of the node, or of its cgroup.")
	descMemFree    = gauge("mosix_memory_free_bytes", "Memory of the node, or of its cgroup, that is free.")
	descGuests     = gauge("mosix_guests", "Processes of other homes that run here.")
	descAway       = gauge("mosix_away", "Processes of this home that run elsewhere.")
	descCandidates = gauge("mosix_candidates", "Processes that the balancer may move now.")
	descLocked     = gauge("mosix_locked", "Processes that came home and stay for a while.")
	descMembers    = gauge("mosix_members", "Nodes of the cluster as membership sees them, by state.", "state")
	descEntryLoad  = gauge("mosix_vector_load", "Load of another node as gossip has brought it.", "node")
	descEntryAge   = gauge("mosix_vector_age_seconds", "Age of the entry about another node in the load vector.", "node")

	nodeDescs = []*prometheus.Desc{
		descLoad, descMean, descUpper, descCapacity, descMemTotal, descMemFree, descGuests, descAway, descCandidates, descLocked,
		descMembers, descEntryLoad, descEntryAge,
	}
)

func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range nodeDescs {
		ch <- d
	}
}

func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.snapshot()
	put := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	put(descLoad, s.Load)
	put(descMean, s.Mean)
	put(descUpper, s.Upper)
	put(descCapacity, s.Capacity)
	put(descMemTotal, float64(s.MemTotal))
	put(descMemFree, float64(s.MemFree))
	put(descGuests, float64(s.Guests))
	put(descAway, float64(s.Away))
	put(descCandidates, float64(s.Candidates))
	put(descLocked, float64(s.Locked))
	// Every state is always there, so that a rule on "dead" does not have to know whether the series exists.
	for _, state := range []string{api.NodeAlive, api.NodeSuspect, api.NodeDead, api.NodeLeft} {
		put(descMembers, float64(s.Members[state]), state)
	}
	for _, e := range s.Vector {
		put(descEntryLoad, e.Load, string(e.Node))
		put(descEntryAge, e.Age.Seconds(), string(e.Node))
	}
}
