package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"mosix/node/api"
)

func (a *app) statusCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "status",
		Short: "Show the nodes of the cluster",
		Long: `Show the nodes of the cluster as this node knows them. A * marks this node. LOAD is the number of processes ready to run
per unit of capacity; AGE tells how old that news is. Below the table stands where processes of this node cannot go, or may not be
able to come back from: nodes with another processor or another kernel.`,
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
	if err := t.print(a.out, a.width); err != nil {
		return err
	}
	for _, n := range st.Nodes {
		sayDifferences(a.out, n)
	}
	return nil
}

// sayDifferences says what is different about a node, in a line each.
func sayDifferences(w io.Writer, n api.Node) {
	some := func(names []string) string {
		const most = 12
		if len(names) > most {
			return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
		}
		return strings.Join(names, ", ")
	}
	if n.OtherKernel {
		fmt.Fprintf(w, "%s runs another kernel build: processes that move between it and this node take their vDSO along, and clocks cost a system call there\n", n.Name)
	}
	if len(n.CPULacks) > 0 {
		fmt.Fprintf(w, "%s lacks, in its processor (%s): %s; processes of this node do not move there\n", n.Name, printable(n.CPUModel), printable(some(n.CPULacks)))
	}
	if len(n.CPUAlsoHas) > 0 {
		fmt.Fprintf(w, "%s has, in its processor (%s), also: %s; processes of it do not move here\n", n.Name, printable(n.CPUModel), printable(some(n.CPUAlsoHas)))
	}
}
