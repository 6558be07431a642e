package lab

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// searchPath is PATH in a node: of the lab first, then what every distribution has.
const searchPath = nodeBin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// homeOfRoot keeps what programs write into root's home inside the node.
const homeOfRoot = "/home/root"

// private are the folders of a node that are empty at its start and end with it.
var private = []struct {
	dir  string
	mode uint32
	must bool // a machine without this folder has no lab
}{
	{"/tmp", 0o1777, true},
	{"/var/tmp", 0o1777, false},
	{"/dev/shm", 0o1777, false},
	{"/home", 0o755, true},
	{"/run", 0o755, true},
}

// makeMounts gives the init's mount namespace its own face. What lies under a folder that is about to be covered is opened
// first and bound through the open descriptor.
func makeMounts(spec initSpec) error {
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cut the node's mounts off from the machine's: %w", err)
	}
	state, err := os.Open(spec.Dir)
	if err != nil {
		return fmt.Errorf("open the node's state: %w", err)
	}
	defer state.Close()
	binds := make([]*os.File, len(spec.Binds))
	for i, b := range spec.Binds {
		if binds[i], err = os.Open(b.Path); err != nil {
			return fmt.Errorf("open a file to bind: %w", err)
		}
		defer binds[i].Close()
	}
	// First /proc: the binds below go through /proc/self/fd, and self must be in this PID namespace.
	if err := mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, p := range private {
		dir, err := filepath.EvalSymlinks(p.dir) // /var/tmp may point to /tmp
		if errors.Is(err, fs.ErrNotExist) && !p.must {
			continue
		}
		if err != nil {
			return fmt.Errorf("the node needs a private %s: %w", p.dir, err)
		}
		if seen[dir] {
			continue
		}
		seen[dir] = true
		if err := mount("mosix-lab", dir, "tmpfs", syscall.MS_NODEV, fmt.Sprintf("mode=%o", p.mode)); err != nil {
			return err
		}
	}
	if err := mount("devpts", "/dev/pts", "devpts", syscall.MS_NOSUID|syscall.MS_NOEXEC, "mode=620,ptmxmode=666,gid="+strconv.Itoa(ttyGroup())); err != nil {
		return err
	}
	for _, dir := range []string{nodeBin, nodeState, nodeEtc} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := bind(state, nodeState); err != nil {
		return err
	}
	for i, f := range binds {
		if err := provide(f, filepath.Join(nodeBin, spec.Binds[i].Name)); err != nil {
			return err
		}
	}
	return errors.Join(makeEtc(string(spec.Node.Name)), makeHomes())
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := syscall.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", firstWord(fstype, source, "flags"), target, err)
	}
	return nil
}

// firstWord is the first of its words that says something.
func firstWord(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// bind makes the open file or folder f appear at target, which must exist.
func bind(f *os.File, target string) error {
	if err := syscall.Mount(fmt.Sprintf("/proc/self/fd/%d", rawFD(f)), target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s on %s: %w", f.Name(), target, err)
	}
	return nil
}

// provide makes f appear at target, readable by everybody and executable by everybody if it is by anybody. Where the file's
// own mode does not give that, or its file system forbids programs, a copy does.
func provide(f *os.File, target string) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	if st.IsDir() {
		if err := os.Mkdir(target, 0o755); err != nil {
			return fmt.Errorf("bind %s: %w", f.Name(), err)
		}
		return bind(f, target)
	}
	want := fs.FileMode(0o444)
	if st.Mode()&0o111 != 0 {
		want = 0o555
	}
	to, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, want)
	if err != nil {
		return fmt.Errorf("bind %s: %w", f.Name(), err)
	}
	defer to.Close()
	if st.Mode()&want == want && !noexec(f) {
		return bind(f, target)
	}
	if _, err := io.Copy(to, f); err != nil {
		return fmt.Errorf("copy %s: %w", f.Name(), err)
	}
	return to.Close()
}

