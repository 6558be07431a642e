package failure

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The numbers that were released. A line is added for every new one; none is ever changed.
var (
	releasedPhases = []Phase{NoPhase, Check, Offer, Prepare, Precopy, Freeze, Final, Ready, Park, Commit, Run, Serve, ComeHome, Adopt}
	releasedKinds  = []Kind{Other, Gone, Unreachable, Timeout, Stale, Version, Denied, NoMemory, Busy, Corrupt, Kernel, Unsupported,
		Undecided, Aborted, Shutdown, Injected, Conflict}
	releasedKindWords = "other gone unreachable timeout stale version denied no-memory busy corrupt kernel unsupported undecided aborted shutdown injected conflict"
)

func TestReleasedNumbers(t *testing.T) {
	for i, p := range releasedPhases {
		if int(p) != i {
			t.Errorf("phase %s has number %d, was released as %d", p, p, i)
		}
	}
	words := strings.Fields(releasedKindWords)
	for i, k := range releasedKinds {
		if int(k) != i || k.String() != words[i] {
			t.Errorf("kind %s has number %d, was released as %s with %d", k, k, words[i], i)
		}
	}
	if len(phaseNames) != len(releasedPhases) || len(kindNames) != len(releasedKinds) || len(words) != len(releasedKinds) {
		t.Errorf("%d phases and %d kinds have names, %d and %d are in the tables of this test; add the new ones at the end",
			len(phaseNames), len(kindNames), len(releasedPhases), len(releasedKinds))
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{&Error{"read areas of 4711", Freeze, Gone, fs.ErrNotExist}, "freeze: read areas of 4711: file does not exist"},
		{&Error{"reach n2", Offer, Unreachable, nil}, "offer: reach n2: unreachable"},
		{&Error{Kind: Kind(999)}, "kind-999"},
		{&Error{Phase: Phase(77), Kind: Busy}, "phase-77: busy"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%#v reads %q, want %q", c.err, got, c.want)
		}
	}
}

func TestKindAtAnyDepth(t *testing.T) {
	deep := &Error{Op: "a", Phase: Freeze, Kind: Other,
		Err: fmt.Errorf("b: %w", &Error{Op: "c", Phase: Park, Kind: Gone, Err: fs.ErrClosed})}
	for _, c := range []struct {
		err   error
		kind  Kind
		phase Phase
	}{
		{nil, Other, NoPhase},
		{fs.ErrClosed, Other, NoPhase},
		{Gone, Gone, NoPhase},
		{fmt.Errorf("x: %w", Busy), Busy, NoPhase},
		{deep, Gone, Freeze},
		{fmt.Errorf("x: %w", deep), Gone, Freeze},
		{&Error{Kind: Timeout, Err: deep}, Timeout, Freeze},
	} {
		if k, p := KindOf(c.err), PhaseOf(c.err); k != c.kind || p != c.phase {
			t.Errorf("%v: kind %v phase %v, want %v %v", c.err, k, p, c.kind, c.phase)
		}
	}
	if !errors.Is(deep, Gone) || errors.Is(deep, Busy) || !errors.Is(deep, fs.ErrClosed) {
		t.Error("errors.Is does not find the kind, or finds another")
	}
}

func TestCrossesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &Error{
			Op: rapid.String().Draw(t, "op"), Phase: Phase(rapid.Uint16().Draw(t, "phase")), Kind: Kind(rapid.Uint16Min(1).Draw(t, "kind")),
		}
		if s := rapid.StringN(0, 50, 400).Draw(t, "cause"); s != "" {
			e.Err = errors.New(s)
		}
		b, _ := e.MarshalBinary()
		later := append(b, rapid.SliceOf(rapid.Byte()).Draw(t, "added by a later version")...)
		var got Error
		if err := got.UnmarshalBinary(later); err != nil {
			t.Fatal(err)
		}
		if got.Error() != e.Error() || got.Kind != e.Kind || got.Phase != e.Phase || got.Op != e.Op {
			t.Fatalf("sent %#v, received %#v", e, &got)
		}
		for n := range b {
			if err := new(Error).UnmarshalBinary(b[:n]); !errors.Is(err, Corrupt) {
				t.Fatalf("the first %d of %d bytes: %v, want corrupt", n, len(b), err)
			}
		}
	})
}

func TestOldBytes(t *testing.T) {
	const sent = "\x05\x00\x01\x00\x04\x00stop\x07\x00no 4711"
	var e Error
	if err := e.UnmarshalBinary([]byte(sent)); err != nil {
		t.Fatal(err)
	}
	if e.Error() != "freeze: stop: no 4711" || !errors.Is(&e, Gone) {
		t.Errorf("decoded %v, kind %v", &e, e.Kind)
	}
	if b, _ := e.MarshalBinary(); string(b) != sent {
		t.Errorf("encoded %q, want %q", b, sent)
	}
}

// A kind that is deeper than the outermost error must not get lost on the way: the receiver has only the number.
func TestInnerKindIsSent(t *testing.T) {
	b, _ := From(fmt.Errorf("outer: %w", &Error{Op: "x", Phase: Park, Kind: NoMemory})).MarshalBinary()
	var e Error
	if err := e.UnmarshalBinary(b); err != nil || e.Kind != NoMemory || e.Phase != Park || !strings.Contains(e.Error(), "outer") {
		t.Errorf("received %#v, %v", &e, err)
	}
}

func TestLongTextIsCut(t *testing.T) {
	b, _ := (&Error{Op: strings.Repeat("o", 1<<17), Err: errors.New(strings.Repeat("e", 1<<17))}).MarshalBinary()
	if len(b) > 2*maxText+8 {
		t.Errorf("%d bytes on the wire", len(b))
	}
	if err := new(Error).UnmarshalBinary(b); err != nil {
		t.Error(err)
	}
}

func FuzzUnmarshal(f *testing.F) {
	b, _ := (&Error{"op", Park, Gone, fs.ErrClosed}).MarshalBinary()
	f.Add(b)
	f.Add([]byte("\x01\x00\x02\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Error
		if e.UnmarshalBinary(b) == nil {
			c, _ := e.MarshalBinary()
			var again Error
			if err := again.UnmarshalBinary(c); err != nil || again.Error() != e.Error() {
				t.Fatalf("%q decoded to %v, encoded and decoded again to %v, %v", b, &e, &again, err)
			}
		}
	})
}
