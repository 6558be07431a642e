package cluster

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"mosix/internal/lab"
)

// Start makes a lab for a test, which is skipped where that cannot be, and takes it down when the test is over. The agents move nothing
// by themselves unless o says otherwise.
func Start(t testing.TB, o lab.Options) *Cluster {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a lab")
	}
	o.Name = fmt.Sprintf("%s-%d", o.Name, os.Getpid())
	if o.Policy == "" {
		o.Policy = "none"
	}
	c, err := Up(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Says is what the agents have written of the process pid of n1, and what they were unhappy about.
func (c *Cluster) Says(pid int) string {
	if pid == 0 {
		return "" // it never told its number
	}
	var b strings.Builder
	for _, n := range c.Nodes() {
		text, err := c.AgentLog(n.Name)
		if err != nil {
			continue // the other logs may do
		}
		var own, others []string // others say what else went on
		for line := range strings.Lines(text) {
			switch {
			case strings.Contains(line, fmt.Sprintf("=%d@n1 ", pid)):
				own = append(own, line)
			case !strings.Contains(line, "level=INFO") && !strings.Contains(line, "level=DEBUG"):
				others = append(others, line)
			}
		}
		last := func(lines []string, n int) string { return strings.Join(lines[max(0, len(lines)-n):], "") }
		fmt.Fprintf(&b, "--- the agent of %s says of it:\n%s--- … and of others:\n%s", n.Name, last(own, 60), last(others, 10))
	}
	return b.String()
}
