package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/pack"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// TestRounds changes a process between the rounds in which it is copied, in every way that the kernel offers. What has arrived
// at the end is its memory, all of it, Go's own included.
func TestRounds(t *testing.T) {
	for _, c := range []struct {
		name  string
		first string // before it is watched
		then  []string
		zap   bool // it must go wrong when ranges are not emptied: so much does this case test
	}{
		{"quiet", "anon 0x200000000000 0x40000 3\nfill 0x200000000000 0x40000 1", []string{"nothing", "nothing"}, false},
		{"writes", "anon 0x200000000000 0x40000 3\nfill 0x200000000000 0x20000 1",
			[]string{"poke 0x200000000fff 1\npoke 0x200000030000 2", "fill 0x200000010000 0x20000 2", "poke 0x20000001f000 3"}, false},
		{"the same page, round after round", "anon 0x200000000000 0x2000 3",
			[]string{"poke 0x200000000000 1", "poke 0x200000000000 2", "poke 0x200000000000 3", "poke 0x200000000000 4"}, false},
		{"pages of zeros", "anon 0x200000000000 0x40000 3\ntouch 0x200000000000 0x40000",
			[]string{"poke 0x200000001000 1", "poke 0x200000001000 0\npoke 0x200000002000 1", "touch 0x200000000000 0x40000"}, false},
		{"the kernel writes", "anon 0x200000000000 0x40000 3\nfill 0x200000000000 0x20000 1",
			[]string{"kernel 0x200000000800 0x3000", "kernel 0x20000003f000 0x1000"}, false},
		{"new areas", "nothing", []string{"anon 0x200000000000 0x4000 3\nfill 0x200000000000 0x3000 1",
			"anon 0x200000004000 0x4000 3\nfill 0x200000005000 0x1000 2", "anon 0x1fffffffe000 0x2000 3\nfill 0x1fffffffe000 0x1000 3"}, false},
		{"areas go away", "anon 0x200000000000 0x40000 3\nfill 0x200000000000 0x40000 1",
			[]string{"unmap 0x200000010000 0x1000", "unmap 0x200000000000 0x2000\npoke 0x200000002000 9", "unmap 0x200000000000 0x40000"}, false},
		{"another mapping in the place of one", "anon 0x200000000000 0x40000 3\nfill 0x200000000000 0x40000 1",
			[]string{"replace 0x200000000000 0x40000 3\npoke 0x200000005000 1", "poke 0x200000006000 1", "replace 0x200000000000 0x40000 3\ntouch 0x200000000000 0x40000"}, false},
		{"another in the middle of one", "anon 0x200000000000 0x40000 3\nfill 0x200000000000 0x40000 1",
			[]string{"replace 0x200000010000 0x4000 3", "poke 0x200000010000 1\npoke 0x200000000000 1", "replace 0x200000012000 0x10000 3\nfill 0x200000013000 0x1000 3"}, false},
		{"unmapped and mapped again between two looks", "anon 0x200000000000 0x10000 3\nfill 0x200000000000 0x10000 1",
			[]string{"unmap 0x200000000000 0x10000\nanon 0x200000000000 0x10000 3\npoke 0x200000008000 1", "poke 0x200000009000 1"}, false},
		{"memory given back", "anon 0x200000000000 0x40000 3\nfill 0x200000000000 0x40000 1",
			[]string{"forget 0x200000000000 0x10000", "poke 0x200000004000 1", "forget 0x200000004000 0x1000\nforget 0x200000020000 0x1000"}, false},
		{"it grows in place", "anon 0x200000000000 0x4000 3\nfill 0x200000000000 0x4000 1",
			[]string{"remap 0x200000000000 0x4000 0x8000 0\nfill 0x200000005000 0x1000 2", "poke 0x200000000000 1\npoke 0x200000007000 2"}, false},
		{"it shrinks and grows again", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1",
			[]string{"remap 0x200000000000 0x8000 0x4000 0\nremap 0x200000000000 0x4000 0x8000 0\npoke 0x200000007000 1", "remap 0x200000000000 0x8000 0x2000 0", "nothing"}, false},
		{"it moves to another place", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1",
			[]string{"remap 0x200000000000 0x8000 0x8000 0x200000100000", "poke 0x200000101000 1", "nothing"}, false},
		{"it moves onto another", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x6000 1\nanon 0x200000100000 0x8000 3\nfill 0x200000100000 0x8000 2",
			[]string{"remap 0x200000000000 0x8000 0x8000 0x200000100000", "poke 0x200000101000 1", "nothing"}, true},
		{"two change places", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x4000 1\nanon 0x200000100000 0x8000 3\nfill 0x200000104000 0x4000 2",
			[]string{`remap 0x200000000000 0x8000 0x8000 0x200000200000
				remap 0x200000100000 0x8000 0x8000 0x200000000000
				remap 0x200000200000 0x8000 0x8000 0x200000100000`, "poke 0x200000101000 1", "nothing"}, true},
		{"locked up and opened", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1",
			[]string{"protect 0x200000000000 0x8000 0", "protect 0x200000000000 0x8000 3\npoke 0x200000001000 1", "protect 0x200000002000 0x1000 0", "protect 0x200000002000 0x1000 3\npoke 0x200000002000 7"}, false},
		{"locked up when it is held", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1",
			[]string{"poke 0x200000001000 1", "poke 0x200000002000 1\nprotect 0x200000000000 0x8000 0"}, false},
		{"closed for writing and opened", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1",
			[]string{"poke 0x200000000000 9\nprotect 0x200000000000 0x8000 1", "protect 0x200000000000 0x8000 3\npoke 0x200000001000 1\nprotect 0x200000000000 0x8000 1",
				"nothing", "protect 0x200000003000 0x1000 3\npoke 0x200000003000 1\nprotect 0x200000003000 0x1000 1"}, false},
		{"written in between only", "anon 0x200000000000 0x8000 1",
			[]string{"protect 0x200000000000 0x8000 3\nfill 0x200000000000 0x2000 1\nprotect 0x200000000000 0x8000 1",
				"protect 0x200000000000 0x8000 3\nfill 0x200000001000 0x2000 2\nprotect 0x200000000000 0x8000 1"}, false},
		{"reserved, opened bit by bit", "anon 0x200000000000 0x4000000 0",
			[]string{"protect 0x200000000000 0x21000 3\nfill 0x200000000000 0x2000 1", "protect 0x200000000000 0x42000 3\nfill 0x200000021000 0x2000 2", "protect 0x200000000000 0x63000 3\npoke 0x200000060000 1"}, false},
		{"shared with nobody", "shared 0x200000000000 0x8000\nfill 0x200000000000 0x3000 1",
			[]string{"poke 0x200000001000 1\nfill 0x200000007000 0x1000 2", "poke 0x200000004000 1", "forget 0x200000000000 0x8000\npoke 0x200000005000 1"}, false},
		{"shared, moved", "shared 0x200000000000 0x8000\nfill 0x200000000000 0x3000 1",
			[]string{"remap 0x200000000000 0x8000 0x8000 0x200000100000\npoke 0x200000104000 1", "poke 0x200000105000 1"}, false},
		{"a file of its own", "file 0x200000000000 0x8000 3 0x8000",
			[]string{"poke 0x200000001000 1", "fill 0x200000002000 0x1000 2", "poke 0x200000001000 2"}, false},
		{"a file for reading", "file 0x200000000000 0x8000 1 0x8000", []string{"touch 0x200000000000 0x8000", "nothing"}, false},
		{"a file for reading, written after all", "file 0x200000000000 0x8000 1 0x8000",
			[]string{"protect 0x200000000000 0x8000 3\npoke 0x200000001000 7\nprotect 0x200000000000 0x8000 1", "protect 0x200000000000 0x8000 3\npoke 0x200000002000 7\nprotect 0x200000000000 0x8000 1"}, false},
		{"a file that is shorter than its mapping", "file 0x200000000000 0x8000 3 0x2345",
			[]string{"poke 0x200000000000 1\npoke 0x200000002fff 9", "poke 0x200000001000 1"}, false},
		{"a file in the place of memory", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1",
			[]string{"unmap 0x200000000000 0x8000\nfile 0x200000000000 0x8000 3 0x3000", "poke 0x200000001000 1"}, false},
		{"memory in the place of a file", "file 0x200000000000 0x8000 3 0x8000",
			[]string{"replace 0x200000000000 0x8000 3\npoke 0x200000003000 1", "poke 0x200000001000 1"}, false},
		{"another mapping while it is looked at", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1",
			[]string{"nothing | unmap 0x200000000000 0x8000\nfile 0x200000000000 0x8000 3 0x8000\nfill 0x200000000000 0x3000 2", "nothing", "nothing"}, false},
		{"memory in the place of a file while it is looked at", "nothing",
			[]string{"file 0x200000000000 0x8000 3 0x2000 | replace 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 2", "nothing", "nothing"}, false},
		{"gone and back while it is looked at", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1",
			[]string{"nothing | replace 0x200000000000 0x10000 3\nfill 0x200000000000 0x10000 2",
				"nothing | unmap 0x200000000000 0x10000\nfile 0x200000000000 0x8000 3 0x8000\npoke 0x200000001000 3", "nothing", "nothing"}, false},
		{"longer for one look", "file 0x200000000000 0x8000 3 0x8000\nfill 0x200000000000 0x2000 1",
			[]string{"replace 0x200000000000 0x10000 3\nfill 0x200000000000 0x1000 5 | unmap 0x200000000000 0x10000\nfile 0x200000000000 0x8000 3 0x8000\nfill 0x200000000000 0x4000 2\nanon 0x200000008000 0x8000 3",
				"unmap 0x200000008000 0x8000", "nothing", "nothing"}, false},
		{"the stack grows", "stack 0x4000", []string{"stack 0x8000", "stack 0x20000", "nothing"}, false},
		{"a child is born", "anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1",
			[]string{"fork\npoke 0x200000001000 1", "poke 0x200000002000 1", "reap\npoke 0x200000003000 1"}, false},
		{"a storm", "anon 0x200000000000 0x400000 3\nfill 0x200000000000 0x400000 1",
			[]string{"storm 0x200000000000 0x400000", "nothing", "nothing", "nothing"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := start(t)
			if err := v.tell(c.first); err != nil {
				t.Fatal(err)
			}
			if _, err := move(v, true, true, c.then...); err != nil {
				t.Error(err)
			}
			if err := v.tell("nothing"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if !c.zap {
				return
			}
			v = start(t)
			if err := v.tell(c.first); err != nil {
				t.Fatal(err)
			}
			if _, err := move(v, true, false, c.then...); err == nil {
				t.Error("it is right also when no range is emptied: this case does not test that")
			}
		})
	}
}

// TestOnlyWhatWasWritten: the rounds after the first send what was written meanwhile, not everything again.
func TestOnlyWhatWasWritten(t *testing.T) {
	t.Parallel()
	v := start(t)
	const size = 32 << 20
	if err := v.tell(fmt.Sprintf("anon 0x200000000000 %d 3\nfill 0x200000000000 %d 1", size, size)); err != nil {
		t.Fatal(err)
	}
	sent, err := move(v, true, true, "poke 0x200000100000 1", fmt.Sprintf("fill 0x200000200000 %d 2", 4<<20), "nothing")
	if err != nil {
		t.Fatal(err)
	}
	const own = 6 << 20 // what Go's runtime and the files of the program may add
	for i, want := range []uint64{size, mem.PageSize, 4 << 20, 0} {
		if i == 0 && sent[i] < want || i > 0 && (sent[i] < want || sent[i] > want+own) {
			t.Errorf("round %d sent %d KiB, of which %d KiB were due; all: %v", i+1, sent[i]>>10, want>>10, sent)
		}
	}
}

// TestWritersByTheKernel: who writes into the process by the kernel's help, and lets the source look in between only, is not missed.
func TestWritersByTheKernel(t *testing.T) {
	t.Parallel()
	v := start(t)
	const at, size = 0x200000000000, 8 << 20
	if err := v.tell(fmt.Sprintf("anon %#x %d 3\nfill %#x %d 1", at, size, at, size)); err != nil {
		t.Fatal(err)
	}
	var writes sync.RWMutex
	quit, wrote := make(chan struct{}), make(chan error, 1)
	v.writers, v.still = &writes, func() { close(quit); wrote <- <-wrote }
	go func() {
		b := make([]byte, size/2)
		for n := 0; ; n++ {
			select {
			case <-quit:
				wrote <- nil
				return
			default:
			}
			for i := range b {
				b[i] = byte(n)
			}
			from := mem.Addr(at + n%2*len(b))
			writes.RLock()
			_, err := kern.WriteVM(v.cmd.Process.Pid, b, mem.Range{Start: from, End: from + mem.Addr(len(b))})
			writes.RUnlock()
			if err != nil {
				<-quit
				wrote <- err
				return
			}
		}
	}()
	if _, err := move(v, true, true, slices.Repeat([]string{"nothing"}, 30)...); err != nil {
		t.Error(err)
	}
	if err := <-wrote; err != nil {
		t.Errorf("the other writer: %v", err)
	}
}

// TestUntouchedMemoryDoesNotTravel: what a process has reserved and never used is not read, sent, or made at the target.
func TestUntouchedMemoryDoesNotTravel(t *testing.T) {
	t.Parallel()
	v := start(t)
	if err := v.tell("anon 0x200000000000 0x10000000 3\npoke 0x200000001000 1"); err != nil {
		t.Fatal(err)
	}
	sent, err := move(v, true, true, "poke 0x200000002000 1", "nothing")
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range sent {
		if n > 64<<20 {
			t.Errorf("round %d sent %d MiB of a process that uses a few", i+1, n>>20)
		}
	}
}

// TestStopAndCopy: without tracking one round takes everything.
func TestStopAndCopy(t *testing.T) {
	t.Parallel()
	v := start(t)
	if err := v.tell(`anon 0x200000000000 0x40000 3
		fill 0x200000001000 0x3000 1
		touch 0x200000008000 0x8000
		anon 0x200000100000 0x8000 3
		fill 0x200000100000 0x2000 2
		protect 0x200000100000 0x8000 0
		shared 0x200000200000 0x8000
		poke 0x200000201000 1
		file 0x200000300000 0x8000 3 0x4567
		poke 0x200000301000 1
		file 0x200000400000 0x4000 1 0x4000
		stack 0x8000`); err != nil {
		t.Fatal(err)
	}
	if _, err := move(v, false, true); err != nil {
		t.Error(err)
	}
}

// TestAnyRounds does anything, in any order, to a few areas.
func TestAnyRounds(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			v := start(t)
			v.lenient = true // much of it is not possible, such as to write where nothing is
			rng := rand.New(rand.NewPCG(seed, 1))
			var script []string
			for range 6 {
				var b strings.Builder
				for range 12 {
					b.WriteString(anything(rng))
				}
				script = append(script, b.String())
			}
			if err := v.tell(script[0]); err != nil {
				t.Fatal(err)
			}
			if _, err := move(v, true, true, script[1:]...); err != nil {
				t.Errorf("%v\nafter:\n%s", err, strings.Join(script, "--- round\n"))
			}
		})
	}
}

