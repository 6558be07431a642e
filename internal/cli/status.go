package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"mosix/node/api"
)

func (a *app) statusCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "status",
		Short: "Show the nodes of the cluster",
		Long: `Show the nodes of the cluster as this node knows them. A * marks this node. LOAD is the number of processes ready to run
per unit of capacity; AGE tells how old that news is.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := a.client().Status(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(st)
			}
			return a.printStatus(st)
		},
	})
}

func (a *app) printStatus(st api.Status) error {
	t := table{columns: []column{
		{title: " "}, {title: "NODE"}, {title: "STATE"}, {"LOAD", true}, {"CPUS", true}, {"SPEED", true}, {"MEMORY", true}, {"FREE", true},
		{"GUESTS", true}, {"AWAY", true}, {"AGE", true}, {title: "ADDRESS"},
	}}
	for _, n := range st.Nodes {
		self := " "
		if n.Self {
			self = "*"
		}
		t.add(self, string(n.Name), n.State, fmt.Sprintf("%.2f", n.Load), number(n.CPUs), fmt.Sprintf("%.2f", n.Speed),
			humanBytes(n.MemTotalBytes), humanBytes(n.MemFreeBytes), strconv.Itoa(n.Guests), strconv.Itoa(n.Away),
			humanSeconds(n.AgeSeconds), n.Address)
	}
	return t.print(a.out, a.width)
}
