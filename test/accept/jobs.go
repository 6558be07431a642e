package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mosix/internal/lab"
	"mosix/node/api"
	"mosix/test/cluster"
	"mosix/test/workloads"
)

// shell is a bash in a terminal of n1.
type shell struct {
	*cluster.Cluster
	cmd *lab.Cmd

	mu    sync.Mutex
	heard strings.Builder
	at    int
}

func startShell(c *cluster.Cluster) (*shell, error) {
	s := &shell{Cluster: c, cmd: c.Command("n1", cluster.User1, "bash", "--norc", "--noprofile", "-i")}
	s.cmd.TTY, s.cmd.Rows, s.cmd.Cols = true, 40, 200
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := s.cmd.Terminal.Read(b)
			s.mu.Lock()
			s.heard.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return // the shell has ended
			}
		}
	}()
	// Prompt and answers contain what the typed lines do not, so an echo is never taken for them.
	return s, s.line(`bind 'set enable-bracketed-paste off'; stty -echo; PS1='rea''dy> '; PS2=; echo be''gin`, `begin`)
}

// typed sends keys, and waits until want is heard; it returns what want's first group matched.
func (s *shell) typed(keys, want string) (string, error) {
	re := regexp.MustCompile(want)
	if _, err := s.cmd.Terminal.WriteString(keys); err != nil {
		return "", err
	}
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		text := s.heard.String()[s.at:]
		m := re.FindStringSubmatchIndex(text)
		if m != nil {
			s.at += m[1]
		}
		s.mu.Unlock()
		if m != nil {
			if len(m) > 2 {
				return text[m[2]:m[3]], nil
			}
			return "", nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return "", fmt.Errorf("after %q nothing like %q was heard, but %q", keys, want, s.heard.String()[s.at:])
}

func (s *shell) line(line, want string) error {
	_, err := s.typed(line+"\n", want)
	return err
}

// status is $? of the job that has just ended.
func (s *shell) status() (int, error) {
	v, err := s.typed("echo status=$?.\n", `status=(\d+)\.`)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(v)
}

func (s *shell) wantStatus(what string, want int) error {
	got, err := s.status()
	if err == nil && got != want {
		err = fmt.Errorf("%s: $? is %d, want %d", what, got, want)
	}
	return err
}

// away types keys, after which a program tells its number, and moves that to n2.
func (s *shell) away(keys string) (int, error) {
	v, err := s.typed(keys, `pid (\d+)\r`)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(v)
	if err != nil {
		return 0, err
	}
	time.Sleep(100 * time.Millisecond)
	r, err := s.Migrate("n1", cluster.User1, pid, "n2")
	if err == nil && r.Result != api.ResultMoved {
		err = fmt.Errorf("the move of %q was %s: %s %v", keys, r.Result, r.Error, r.Refusals)
	}
	time.Sleep(100 * time.Millisecond)
	return pid, err
}

// state is the letter that ps at home shows for pid.
func (s *shell) state(pid int) string {
	out, _ := s.Shell("n1", cluster.User1, fmt.Sprintf("ps -o stat= -p %d", pid))
	return out
}

// jobs is line 4.
func jobs(b *bench) (figures string, err error) {
	files, err := b.build("spin", "page", "ends")
	if err != nil {
		return "", err
	}
	c, err := cluster.Up(lab.Options{Name: fmt.Sprintf("jobs-%d", os.Getpid()), Nodes: 2, Policy: "none", Bind: files})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Down()) }()
	s, err := startShell(c)
	if err != nil {
		return "", err
	}
	defer func() {
		_ = s.cmd.Signal(syscall.SIGKILL) // closing the terminal would wait for its reader, and that for the shell
		_ = s.cmd.Wait()                  // killed: its status says nothing
		s.cmd.Terminal.Close()
	}()
	steps := []struct {
		name string
		run  func() error
	}{
		{"Ctrl-C", s.controlC}, {"Ctrl-Z, bg, fg", s.controlZ}, {"exit 7", s.exit7}, {"SIGTERM, ps and kill at home", s.terminated},
	}
	for _, step := range steps {
		if err := step.run(); err != nil {
			return "", fmt.Errorf("%s: %w", step.name, err)
		}
		b.progress("%s", step.name)
	}
	return "130 by Ctrl-C, stopped and continued, 7, 143", nil
}

