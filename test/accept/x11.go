package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
	"mosix/test/software"
)

// x11 moves clients of an X server while they draw. Pictures of their display stay in bin, to be looked at.
func x11(b *bench) (figures string, err error) {
	for _, need := range []string{"Xvfb", "xclock", "xeyes", "xwd", "xwdtopnm", "pnmtopng"} {
		if _, err := exec.LookPath(need); err != nil {
			return "", fmt.Errorf("not tried, there is no %s: install xvfb x11-apps netpbm", need)
		}
	}
	root, err := cluster.ModuleRoot()
	if err != nil {
		return "", err
	}
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("x11-%d", os.Getpid()), Nodes: 2, Policy: "none"})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	x := &display{c: c, dir: filepath.Join(root, "bin")}
	defer x.end()
	if err := x.start("Xvfb", ":7", "-screen", "0", "400x200x24", "-nolisten", "tcp"); err != nil {
		return "", err
	}
	if _, ok := cluster.Until(20*time.Second, func() bool { _, err := x.shoot(""); return err == nil }); !ok {
		return "", errors.New("the X server does not show anything within 20 s")
	}
	empty, err := x.shoot("")
	if err != nil {
		return "", err
	}
	clients := [][]string{{"xclock", "-update", "1", "-geometry", "180x180+0+0"}, {"xeyes", "-geometry", "180x180+200+0"}}
	for _, args := range clients {
		if err := x.start(args[0], args[1:]...); err != nil {
			return "", err
		}
	}
	if _, ok := cluster.Until(20*time.Second, func() bool { p, err := x.shoot(""); return err == nil && !bytes.Equal(p, empty) }); !ok {
		return "", errors.New("the clients draw nothing within 20 s")
	}
	time.Sleep(2 * time.Second)
	if _, err := x.shoot("x11-home.png"); err != nil {
		return "", err
	}
	moves := 0
	for _, to := range []string{"n2", api.ToHome, "n2"} {
		for _, client := range x.all[1:] {
			r, err := c.Migrate("n1", cluster.User1, client.PID(), to)
			if err != nil || r.Result != api.ResultMoved {
				return "", fmt.Errorf("move %s to %s: %v %s %s %v", client.Args[0], to, err, r.Result, r.Error, r.Refusals)
			}
			moves++
		}
		// The clock's hand goes on; the eyes follow the pointer.
		was, err := x.shoot("")
		if err != nil {
			return "", err
		}
		if _, ok := cluster.Until(20*time.Second, func() bool { p, err := x.shoot(""); return err == nil && !bytes.Equal(p, was) }); !ok {
			return "", fmt.Errorf("nothing on the display changes any more at %s", to)
		}
		if p, err := c.Process("n1", x.all[1].PID()); err != nil || to != api.ToHome && string(p.Where) != to {
			return "", fmt.Errorf("xclock drew at %s, where it should be at %s: %v", p.Where, to, err)
		}
	}
	time.Sleep(2 * time.Second)
	if _, err := x.shoot("x11-away.png"); err != nil {
		return "", err
	}
	homes, err := software.ComeHomes(c)
	if err != nil {
		return "", err
	}
	if x := software.Unlisted(homes); len(x) > 0 {
		return "", fmt.Errorf("a client came home %s", strings.Join(x, "; "))
	}
	return fmt.Sprintf("xclock and xeyes draw on over %d moves, came home for: %s; see bin/x11-home.png and bin/x11-away.png", moves, cmp.Or(software.Most(homes), "nothing")), nil
}

// display is an X server in n1 and its clients.
type display struct {
	c   *cluster.Cluster
	dir string
	all []*lab.Cmd // the server first
}

func (x *display) start(name string, args ...string) error {
	as := cluster.User1
	as.Env = []string{"DISPLAY=:7"}
	cmd := x.c.Command("n1", as, name, args...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	x.all = append(x.all, cmd)
	return nil
}

// shoot takes a picture of the display, as a PNG, and keeps it under name, if that is not empty.
func (x *display) shoot(name string) ([]byte, error) {
	p, err := x.c.Command("n1", cluster.User1, "sh", "-c", "DISPLAY=:7 xwd -root -silent 2>/dev/null | xwdtopnm 2>/dev/null | pnmtopng 2>/dev/null").Output()
	if err == nil && !strings.HasPrefix(string(p), "\x89PNG") {
		err = errors.New("there is no picture of the display")
	}
	if err == nil && name != "" {
		err = os.WriteFile(filepath.Join(x.dir, name), p, 0o644)
	}
	return p, err
}

func (x *display) end() {
	for i := len(x.all) - 1; i >= 0; i-- {
		_ = x.all[i].Signal(syscall.SIGKILL) // it may have ended
		_ = x.all[i].Wait()
	}
}