func noexec(f *os.File) bool {
	const stNoexec = 8 // ST_NOEXEC of statfs(2)
	var st syscall.Statfs_t
	return syscall.Fstatfs(int(rawFD(f)), &st) == nil && st.Flags&stNoexec != 0
}

// makeEtc binds a host name and users of the node's own over the machine's. The rest of /etc is shared.
func makeEtc(node string) error {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		return err
	}
	shell := userShell()
	files := []struct{ name, content string }{
		{"hostname", node + "\n"},
		{"passwd", addUsers(string(passwd), func(name string, uid int) string {
			return fmt.Sprintf("%s:x:%d:%d:%s of the lab:/home/%s:%s", name, uid, uid, name, name, shell)
		})},
		{"group", addUsers(string(group), func(name string, uid int) string { return fmt.Sprintf("%s:x:%d:", name, uid) })},
	}
	for _, f := range files {
		ours, theirs := filepath.Join(nodeEtc, f.name), filepath.Join("/etc", f.name)
		if err := os.WriteFile(ours, []byte(f.content), 0o644); err != nil {
			return err
		}
		if _, err := os.Stat(theirs); err != nil {
			return fmt.Errorf("the lab binds a file over %s, and the machine has none; create it: %w", theirs, err)
		}
		o, err := os.Open(ours)
		if err != nil {
			return err
		}
		err = bind(o, theirs)
		o.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// addUsers puts lines for user1 and user2 into a passwd or group file, in the place of any that it has for these names.
func addUsers(file string, line func(name string, uid int) string) string {
	users := []string{line("user1", User1ID), line("user2", User2ID)}
	var b strings.Builder
	for l := range strings.Lines(file) {
		name, _, _ := strings.Cut(l, ":")
		if name == "user1" || name == "user2" {
			continue
		}
		b.WriteString(strings.TrimSuffix(l, "\n") + "\n")
	}
	for _, u := range users {
		b.WriteString(u + "\n")
	}
	return b.String()
}

func makeHomes() error {
	for _, h := range []struct {
		dir string
		uid int
	}{{"/home/user1", User1ID}, {"/home/user2", User2ID}, {homeOfRoot, 0}} {
		if err := os.Mkdir(h.dir, 0o700); err != nil {
			return err
		}
		if err := os.Chown(h.dir, h.uid, h.uid); err != nil {
			return err
		}
	}
	return nil
}

// userShell is bash where the machine has it, for its job control and its history.
func userShell() string {
	if _, err := os.Stat("/bin/bash"); err == nil {
		return "/bin/bash"
	}
	return "/bin/sh"
}

// ttyGroup is the group that terminals belong to, by /etc/group; 5 on every distribution that was seen.
func ttyGroup() int {
	b, err := os.ReadFile("/etc/group")
	if err != nil {
		return 5
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSpace(l), ":"); len(f) > 2 && f[0] == "tty" {
			if gid, err := strconv.Atoi(f[2]); err == nil {
				return gid
			}
		}
	}
	return 5
}

// account is a line of passwd.
type account struct {
	name, home, shell string
	uid, gid          uint32
}

// findAccount looks who, a name or a number, up in a passwd file. A number that the file does not hold is an ordinary user
// without a home.
func findAccount(passwd, who string) (account, error) {
	if who == "root" || who == "0" {
		return account{name: "root", home: homeOfRoot, shell: userShell()}, nil
	}
	for l := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimSpace(l), ":")
		if len(f) < 7 || f[0] != who && f[2] != who {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		return account{name: f[0], uid: uint32(uid), gid: uint32(gid), home: f[5], shell: f[6]}, nil
	}
	if n, err := strconv.ParseUint(who, 10, 32); err == nil {
		return account{name: who, uid: uint32(n), gid: uint32(n), home: "/", shell: "/bin/sh"}, nil
	}
	return account{}, fmt.Errorf("the node has no user %q: want root, user1, user2, a name in /etc/passwd, or a number", who)
}
