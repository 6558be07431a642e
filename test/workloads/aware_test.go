package workloads

import (
	"strings"
	"testing"

	"mosix/internal/lab"
	"mosix/test/cluster"
)

// TestAware: a program that knows of migration finds out where it is, moves itself, there and on and home, and asks to be left alone.
func TestAware(t *testing.T) {
	file, err := programs.Build("aware")
	if err != nil {
		t.Fatal(err)
	}
	c := cluster.Start(t, lab.Options{Name: "aware", Nodes: 3, Policy: "none", Bind: []string{file}})
	out, err := c.Shell("n1", cluster.User1, Program("aware")+" n2 n2 n3 moon home")
	const want = `n1 n1 <nil>
to n2 true false false
n2 n1 <nil>
to n2 true false false
n2 n1 <nil>
to n3 true false false
n3 n1 <nil>
to moon false false false
n3 n1 <nil>
to home true false false
n1 n1 <nil>
stay <nil>
go <nil>
`
	if err != nil || strings.TrimSpace(out) != strings.TrimSpace(want) {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
	if out, err := c.Shell("n1", cluster.User1, "MOSIX_SOCKET=/none "+Program("aware")+" n2"); err == nil && out == "" {
		t.Error("nothing is said where there is no agent")
	}
}
