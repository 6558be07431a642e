package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSim(t *testing.T) {
	run := func(args ...string) (out, said string, status int) {
		status, out, said = mosixctl("", 0, append([]string{"sim"}, args...)...)
		return out, said, status
	}
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{"--nodes", "0"}, "--nodes 0"}, {[]string{"--rho", "0"}, "--rho 0"}, {[]string{"--rho", "1"}, "rho = 1"}, {[]string{"--policy", "best"}, `"best" is not known`},
		{[]string{"--lifetime", "exp:-1"}, "--lifetime"}, {[]string{"--lifetime", "file:/nonexistent"}, "/nonexistent"}, {[]string{"--memory", "fixed:1XB"}, "--memory"},
		{[]string{"--speeds", "1,x"}, `"x" is no number`}, {[]string{"--memories", "0"}, "memories"}, {[]string{"--bandwidth", "much"}, "--bandwidth"}, {[]string{"64"}, "unknown"},
	} {
		if _, said, status := run(x.args...); status != ExitUsage || !strings.Contains(said, x.want) {
			t.Errorf("sim %v: status %d, %q; want %d and %q", x.args, status, said, ExitUsage, x.want)
		}
	}
	args := []string{"--nodes", "8", "--jobs", "400", "--policy", "none,default,jsq", "--seed", "1,2"}
	out, said, status := run(args...)
	if status != 0 || strings.Count(out, "\n") != 7 || !strings.HasPrefix(out, "POLICY") {
		t.Errorf("status %d, %s\n%s", status, said, out)
	}
	var r simReport
	first, _, _ := run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(first), &r); err != nil || len(r.Results) != 6 || r.Results[1].Policy != "default" || r.Results[3].Seed != 2 || r.Results[0].Jobs != 340 {
		t.Errorf("%v: %s", err, first)
	}
	if again, _, _ := run(append(args, "--json")...); again != first {
		t.Errorf("the same seeds give\n%s\nand\n%s", first, again)
	}
}
