package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/id"
	"mosix/internal/lab"
)

func TestParseLabFlags(t *testing.T) {
	if got, err := parseCPUs([]string{"0.5", "2", "0"}); err != nil || fmt.Sprint(got) != "[0.5 2 0]" {
		t.Errorf("CPUs: %v, %v", got, err)
	}
	for _, bad := range []string{"", "x", "-1", "1.5.2", "NaN", "Inf"} {
		if got, err := parseCPUs([]string{bad}); err == nil {
			t.Errorf("%q CPUs are %v", bad, got)
		}
	}
	got, drifts, err := parseClocks([]string{"n2=+3s", "drift=200ppm", "n1=-250ms", "n3=0s", "drift=-50"})
	if err != nil || len(got) != 3 || got["n2"] != 3*time.Second || got["n1"] != -250*time.Millisecond || len(drifts) != 2 || drifts["n2"] != 200 || drifts["n3"] != -50 {
		t.Errorf("clocks: %v, drifting %v, %v", got, drifts, err)
	}
	for _, bad := range []string{"", "n2", "n2=", "=3s", "n2=3", "drift=3ppm", "n2=1s drift=", "n2=1s drift=1s", "n2=1s drift=600000ppm"} {
		if got, _, err := parseClocks(strings.Split(bad, " ")); err == nil {
			t.Errorf("clock %q is %v", bad, got)
		}
	}
}

func TestTerminalEnv(t *testing.T) {
	got := terminalEnv([]string{"TERM=xterm", "LC_ALL=C", "LD_PRELOAD=x", "PATH=/root/bin", "LANGUAGE=de", "LANG=C.UTF-8", "HOME=/root"})
	if want := "TERM=xterm LC_ALL=C LANG=C.UTF-8"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestLabTable(t *testing.T) {
	var out bytes.Buffer
	err := sayLab(&out, lab.Status{Name: "x", Dir: "/d", Nodes: []lab.NodeStatus{
		{Node: lab.Node{Name: "n1", Address: "10.77.0.1", CPUs: 0.5, Memory: 512 << 20}, Up: true, Agent: lab.Agent{Running: true, PID: 7, HostPID: 4711}, CutFrom: []id.Node{"n2", "n3"}},
		{Node: lab.Node{Name: "n2", Address: "10.77.0.2", ClockSkew: 3 * time.Second}, Up: true, Agent: lab.Agent{Ended: "signal: killed"}},
		{Node: lab.Node{Name: "n3", Address: "10.77.0.3"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, want := range [][]string{{"Lab x, 3 nodes"}, {"NODE", "CUT FROM", "AGENT"}, {"n1", "up", "0.5", "512", "n2 n3", "process 4711"}, {"n2", "up", "3s", "ended: signal: killed"}, {"n3", "down"}} {
		for _, w := range want {
			if !strings.Contains(lines[i], w) {
				t.Errorf("line %d: %q, want %q in it", i, lines[i], w)
			}
		}
	}
}

// The command line as people and the issue write it.
func TestLabCommandLine(t *testing.T) {
	for line, want := range map[string]string{
		"exec":                              "requires at least 1 arg",
		"exec --root --user user2 n1 -- id": "root user",
		"exec -t -T n1":                     "no-tty tty",
		"link n1 n2":                        "at least one of the flags",
		"link n1 n2 --cut --heal":           "cut heal",
		"agent n1":                          "accepts 2 arg",
		"up --cpus many":                    "not a number of CPUs",
		"up --clock n2":                     "not NODE=SKEW",
		"up --memory lots":                  "not a size",
		"up extra":                          "unknown command",
		"down extra":                        "unknown command",
	} {
		c := labCommand()
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(strings.Fields(line))
		c.SetOut(new(bytes.Buffer))
		c.SetErr(new(bytes.Buffer))
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lab %s: %v, want %q", line, err, want)
		}
	}
	if c := labInitCommand(); !c.Hidden || c.Name() != lab.InitCommand {
		t.Errorf("%s is shown in the help", c.Name())
	}
	var exec *cobra.Command
	for _, c := range labCommand().Commands() {
		if c.Name() == "exec" {
			exec = c
		}
	}
	if err := exec.ParseFlags([]string{"--user", "user2", "n1", "--", "ls", "--root", "-l"}); err != nil {
		t.Fatal(err)
	}
	if got := exec.Flags().Args(); fmt.Sprint(got) != "[n1 -- ls --root -l]" {
		t.Errorf("exec's arguments are %q", got)
	}
	if b, err := json.Marshal(lab.Status{Nodes: []lab.NodeStatus{{Node: lab.Node{Name: "n1", Address: "a"}}}}); err != nil || !strings.Contains(string(b), `"nodes":[{"name":"n1","address":"a","up":false,"agent":{"running":false}`) {
		t.Errorf("status as JSON: %s, %v", b, err)
	}
}
