package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/creack/pty"
)

// exec starts a program for the asker and stays until it has ended. An asker that goes away before is a terminal that was
// hung up: the program's group gets SIGHUP.
func (n *nodeInit) exec(c conn, req *execRequest, files []*os.File) {
	fail := func(err error, code int) {
		_ = c.send(reply{Error: err.Error(), Code: code}, 0) // an asker that is gone asks no more
	}
	if req == nil || !req.TTY && len(files) != 3 {
		fail(errors.New("the request came without its standard descriptors"), exitNoExec)
		return
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		fail(err, exitNoExec)
		return
	}
	who, err := findAccount(string(passwd), req.User)
	if err != nil {
		fail(err, exitNoExec)
		return
	}
	var master *os.File
	if req.TTY {
		var slave *os.File
		if master, slave, err = openTerminal(who, req.Rows, req.Cols); err != nil {
			fail(fmt.Errorf("make a terminal: %w", err), exitNoExec)
			return
		}
		files = []*os.File{slave, slave, slave}
		defer slave.Close()
	}
	p, err := n.startProgram(who, req, files)
	if err != nil {
		code := exitNoExec
		if errors.Is(err, syscall.ENOENT) {
			code = exitNoEntry
		}
		if master != nil {
			master.Close()
		}
		fail(err, code)
		return
	}
	// The asker and the program hold these now; with one more holder, nobody would ever see them close.
	for _, f := range files {
		f.Close()
	}
	started := reply{PID: p.pid}
	if master != nil {
		err = c.send(started, p.pid, master)
		master.Close()
	} else {
		err = c.send(started, p.pid)
	}
	if errors.Is(err, syscall.ESRCH) { // it has ended and was reaped already: there is no number to translate
		err = c.send(started, 0)
	}
	if err == nil {
		go n.followAsker(c, p)
	} else {
		n.hangUp(p)
	}
	<-p.done
	st, _ := p.ended()
	_ = c.send(reply{Ended: true, Code: exitCode(st)}, 0)
}

// followAsker passes signals on until the connection ends, by either side.
func (n *nodeInit) followAsker(c conn, p *child) {
	for {
		var req request
		if _, _, err := c.receive(&req); err != nil {
			n.hangUp(p)
			return
		}
		if s := syscall.Signal(req.Signal); s > 0 && s < 65 {
			n.procs.signal(p, -p.pid, s)
		}
	}
}

func (n *nodeInit) hangUp(p *child) {
	n.procs.signal(p, -p.pid, syscall.SIGHUP)
	n.procs.signal(p, -p.pid, syscall.SIGCONT)
}

// exitCode is the status as a shell's $? has it.
func exitCode(st syscall.WaitStatus) int {
	if st.Signaled() {
		return 128 + int(st.Signal())
	}
	return st.ExitStatus()
}

// openTerminal makes a terminal in the node's own /dev/pts that belongs to who.
func openTerminal(who account, rows, cols uint16) (master, slave *os.File, err error) {
	if master, slave, err = pty.Open(); err != nil {
		return nil, nil, err
	}
	slave.Fd() // for its side effect: programs expect a terminal that blocks
	err = os.Chown(slave.Name(), int(who.uid), ttyGroup())
	if err == nil && rows > 0 && cols > 0 {
		err = pty.Setsize(master, &pty.Winsize{Rows: rows, Cols: cols})
	}
	if err != nil {
		master.Close()
		slave.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

// startProgram starts req's program as who, in a session of its own, inside the node's quota.
func (n *nodeInit) startProgram(who account, req *execRequest, files []*os.File) (*child, error) {
	args := req.Args
	if len(args) == 0 {
		args = []string{who.shell}
	}
	dir := req.Dir
	if dir == "" {
		dir = who.home
	}
	env := environment(who, dir, req.Env)
	sys := &syscall.SysProcAttr{Setsid: true, Setctty: req.TTY, Ctty: 0}
	// No groups but its own. For root too this drops those of whoever started the lab.
	sys.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid, Groups: []uint32{}}
	fds := make([]uintptr, len(files))
	for i, f := range files {
		fds[i] = rawFD(f)
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return nil, fmt.Errorf("start %s in folder %s: the node has no such folder (its /tmp, /var/tmp, /run and /home are its own)", args[0], dir)
	}
	// As execvp: the next place is tried where there is no such file or no right to execute it, and a denied right is told
	// only if no place had a better answer.
	result := error(syscall.ENOENT)
	for _, path := range places(args[0], env) {
		c, err := n.procs.start(func() (int, error) {
			return inCgroups(n.spec.Node.Users, func(cgroupFD int) (int, error) {
				s := *sys
				s.UseCgroupFD, s.CgroupFD = cgroupFD >= 0, cgroupFD
				attr := &syscall.ProcAttr{Dir: dir, Env: env, Files: fds, Sys: &s}
				pid, err := syscall.ForkExec(path, args, attr)
				if errors.Is(err, syscall.ENOEXEC) { // a script without #!
					pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", path}, args[1:]...), attr)
				}
				return pid, err
			})
		})
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, syscall.EACCES):
			result = err
		case !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ENOTDIR):
			return nil, fmt.Errorf("start %s as %s: %w", path, who.name, err)
		}
	}
	if errors.Is(result, syscall.ENOENT) {
		return nil, fmt.Errorf("start %s as %s: the node has no such program in its PATH; --bind FILE of lab up brings one: %w", args[0], who.name, result)
	}
	return nil, fmt.Errorf("start %s as %s: %w", args[0], who.name, result)
}

// places lists the files that name may mean.
func places(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var out []string
	for _, dir := range filepath.SplitList(lookup(env, "PATH")) {
		out = append(out, filepath.Join(dir, name))
	}
	return out
}

// environment is what a fresh login has, with more on top.
func environment(who account, dir string, more []string) []string {
	env := []string{"PATH=" + searchPath, "HOME=" + who.home, "USER=" + who.name, "LOGNAME=" + who.name, "SHELL=" + who.shell, "PWD=" + dir}
	for _, kv := range more {
		key, _, ok := strings.Cut(kv, "=")
		if !ok {
			continue
		}
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, key+"=") })
		env = append(env, kv)
	}
	return env
}

func lookup(env []string, key string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}
