package workloads

import (
	"fmt"
	"strings"

	"mosix/test/cluster"
)

// Logs is what the agents have written of the process pid of n1, of others that they name with it, and what they were unhappy about.
func Logs(c *cluster.Cluster, pid int) string {
	var b strings.Builder
	for _, n := range c.Nodes() {
		text, err := c.AgentLog(n.Name)
		if err != nil {
			continue // the other logs may do
		}
		var lines []string
		for line := range strings.Lines(text) {
			if strings.Contains(line, fmt.Sprintf("=%d@n1 ", pid)) || !strings.Contains(line, "level=INFO") && !strings.Contains(line, "level=DEBUG") {
				lines = append(lines, line)
			}
		}
		fmt.Fprintf(&b, "--- the agent of %s says of it:\n%s", n.Name, strings.Join(lines[max(0, len(lines)-25):], ""))
	}
	return b.String()
}
