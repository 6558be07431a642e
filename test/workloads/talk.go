package workloads

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/creack/pty"
)

// answerTime is how long somebody at a terminal waits for an answer.
const answerTime = 30 * time.Second

// talk is a conversation with the program terminal: the same script again and again, until it is told to end.
type talk struct {
	tty   *os.File
	heard *sharedBuffer
	at    int // up to where heard was understood
	first []byte
	stop  chan struct{}
	done  chan error
}

// startTalk listens to tty, lets what is heard be seen in heard, and begins as soon as the program is ready.
func startTalk(tty *os.File, heard *sharedBuffer) *talk {
	t := &talk{tty: tty, heard: heard, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := tty.Read(b)
			_, _ = heard.Write(bytes.ReplaceAll(b[:n], []byte("\r"), nil)) // a buffer takes everything
			if err != nil {
				return // a terminal whose program has ended says EIO
			}
		}
	}()
	go func() { t.done <- t.rounds() }()
	return t
}

// end finishes the round that is being played, ends the program, and returns the script with its answers.
func (t *talk) end() ([]byte, error) {
	close(t.stop)
	err := <-t.done
	return t.first, err
}

func (t *talk) rounds() error {
	if err := t.expect("ready"); err != nil {
		return err
	}
	for n := 1; ; n++ {
		text, err := t.round(n)
		if err != nil {
			return fmt.Errorf("round %d at the terminal: %w", n, err)
		}
		if t.first == nil {
			t.first = text
		} else if !bytes.Equal(text, t.first) {
			return fmt.Errorf("round %d at the terminal went\n%s\nthe first one\n%s", n, text, t.first)
		}
		select {
		case <-t.stop:
			if _, err := t.tty.WriteString("quit\n"); err != nil {
				return err
			}
			if err := t.expect("good"); err != nil {
				return err
			}
			_, err := t.line() // its last one, with its number: what is heard later than its end is known would be missed
			return err
		default:
		}
	}
}

// round plays the script once.
func (t *talk) round(n int) ([]byte, error) {
	var text bytes.Buffer
	ask := func(send string, answers int) error {
		if _, err := t.tty.WriteString(send); err != nil {
			return err
		}
		fmt.Fprintf(&text, "%q", send)
		for range answers {
			line, err := t.line()
			if err != nil {
				return fmt.Errorf("after %q: %w", send, err)
			}
			fmt.Fprintf(&text, " → %s", line)
		}
		text.WriteByte('\n')
		return nil
	}
	for _, s := range []struct {
		send    string
		answers int
	}{
		{"hello\n", 1}, {"two\nlines\n", 2}, {strings.Repeat("long ", 40) + "\n", 1}, {"\n", 1}, {"abX\x7fc\n", 1}, {"gone\x15kept\n", 1},
		{"\x03", 1}, {"after\n", 1}, {"raw\n", 1}, {"a", 1}, {"\x03", 1}, {"\x04", 1}, {"\x1a", 1}, {"\r", 1}, {"\x7fxyz", 4}, {"q", 2}, {"cooked again\n", 1},
	} {
		if err := ask(s.send, s.answers); err != nil {
			return nil, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	rows := uint16(20 + n%7)
	if err := pty.Setsize(t.tty, &pty.Winsize{Rows: rows, Cols: 100}); err != nil {
		return nil, err
	}
	if _, err := t.tty.WriteString("size\n"); err != nil {
		return nil, err
	}
	line, err := t.line()
	if err == nil && line != fmt.Sprintf("size %d 100", rows) {
		err = fmt.Errorf("the window has %d rows and 100 columns; the program sees %q", rows, line)
	}
	return text.Bytes(), err
}

// line is the next line that is heard.
func (t *talk) line() (string, error) {
	for began := time.Now(); time.Since(began) < answerTime; time.Sleep(time.Millisecond) {
		all := t.heard.bytes()
		if i := bytes.IndexByte(all[t.at:], '\n'); i >= 0 {
			line := string(all[t.at : t.at+i])
			t.at += i + 1
			return line, nil
		}
	}
	return "", fmt.Errorf("no answer within %v; last heard %q", answerTime, t.heard.bytes()[t.at:])
}

// expect skips lines up to one.
func (t *talk) expect(want string) error {
	for {
		line, err := t.line()
		if err != nil || line == want {
			return err
		}
	}
}
