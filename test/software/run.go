package software

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mosix/internal/id"
	"mosix/internal/lab"
	"mosix/test/cluster"
)

// Run is what a script came to.
type Run struct {
	Out    string
	Said   string // on standard error
	Status int
	Took   time.Duration
}

// Folder is where the scripts lie in every node, and must be bound to.
const Folder = "mosix-software"

// Do runs a script in the home of m, in a folder of its own. While it runs, its processes are moved about if move is set.
func Do(ctx context.Context, c *cluster.Cluster, home id.Node, s Script, m *Mover) (Run, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Patience, fmt.Errorf("it did not end within %v", s.Patience))
	defer cancel()
	way := "native"
	if m != nil {
		way = "moved"
	}
	// The folder with the scripts is found by PATH, whose first entry holds it.
	line := fmt.Sprintf(`d=$(command -v mosixctl); d=${d%%/*}/%s; rm -rf run.%s; mkdir run.%s; cd run.%s; SOFTWARE=$d exec bash $d/%s.sh`, Folder, way, way, way, s.Name)
	cmd := c.CommandContext(ctx, home, cluster.User1, "bash", "-c", line)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return Run{}, err
	}
	mctx, stop := context.WithCancel(ctx)
	defer stop()
	moved := make(chan error, 1)
	if m != nil {
		go func() { moved <- m.About(mctx) }()
	}
	err := cmd.Wait()
	stop()
	var merr error
	if m != nil {
		if merr = <-moved; errors.Is(merr, context.Canceled) {
			merr = nil
		}
	}
	r := Run{Out: out.String(), Said: said.String(), Took: time.Since(began)}
	if e := (*lab.ExitError)(nil); errors.As(err, &e) {
		r.Status, err = e.Code, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r, errors.Join(err, merr)
}

// Differ says in what two runs differ; empty: in nothing.
func Differ(want, got Run) string {
	if want.Status != got.Status {
		return fmt.Sprintf("status %d instead of %d; it says: %s", got.Status, want.Status, tail(got.Said, 15))
	}
	if want.Out == got.Out {
		return ""
	}
	count := map[string]int{}
	for _, l := range strings.Split(want.Out, "\n") {
		count[l]++
	}
	var more []string
	for _, l := range strings.Split(got.Out, "\n") {
		if count[l]--; count[l] < 0 {
			more = append(more, "+ "+l)
		}
	}
	for _, l := range strings.Split(want.Out, "\n") {
		if count[l] > 0 {
			count[l]--
			more = append(more, "- "+l)
		}
	}
	if len(more) == 0 {
		return "the same lines in another order"
	}
	return strings.Join(more[:min(len(more), 20)], "\n")
}

func tail(s string, lines int) string {
	l := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(l[max(0, len(l)-lines):], "\n")
}

// ComeHomes counts, over the agents of c, the guests that had to come home for a call, by its name.
func ComeHomes(c *cluster.Cluster) (map[string]int, error) {
	calls := map[string]int{}
	for _, n := range c.Nodes() {
		text, err := c.Shell(n.Name, cluster.Root, "curl -s --max-time 10 http://127.0.0.1:9464/metrics")
		if err != nil {
			log, _ := c.AgentLog(n.Name) // what it holds tells why the agent does not answer
			return nil, fmt.Errorf("read the metrics of %s: %w; its agent's log ends with:\n%s", n.Name, err, tail(log, 60))
		}
		for line := range strings.Lines(text) {
			rest, ok := strings.CutPrefix(line, `mosix_come_homes_total{call="`)
			name, value, ok2 := strings.Cut(rest, `"} `)
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if ok && ok2 && err == nil && v > 0 {
				calls[name] += int(v)
			}
		}
	}
	return calls, nil
}

// Clear ends what a script has left behind in node, such as a server that it had started.
func Clear(c *cluster.Cluster, home id.Node) error {
	pids, err := processes(c, home)
	if err != nil {
		return err
	}
	for _, p := range pids {
		if err := syscall.Kill(p.machine, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}