// anything is something to do to the 32 pages from 0x200000000000 on, or to the 32 from 0x200000100000 on, where files are:
// private pages of a file that are thrown away become the file's again, and the kernel does not tell.
func anything(rng *rand.Rand) string {
	from := rng.IntN(28)
	n := 1 + rng.IntN(32-from)
	at, size := 0x200000000000+from*mem.PageSize, n*mem.PageSize
	kind := []int{0, 1, 2, 3, 4, 5, 9, 9, 9}[rng.IntN(9)]
	if rng.IntN(3) == 0 {
		at += 0x100000
		kind = []int{0, 1, 2, 6, 9, 9}[rng.IntN(6)]
	}
	switch kind {
	case 0:
		return fmt.Sprintf("replace %#x %#x 3\n", at, size)
	case 1:
		return fmt.Sprintf("unmap %#x %#x\n", at, size)
	case 2:
		return fmt.Sprintf("protect %#x %#x %d\n", at, size, []int{0, 1, 3, 3}[rng.IntN(4)])
	case 3:
		return fmt.Sprintf("forget %#x %#x\n", at, size)
	case 4:
		return fmt.Sprintf("remap %#x %#x %#x %#x\n", at, mem.PageSize, mem.PageSize, 0x200000000000+rng.IntN(32)*mem.PageSize)
	case 5:
		return fmt.Sprintf("shared %#x %#x\n", at, size)
	case 6:
		return fmt.Sprintf("file %#x %#x 3 %#x\n", at, size, size/2)
	default:
		return fmt.Sprintf("kernel %#x %#x\n", at, size) // unlike a store, it fails where nothing is
	}
}

