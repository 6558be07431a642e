package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"

	"mosix/internal/kern"
)

// endOfFile is what a terminal takes for the end of its input (Ctrl-D).
const endOfFile = 4

// Attach runs the program on the caller's own descriptors, as ssh does: with c.TTY through a terminal in the node, and
// otherwise directly. Signals to the caller go on to the program.
func (c *Cmd) Attach(in, out, complaints *os.File) error {
	if c.TTY {
		return c.attachTerminal(in, out)
	}
	c.Stdin, c.Stdout, c.Stderr = in, out, complaints
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(sigs)
	if err := c.Start(); err != nil {
		return err
	}
	end := make(chan struct{})
	defer close(end)
	go func() {
		for {
			select {
			case s := <-sigs:
				_ = c.Signal(s.(syscall.Signal)) // too late is no fault
			case <-end:
				return
			}
		}
	}()
	return c.Wait()
}

func (c *Cmd) attachTerminal(in, out *os.File) error {
	outer := kern.IsTerminal(in)
	if rows, cols, err := pty.Getsize(in); outer && err == nil {
		c.Rows, c.Cols = uint16(rows), uint16(cols)
	}
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGWINCH, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(sigs)
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Terminal.Close()
	if outer {
		restore, err := kern.RawTerminal(in)
		if err != nil {
			c.cleanup()
			return err
		}
		defer func() { _ = restore() }() // the terminal may have been hung up
	}
	go func() {
		_, err := io.Copy(c.Terminal, in)
		if err == nil {
			_, _ = c.Terminal.Write([]byte{endOfFile}) // the program may have ended
		}
	}()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		c.show(out)
	}()
	var broken syscall.Signal
	var followers sync.WaitGroup
	end := make(chan struct{})
	followers.Go(func() {
		for {
			select {
			case s := <-sigs:
				if s != syscall.SIGWINCH {
					broken = s.(syscall.Signal)
					c.c.Close() // the init takes it for a hang-up
					return
				}
				if size, err := pty.GetsizeFull(in); err == nil {
					_ = pty.Setsize(c.Terminal, size) // the program may have ended
				}
			case <-end:
				return
			}
		}
	})
	err := c.Wait()
	close(end)
	followers.Wait()
	if broken != 0 {
		return &ExitError{Code: 128 + int(broken), Why: fmt.Sprintf("ended by a signal: %s", broken)}
	}
	// What was written before the end is still to be shown. Programs in the background may go on writing: a moment of
	// silence is the end too.
	_ = c.Terminal.SetReadDeadline(time.Now().Add(silence)) // where it cannot be set, the terminal closes by itself
	<-shown
	return err
}

// silence after the end of a terminal's program ends the showing of what others write there.
const silence = 100 * time.Millisecond

// show copies what the terminal says to out, until nobody is left who could say more, or from the program's end on until
// nothing comes for a moment, or as much as a terminal buffers.
func (c *Cmd) show(out *os.File) {
	b := make([]byte, 32<<10)
	fresh, left := false, 256<<10
	for {
		n, err := c.Terminal.Read(b)
		if n > 0 {
			fresh = true
			if _, werr := out.Write(b[:n]); werr != nil {
				c.Terminal.Close() // hang up: nobody looks any more
				return
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && fresh && left > 0:
			left -= len(b)
			fresh = false
			_ = c.Terminal.SetReadDeadline(time.Now().Add(silence)) // it could be set before
		case err != nil:
			return
		}
	}
}