func (s *shell) controlC() error {
	if _, err := s.away("work-spin 1000000\n"); err != nil {
		return err
	}
	if _, err := s.typed("\x03", `ready> `); err != nil {
		return err
	}
	return s.wantStatus("a job that was ended by Ctrl-C away", 130)
}

func (s *shell) controlZ() error {
	token := fmt.Sprintf("jobs-%d", os.Getpid())
	v, err := s.typed("work-page "+token+"\n", `page ([0-9a-f]+)\r`)
	if err != nil {
		return err
	}
	address, err := strconv.ParseUint(v, 16, 64)
	if err != nil {
		return err
	}
	pid, err := s.away("")
	if err != nil {
		return err
	}
	w := workloads.NewWatch(token, pid, address)
	defer w.Stop()
	counts := func() bool {
		time.Sleep(50 * time.Millisecond)
		since := time.Now()
		time.Sleep(100 * time.Millisecond)
		return len(w.Running(since)) > 0
	}
	until := func(what string, want bool) error {
		if _, ok := cluster.Until(5*time.Second, func() bool { return counts() == want }); !ok {
			return fmt.Errorf("%s: it computes: %v, want %v", what, !want, want)
		}
		return nil
	}
	if err := until("moved", true); err != nil {
		return err
	}
	if _, err := s.typed("\x1a", `Stopped.*\n.*ready> `); err != nil {
		return err
	}
	if err := until("after Ctrl-Z", false); err != nil {
		return err
	}
	if st := s.state(pid); !strings.HasPrefix(st, "T") {
		return fmt.Errorf("after Ctrl-Z ps shows %q, want T", st)
	}
	if err := s.line("bg; echo to''ld", `told\r\n`); err != nil {
		return err
	}
	if err := until("after bg", true); err != nil {
		return err
	}
	if st := s.state(pid); st == "" || strings.HasPrefix(st, "T") {
		return fmt.Errorf("after bg ps shows %q", st)
	}
	if err := s.line("fg", `work-page \S+\r\n`); err != nil {
		return err
	}
	if err := until("after fg", true); err != nil {
		return err
	}
	if _, err := s.typed("\x03", `ready> `); err != nil {
		return err
	}
	return s.wantStatus("a job that came back to the foreground and was ended by Ctrl-C", 130)
}

func (s *shell) exit7() error {
	if _, err := s.away("work-ends 0 stop.jobs exit7\n"); err != nil {
		return err
	}
	if _, err := s.Shell("n1", cluster.User1, "touch stop.jobs"); err != nil {
		return err
	}
	if _, err := s.typed("", `end \d+`); err != nil {
		return err
	}
	return s.wantStatus("a moved job that exits with 7", 7)
}

func (s *shell) terminated() error {
	pid, err := s.away("work-spin 1000000\n")
	if err != nil {
		return err
	}
	if out, err := s.Shell("n1", cluster.User1, fmt.Sprintf("ps -o comm= -p %d", pid)); err != nil || out != "work-spin" {
		return fmt.Errorf("ps at home shows process %d as %q (%v)", pid, out, err)
	}
	if _, err := s.Shell("n1", cluster.User1, fmt.Sprintf("kill -%d %d", syscall.SIGTERM, pid)); err != nil {
		return err
	}
	if _, err := s.typed("", `Terminated.*\n`); err != nil {
		return err
	}
	return s.wantStatus("a moved job that SIGTERM has killed", 143)
}
