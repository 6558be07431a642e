package pages

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"mosix/internal/feature"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// victim is a child that obeys.
type victim struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader

	lenient bool // what it cannot do does not matter

	writers sync.Locker // see Source
	still   func()      // before it is held for good
}

func start(t testing.TB) *victim {
	t.Helper()
	feature.Need(t, feature.PtraceSeize, feature.Pidfd, feature.ProcessVM, feature.UffdWPAsync, feature.PagemapScan)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PAGES_VICTIM=1", "GOMAXPROCS=2")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	v := &victim{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	if s, err := v.out.ReadString('\n'); s != "ready\n" {
		t.Fatalf("the victim said %q, %v", s, err)
	}
	return v
}

// tell makes the victim do what the lines say.
func (v *victim) tell(lines string) error {
	for line := range strings.Lines(lines) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if _, err := fmt.Fprintln(v.in, line); err != nil {
			return err
		}
		if s, err := v.out.ReadString('\n'); err != nil || s != "ok\n" && !v.lenient {
			return fmt.Errorf("the victim was told %q and said %q, %v", line, s, err)
		}
	}
	return nil
}

func (v *victim) areas() ([]image.Area, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", v.cmd.Process.Pid))
	as, _ := image.ParseMaps(b, mem.Range{})
	return as, err
}

// copied is the memory at the target.
type copied struct {
	pages map[mem.Addr][]byte // what is not there is zero
	areas []image.Area
}

// layout does what the target does with the areas and with what is void.
func (c *copied) layout(as []image.Area, zap []mem.Range) {
	for at := range c.pages {
		have, want := image.Find(c.areas, at), image.Find(as, at)
		gone := have == nil || want == nil || !want.Stays(*have, mem.Range{Start: at, End: at + mem.PageSize})
		for _, z := range zap {
			gone = gone || z.Contains(at)
		}
		if gone {
			delete(c.pages, at)
		}
	}
	c.areas = as
}

func (c *copied) frame(f []byte) error {
	rs, data, err := Parse(f)
	if err != nil {
		return err
	}
	for _, r := range rs {
		for a := r.Start; a < r.End; a += mem.PageSize {
			c.pages[a] = bytes.Clone(data[:mem.PageSize])
			data = data[mem.PageSize:]
		}
	}
	return nil
}

// differ compares with the true memory of the held process, all of it.
func (c *copied) differ(p *tracer.Process, as []image.Area) error {
	pm, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.PID))
	if err != nil {
		return err
	}
	defer pm.Close()
	look := map[mem.Addr]bool{}
	for a := range c.pages {
		look[a] = true
	}
	for _, a := range as {
		rs, err := kern.ScanPages(pm, a.Range, false, nil)
		if err != nil {
			return err
		}
		for _, r := range rs {
			for at := r.Start; at < r.End; at += mem.PageSize {
				look[at] = true
			}
		}
		if (a.File || a.Shared) && a.Prot != 0 { // these have content that nobody has touched; what nobody can touch does not travel
			for at := a.Start; at < a.End; at += mem.PageSize {
				look[at] = true
			}
		}
	}
	zero, b := make([]byte, mem.PageSize), make([]byte, mem.PageSize)
	var bad []string
	for a := range look {
		if n, err := p.Mem.ReadAt(b, int64(a)); err != nil || n != len(b) {
			if _, ok := c.pages[a]; ok {
				bad = append(bad, fmt.Sprintf("%x was sent and cannot be read: %v", uint64(a), err))
			}
			continue
		}
		have, ok := c.pages[a]
		if !ok {
			have = zero
			if x := image.Find(as, a); x.File { // the target has it from the file
				if have, err = inFile(p.PID, *x, a); err != nil {
					return err
				}
			}
		}
		if !bytes.Equal(have, b) {
			bad = append(bad, fmt.Sprintf("%x in %+v (sent: %v)", uint64(a), *image.Find(as, a), ok))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of %d pages differ: %s", len(bad), len(look), strings.Join(bad[:min(len(bad), 3)], "; "))
	}
	return nil
}

// inFile reads the page of a file that an area has at at.
func inFile(pid int, a image.Area, at mem.Addr) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, uint64(a.Start), uint64(a.End)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, mem.PageSize)
	if _, err = f.ReadAt(b, int64(a.Offset)+int64(at-a.Start)); errors.Is(err, io.EOF) {
		err = nil
	}
	return b, err
}

// move copies the victim while between changes it: a round before each of its parts, and a last one when it is held. It
// returns the differences between what arrived and what is true, and how many bytes each round sent. What stands behind a "|" in a
// part is done in the round after it, between the look at the areas and the look at their pages.
func move(v *victim, track, honourZap bool, between ...string) (sent []uint64, err error) {
	err = tracer.Run(func() error {
		p, err := tracer.Open(v.cmd.Process.Pid, stub.Load())
		if err != nil {
			return err
		}
		defer p.Close()
		s, err := Open(p)
		if err != nil {
			return err
		}
		defer s.Close()
		s.Writers = v.writers
		if track {
			l, err := p.Seize(p.PID)
			if err != nil {
				return err
			}
			if err := errors.Join(s.Track(l), l.Release()); err != nil {
				return err
			}
		}
		c := copied{pages: map[mem.Addr][]byte{}}
		meanwhile := ""
		round := func(first bool) error {
			as, err := v.areas()
			if err == nil {
				err = v.tell(meanwhile)
			}
			if err != nil {
				return err
			}
			d, err := s.Round(as, first, nil)
			if err != nil {
				return err
			}
			if !honourZap {
				d.Zap = nil
			}
			c.layout(as, d.Zap)
			n, err := s.Send(d.Send, c.frame)
			sent = append(sent, n)
			return err
		}
		for i, lines := range between {
			if track {
				if err := round(i == 0); err != nil {
					return err
				}
			}
			before, after, _ := strings.Cut(lines, "|")
			if err := v.tell(before); err != nil {
				return err
			}
			meanwhile = after
		}
		if v.still != nil {
			v.still()
		}
		if err := p.SeizeAll(); err != nil {
			return err
		}
		if err := round(!track); err != nil {
			return err
		}
		as, err := v.areas()
		if err != nil {
			return err
		}
		return errors.Join(c.differ(p, as), p.ReleaseAll())
	})
	return sent, err
}
