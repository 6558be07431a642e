// Accept runs the acceptance lines of the first cluster and prints a table of them: what was asked, what was measured, passed
// or not. Its one invariant: a line passes only by what real commands did in a real lab just now; a line that could not be
// tried has not passed.
//
// Limits in seconds stand here and not in the tests. The tests of this folder run the same checks in a smaller size and
// without limits of time, as part of make test.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mosix/test/cluster"
	"mosix/test/workloads"
)

// check is one acceptance line.
type check struct {
	number int
	what   string
	run    func(*bench) (figures string, err error)
}

// checks lists all of them.
func checks() []check {
	return []check{
		{1, "the demo spreads nine programs by itself, each output as ever", demo},
		{2, "all tests pass", tests},
		{3, "every workload prints the same wherever it runs", everyWorkload},
		{4, "jobs of a shell in a terminal", jobs},
		{5, "crashes and cuts at every step of a move", crashes},
		{6, "a guest sees its home and gets nothing of its host", worlds},
		{7, "nine equal processes on three half processors", spread},
		{8, "freeze and total time", speed},
		{9, "explain says why not, and disturbs nobody", explain},
		{10, "every case of conformance, at home, away and on the move", conform},
		{11, "broken rows of the system-call table are noticed", mutations},
		{12, "real software prints the same while all of it is moved about", realSoftware},
		{13, "clients of an X server draw on while they move", x11},
		{14, "a soak: nothing differs, nothing is left behind", soak},
		{15, "the owner of a machine comes back, and its guests go", ownerReturns},
		{16, "who grows too large goes before the kernel kills anything", usher},
		{17, "jobs spread over unequal nodes about as in the simulator", unequal},
		{18, "the simulator keeps the laws of queues and of ages", laws},
		{19, "ten thousand nodes are played faster than the clock", largeCluster},
	}
}

// bench is what checks share.
type bench struct {
	ctx      context.Context
	full     bool           // the sizes and the limits of the acceptance; otherwise small, and without limits of time
	match    *regexp.Regexp // of the crashes, of the software and of the kinds of the soak, only those whose name it finds; nil: all
	policy   string         // of the agents that spread; "": their own default
	programs *workloads.Programs
	progress func(format string, args ...any)
}

// limit holds a figure to a limit of the acceptance, if limits are wanted.
func (b *bench) limit(what string, got, most time.Duration) error {
	if b.full && got > most {
		return fmt.Errorf("%s took %.2f s, the limit is %.2f s", what, got.Seconds(), most.Seconds())
	}
	return nil
}

// build makes programs of test/workloads.
func (b *bench) build(names ...string) ([]string, error) {
	var files []string
	for _, n := range names {
		f, err := b.programs.Build(n)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// command runs a program in the folder of the sources, shows the last lines of what it says, and returns all of it.
func (b *bench) command(env []string, name string, args ...string) (string, time.Duration, error) {
	root, err := cluster.ModuleRoot()
	if err != nil {
		return "", 0, err
	}
	c := exec.CommandContext(b.ctx, name, args...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGINT) }
	c.WaitDelay = 20 * time.Second
	c.Dir = root
	c.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	began := time.Now()
	err = c.Run()
	took := time.Since(began)
	if err != nil {
		kept := filepath.Join(os.TempDir(), fmt.Sprintf("mosix-accept-%s-%d.log", filepath.Base(name), os.Getpid()))
		err = errors.Join(fmt.Errorf("%s %s: %w; all of it is in %s, it ends:\n%s", name, strings.Join(args, " "), err, kept, tail(out.String(), 25)),
			os.WriteFile(kept, out.Bytes(), 0o600))
	}
	return out.String(), took, err
}

func tail(s string, lines int) string {
	l := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(l[max(0, len(l)-lines):], "\n")
}

func main() {
	only := flag.String("only", "", "numbers of the lines to run, such as 4,6")
	quick := flag.Bool("quick", false, "small sizes, no limits of time")
	match := flag.String("match", "", "of the crashes of line 5, the software of line 12 and the kinds of line 14, only what this regular expression finds, such as \"out, source-after-park: the link is cut\"")
	policy := flag.String("policy", "", "of line 7: how the agents balance (default: their own default)")
	flag.Parse()
	if err := run(*only, *quick, *match, *policy); err != nil {
		fmt.Fprintln(os.Stderr, "accept:", err)
		os.Exit(1)
	}
}

func run(only string, quick bool, match, policy string) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root: run it again with sudo")
	}
	wanted, err := numbers(only)
	if err != nil {
		return err
	}
	some, err := regexp.Compile(match)
	if err != nil {
		return fmt.Errorf("-match: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "mosix-accept-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer cluster.RemovePrograms()
	b := &bench{ctx: ctx, full: !quick, match: some, policy: policy, programs: workloads.NewPrograms(dir), progress: func(format string, args ...any) {
		fmt.Printf("    "+format+"\n", args...)
	}}

	var table strings.Builder
	failed := 0
	for _, c := range checks() {
		if len(wanted) > 0 && !slices.Contains(wanted, c.number) {
			continue
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		fmt.Printf("%d  %s\n", c.number, c.what)
		began := time.Now()
		figures, err := c.run(b)
		verdict := "pass"
		if err != nil {
			verdict, failed = "FAIL", failed+1
			fmt.Printf("    %v\n", err)
			figures = strings.TrimPrefix(figures+"; "+firstLine(err.Error()), "; ")
		}
		fmt.Printf("    %s after %.0f s: %s\n", verdict, time.Since(began).Seconds(), figures)
		fmt.Fprintf(&table, "%d  %-4s  %6.1f s  %-62s  %s\n", c.number, verdict, time.Since(began).Seconds(), c.what, figures)
	}
	fmt.Printf("\n%s", table.String())
	if failed > 0 {
		return fmt.Errorf("%d of the lines failed", failed)
	}
	return nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func numbers(s string) ([]int, error) {
	var out []int
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > len(checks()) {
			return nil, fmt.Errorf("-only %s: want numbers from 1 to %d", s, len(checks()))
		}
		out = append(out, n)
	}
	return out, nil
}