// TestTrackingLeavesNothing: the process has no more descriptors than before, and can be watched again.
func TestTrackingLeavesNothing(t *testing.T) {
	t.Parallel()
	v := start(t)
	fds := func() int {
		es, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", v.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(es)
	}
	if err := v.tell("anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1"); err != nil {
		t.Fatal(err)
	}
	before := fds()
	for range 3 {
		if _, err := move(v, true, true, "poke 0x200000001000 1", "poke 0x200000002000 1"); err != nil {
			t.Fatal(err)
		}
		if n := fds(); n != before {
			t.Errorf("the process had %d descriptors, now %d", before, n)
		}
	}
}

// TestSkip: areas that are skipped are not read.
func TestSkip(t *testing.T) {
	t.Parallel()
	v := start(t)
	if err := v.tell("anon 0x200000000000 0x8000 3\nfill 0x200000000000 0x8000 1"); err != nil {
		t.Fatal(err)
	}
	err := v.held(func(p *tracer.Process, s *Source) error {
		as, err := v.areas()
		if err != nil {
			return err
		}
		d, err := s.Round(as, true, func(a image.Area) bool { return a.Start != 0x200000000000 })
		if want := []mem.Range{{Start: 0x200000000000, End: 0x200000008000}}; err != nil || fmt.Sprint(mem.Normalize(d.Send)) != fmt.Sprint(want) || len(d.Zap) != 0 || d.Bytes() != 0x8000 {
			return fmt.Errorf("got %+v, %w, want %v to be sent", d, err, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// held runs f while all threads of the victim are held; the source does not track.
func (v *victim) held(f func(*tracer.Process, *Source) error) error {
	return tracer.Run(func() error {
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
		if err := p.SeizeAll(); err != nil {
			return err
		}
		return errors.Join(f(p, s), p.ReleaseAll())
	})
}

// TestFrames: frames are of a bounded size, hold what they say, and leave out what cannot be read.
func TestFrames(t *testing.T) {
	t.Parallel()
	v := start(t)
	const base, size = 0x200000000000, 8 << 20
	if err := v.tell(fmt.Sprintf("anon %#x %d 3\nfill %#x %d 1\nunmap %#x 0x3000\nfile 0x300000000000 0x4000 1 0x1001", base, size, base, size, base+0x5000)); err != nil {
		t.Fatal(err)
	}
	var scattered []mem.Range
	for a := mem.Addr(base); a < base+size; a += 2 * mem.PageSize {
		scattered = append(scattered, mem.Range{Start: a, End: a + mem.PageSize})
	}
	for name, c := range map[string]struct {
		rs     []mem.Range
		frames int // at least
		want   uint64
	}{
		"nothing":            {nil, 0, 0},
		"one page":           {scattered[:1], 1, mem.PageSize},
		"all at once":        {[]mem.Range{{Start: base + 0x8000, End: base + size}}, 8, size - 0x8000},
		"many pieces":        {scattered[4:], 2, uint64(len(scattered)-4) * mem.PageSize},
		"with a hole":        {[]mem.Range{{Start: base, End: base + 0x10000}}, 1, 0x10000 - 0x3000},
		"the hole":           {[]mem.Range{{Start: base + 0x5000, End: base + 0x8000}}, 0, 0},
		"past a file's end":  {[]mem.Range{{Start: 0x300000000000, End: 0x300000004000}}, 1, 0x2000},
		"nothing is there":   {[]mem.Range{{Start: 0x400000000000, End: 0x400000004000}}, 0, 0},
		"hole, then a piece": {[]mem.Range{{Start: base + 0x6000, End: base + 0x7000}, {Start: base + 0x9000, End: base + 0xa000}}, 1, 0x1000},
	} {
		err := v.held(func(p *tracer.Process, s *Source) error {
			got, frames := copied{pages: map[mem.Addr][]byte{}}, 0
			n, err := s.Send(c.rs, func(f []byte) error {
				frames++
				if rs, data, err := Parse(f); err != nil || len(data) > chunkBytes || len(rs) > maxRuns || len(f) != 4+16*len(rs)+len(data) {
					return fmt.Errorf("a frame of %d bytes with %d ranges and %d bytes of memory: %w", len(f), len(rs), len(data), err)
				}
				return got.frame(f)
			})
			if err != nil || n != c.want || frames < c.frames || c.want == 0 && frames > 0 || uint64(len(got.pages))*mem.PageSize != n {
				return fmt.Errorf("%d bytes in %d frames, %d pages, want %d bytes: %w", n, frames, len(got.pages), c.want, err)
			}
			b := make([]byte, mem.PageSize)
			for a, have := range got.pages {
				if _, err := p.Mem.ReadAt(b, int64(a)); err != nil || !bytes.Equal(have, b) {
					return fmt.Errorf("page %x is wrong, %w", uint64(a), err)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop := errors.New("stop")
	if err := v.held(func(_ *tracer.Process, s *Source) error {
		_, err := s.Send([]mem.Range{{Start: base + 0x8000, End: base + size}}, func([]byte) error { return stop })
		return err
	}); !errors.Is(err, stop) {
		t.Errorf("the error of emit came back as %v", err)
	}
}

// frame makes one.
func frame(rs []mem.Range, data []byte) []byte {
	w := &pack.Writer{}
	w.U32(uint32(len(rs)))
	for _, r := range rs {
		w.U64(uint64(r.Start))
		w.U64(uint64(r.End))
	}
	return append(w.B, data...)
}

func TestParse(t *testing.T) {
	r := func(a, b mem.Addr) mem.Range { return mem.Range{Start: a, End: b} }
	for _, c := range []struct {
		name string
		rs   []mem.Range
		data int
		ok   bool
	}{
		{"nothing", nil, 0, true},
		{"a page", []mem.Range{r(0x1000, 0x2000)}, 0x1000, true},
		{"two", []mem.Range{r(0x1000, 0x2000), r(0x5000, 0x7000)}, 0x3000, true},
		{"more bytes than ranges", []mem.Range{r(0x1000, 0x2000)}, 0x1001, true},
		{"fewer", []mem.Range{r(0x1000, 0x2000)}, 0xfff, false},
		{"none at all", []mem.Range{r(0x1000, 0x2000)}, 0, false},
		{"empty", []mem.Range{r(0x1000, 0x1000)}, 0x1000, false},
		{"backward", []mem.Range{r(0x2000, 0x1000)}, 0x1000, false},
		{"begins in a page", []mem.Range{r(0x1001, 0x2000)}, 0x1000, false},
		{"ends in a page", []mem.Range{r(0x1000, 0x1fff)}, 0x1000, false},
		{"the end of a program's addresses", []mem.Range{r(0x7fffffffe000, 0x7ffffffff000)}, 0x1000, true},
		{"the kernel's", []mem.Range{r(1<<47, 1<<47+0x1000)}, 0x1000, false},
		{"the last page of all", []mem.Range{r(1<<64-0x1000, 0)}, 0x1000, false},
		{"larger than everything", []mem.Range{r(0, 1<<47)}, 0x1000, false},
	} {
		rs, data, err := Parse(frame(c.rs, make([]byte, c.data)))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && (fmt.Sprint(rs) != fmt.Sprint(c.rs) || uint64(len(data)) != mem.Bytes(rs)) {
			t.Errorf("%s: %v with %d bytes", c.name, rs, len(data))
		}
	}
	if _, _, err := Parse(binary.LittleEndian.AppendUint32(nil, 1<<31)); !errors.Is(err, nil) && !strings.Contains(err.Error(), "announces") {
		t.Errorf("thousands of millions of ranges: %v", err)
	} else if err == nil {
		t.Error("thousands of millions of ranges are believed")
	}
}

// FuzzParse: whatever a peer sends, what comes out are whole pages of a program's addresses, with their bytes.
func FuzzParse(f *testing.F) {
	f.Add(frame([]mem.Range{{Start: 0x1000, End: 0x2000}}, make([]byte, 0x1000)))
	f.Add(frame([]mem.Range{{Start: 0x1000, End: 0x3000}, {Start: 0x1000, End: 0x2000}}, make([]byte, 0x3000)))
	f.Add(frame([]mem.Range{{Start: 0x1000, End: 1 << 46}}, make([]byte, 0x1000)))
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, data, err := Parse(b)
		if err != nil {
			return
		}
		if uint64(len(data)) != mem.Bytes(rs) || len(data) > len(b) {
			t.Errorf("%v with %d of %d bytes", rs, len(data), len(b))
		}
		for _, r := range rs {
			if r.Len() == 0 || r.Start.Page() != r.Start || r.End.Page() != r.End || r.End > 1<<47 {
				t.Errorf("the range %v was accepted", r)
			}
		}
	})
}

// TestWrite: memory goes in past all protections, as far as there is any.
func TestWrite(t *testing.T) {
	t.Parallel()
	v := start(t)
	if err := v.tell(`anon 0x200000000000 0x4000 3
		anon 0x200000004000 0x4000 0
		anon 0x200000008000 0x4000 1
		file 0x20000000c000 0x4000 1 0x4000
		file 0x200000010000 0x4000 5 0x1800`); err != nil {
		t.Fatal(err)
	}
	r := func(a, b mem.Addr) mem.Range { return mem.Range{Start: 0x200000000000 + a, End: 0x200000000000 + b} }
	for _, c := range []struct {
		name string
		rs   []mem.Range
		lost int
	}{
		{"nothing", nil, 0},
		{"plain", []mem.Range{r(0x1000, 0x3000)}, 0},
		{"no access", []mem.Range{r(0x4000, 0x6000)}, 0},
		{"for reading", []mem.Range{r(0x8000, 0x9000)}, 0},
		{"a file's", []mem.Range{r(0xd000, 0xf000)}, 0},
		{"a program's", []mem.Range{r(0x10000, 0x11000)}, 0},
		{"all kinds", []mem.Range{r(0, 0x11000)}, 0},
		{"past the end of a file", []mem.Range{r(0x10000, 0x14000)}, 2},
		{"where nothing is", []mem.Range{r(0x100000, 0x103000)}, 3},
		{"both", []mem.Range{r(0x100000, 0x101000), r(0x3000, 0x4000), r(0x101000, 0x103000), r(0x8000, 0x9000)}, 3},
	} {
		err := v.held(func(p *tracer.Process, _ *Source) error {
			data := make([]byte, mem.Bytes(c.rs))
			pattern(data, rand.Uint64())
			lost, err := Write(p.PID, p.Mem, frame(c.rs, data))
			if err != nil || len(lost) != c.lost {
				return fmt.Errorf("%d pages lost, %w, want %d", len(lost), err, c.lost)
			}
			b := make([]byte, mem.PageSize)
			wrong := 0
			for _, r := range c.rs {
				for a := r.Start; a < r.End; a += mem.PageSize {
					if _, err := p.Mem.ReadAt(b, int64(a)); err != nil || !bytes.Equal(b, data[:mem.PageSize]) {
						wrong++
					}
					data = data[mem.PageSize:]
				}
			}
			if wrong != c.lost {
				return fmt.Errorf("%d pages are wrong, %d were lost", wrong, lost)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := Write(v.cmd.Process.Pid, nil, []byte{1, 0, 0, 0}); err == nil {
		t.Error("a frame that cannot be was written")
	}
}

// TestWriteToTheDead says that the process is gone, and counts no pages.
func TestWriteToTheDead(t *testing.T) {
	t.Parallel()
	v := start(t)
	m, err := kern.OpenMem(v.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := v.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = v.cmd.Wait()
	lost, err := Write(v.cmd.Process.Pid, m, frame([]mem.Range{{Start: 0x1000, End: 0x2000}}, make([]byte, mem.PageSize)))
	if !kern.IsGone(err) || len(lost) != 0 {
		t.Errorf("%d pages lost, %v", lost, err)
	}
}
