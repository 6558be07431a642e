package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mosix/internal/image"
	"mosix/internal/lab"
	"mosix/internal/procfs"
	"mosix/migrator/eligible"
	"mosix/node/api"
	"mosix/test/cluster"
)

// kind is a kind of process that may not move.
type kind struct {
	name string
	args []string
	who  lab.As // whose process it is; user1 asks
	want string // a reason that explain must give
	goes bool   // it moves all the same by command, together with others
}

// explain is line 9.
func explain(b *bench) (figures string, err error) {
	files, err := b.build("kinds")
	if err != nil {
		return "", err
	}
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("explain-%d", os.Getpid()), Nodes: 2, Policy: "none", Bind: files})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	const setid = "/run/set-id"
	if _, err := c.Shell("n1", cluster.Root, fmt.Sprintf(`cp "$(command -v work-kinds)" %[1]s && chmod 4755 %[1]s`, setid)); err != nil {
		return "", fmt.Errorf("make a set-user-id program: %w", err)
	}
	kinds := []kind{
		{"shared memory of a file", []string{"work-kinds", "mapped"}, cluster.User1, eligible.SharedMemory, false},
		{"shared memory of a family", []string{"work-kinds", "shared"}, cluster.User1, eligible.SharedMemory, true},
		{"traced", []string{"work-kinds", "traced"}, cluster.User1, eligible.Traced, false},
		{"its own seccomp filter", []string{"work-kinds", "seccomp"}, cluster.User1, eligible.Seccomp, false},
		{"set-uid", []string{setid, "setid"}, cluster.User1, eligible.SetID, false},
		{"another user's", []string{"work-kinds", "plain"}, lab.As{User: "user2"}, eligible.NotTraceable, false},
		{"root's", []string{"work-kinds", "plain"}, cluster.Root, eligible.Privileged, false},
	}
	for _, k := range kinds {
		why, err := explainKind(c, k)
		if err != nil {
			return "", fmt.Errorf("%s: %w", k.name, err)
		}
		b.progress("%s: %s", k.name, why)
	}
	if _, err := explainKind(c, kind{"plain", []string{"work-kinds", "plain"}, cluster.User1, "", false}); err != nil {
		return "", fmt.Errorf("a process that may move: %w", err)
	}
	for _, r := range []struct{ name, want string }{{"kernel thread", eligible.KernelThread}, {"device mapping", eligible.DeviceMapping}} {
		why, err := recorded(r.want)
		if err != nil {
			return "", fmt.Errorf("%s, recorded: %w", r.name, err)
		}
		b.progress("%s (recorded /proc): %s", r.name, why)
	}
	return "9 kinds, each with its reason, none disturbed", nil
}

// explainKind starts a process of kind k, lets user1, root and a move ask about it, and wants it undisturbed.
func explainKind(c *cluster.Cluster, k kind) (string, error) {
	said := &lineReader{each: func(string) {}}
	cmd := c.Command("n1", k.who, k.args[0], k.args[1:]...)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Signal(9) // it may have ended
		<-ended
	}()
	pid := 0
	if _, ok := cluster.Until(5*time.Second, func() bool {
		_, err := fmt.Sscanf(said.String(), "pid %d", &pid)
		return err == nil
	}); !ok {
		return "", fmt.Errorf("it did not start: %q", said.String())
	}
	time.Sleep(100 * time.Millisecond) // until it waits

	why := ""
	for _, asker := range []lab.As{cluster.User1, cluster.Root} {
		var e api.Explanation
		if err := c.Mosixctl("n1", asker, &e, "explain", fmt.Sprint(pid)); err != nil {
			// what a user may not see of another's process is a reason too, given by the agent's refusal to tell
			if asker.User == "root" || k.want != eligible.NotTraceable && k.want != eligible.Privileged {
				return "", err
			}
			why = err.Error()
			continue
		}
		if (k.want == "" || k.goes) != e.Movable && asker.User != "root" {
			return "", fmt.Errorf("asked by %s: movable: %v, %v", asker.User, e.Movable, e.Refusals)
		}
		if k.want == "" {
			continue
		}
		if asker.User == "root" && k.want == eligible.NotTraceable {
			continue // root may trace it
		}
		sentence, err := hasReason(e.Refusals, k.want)
		if err != nil && asker.User != "root" && k.want == eligible.Privileged {
			sentence, err = hasReason(e.Refusals, eligible.NotTraceable)
		}
		if err != nil {
			return "", fmt.Errorf("asked by %s: %w", asker.User, err)
		}
		if why == "" || asker.User != "root" {
			why = sentence
		}
	}
	if k.want != "" {
		r, err := c.Migrate("n1", cluster.User1, pid, "n2")
		if err != nil {
			return "", err
		}
		due := api.ResultRefused
		if k.goes {
			due = api.ResultMoved
		}
		if r.Result != due {
			return "", fmt.Errorf("a move of it was %s, not %s: %v %s", r.Result, due, r.Refusals, r.Error)
		}
	}
	time.Sleep(100 * time.Millisecond)
	select {
	case err := <-ended:
		ended <- err
		return "", fmt.Errorf("it ended: %v; it says %q", err, said.String())
	default:
	}
	if strings.Contains(said.String(), "disturbed") {
		return "", fmt.Errorf("it was disturbed: %q", said.String())
	}
	return why, nil
}

// hasReason finds the reason want, which must be told in a sentence with its evidence.
func hasReason(rs image.Refusals, want string) (string, error) {
	for _, r := range rs {
		if r.What == want {
			if len(strings.Fields(r.Why)) < 4 {
				return "", fmt.Errorf("the reason %s is no sentence: %q", want, r.Why)
			}
			return r.String(), nil
		}
	}
	return "", fmt.Errorf("the reasons are %v, not %s", rs, want)
}

// recorded judges the recordings of /proc that stand in testdata folders: what explain would say where these processes run.
func recorded(want string) (string, error) {
	root, err := cluster.ModuleRoot()
	if err != nil {
		return "", err
	}
	var others []string
	for _, room := range []string{"internal/procfs", "migrator/eligible"} {
		fs := procfs.FS{Root: filepath.Join(root, room, "testdata", "proc")}
		pids, err := fs.PIDs()
		if err != nil {
			return "", err
		}
		for _, pid := range pids {
			f, err := eligible.Gather(fs, pid, eligible.Options{Thorough: true})
			if err != nil {
				return "", fmt.Errorf("process %d: %w", pid, err)
			}
			rs := eligible.Judge(f, eligible.OwnerOf(f), nil)
			if why, err := hasReason(rs, want); err == nil {
				return why, nil
			}
			others = append(others, fmt.Sprintf("%d: %v", pid, rs))
		}
	}
	return "", fmt.Errorf("no recording has that reason: %s", strings.Join(others, "; "))
}
