package ferry

import (
	"reflect"
	"strings"
	"testing"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/mem"
)

func TestOfferOfAFamily(t *testing.T) {
	p := func(pid id.HomePID) id.Process { return id.Process{Home: "n1", PID: pid, Start: uint64(pid) * 7} }
	o := Offer{Process: p(10), Others: []id.Process{p(11), p(9)}, Epoch: 3, UID: 1000, Command: "x", Ready: 1, Cause: "command", Explicit: true}
	got, err := DecodeOffer(o.Encode())
	if err != nil || !reflect.DeepEqual(got, o) {
		t.Fatalf("%+v, %v; want %+v", got, err, o)
	}
	if f := got.Family(); len(f) != 3 || f[0] != p(10) || f[2] != p(9) {
		t.Errorf("the family is %v", f)
	}
	for _, bad := range []struct {
		others []id.Process
		why    string
	}{
		{[]id.Process{p(10)}, "twice"},
		{[]id.Process{p(11), p(11)}, "twice"},
		{make([]id.Process, image.MaxMembers), "limit"},
	} {
		o.Others = bad.others
		if _, err := DecodeOffer(o.Encode()); err == nil || !strings.Contains(err.Error(), bad.why) {
			t.Errorf("%d others: %v; want something with %q", len(bad.others), err, bad.why)
		}
	}
	o.Others = []id.Process{p(11)}
	for n, ok := range map[byte]bool{0: true, 1: true, 2: false, 255: false} {
		if got, err := o.member([]byte{n, 0, 0, 0}); ok != (err == nil) || ok && got != int(n) {
			t.Errorf("member %d: %d, %v", n, got, err)
		}
	}
	if _, err := o.member([]byte{0}); err == nil {
		t.Error("a frame of one byte names a member")
	}
}

// TestCommons: what is shared travels once, whole, wherever the members have it, and only when all are held.
func TestCommons(t *testing.T) {
	obj := image.Object{Dev: 1, Inode: 2}
	area := func(start mem.Addr, pages, off uint64) image.Area {
		return image.Area{Range: mem.Range{Start: start, End: start + mem.Addr(pages*mem.PageSize)}, Prot: 3, Shared: true, File: true, Object: obj,
			Offset: off * mem.PageSize, Advice: image.AdviceKnown | image.MayWrite}
	}
	a := area(0x10000, 4, 0)
	c := &commons{}
	if !c.has(a) || c.last([]image.Area{a}, nil) != nil {
		t.Error("something was sent before all were held")
	}
	private := a
	private.Shared = false
	fixed := a
	fixed.Advice &^= image.MayWrite
	if c.has(private) || c.has(fixed) {
		t.Error("private memory, or what is only read, is in common")
	}
	c.held()
	if got := c.last([]image.Area{a}, nil); len(got) != 1 || got[0] != a.Range {
		t.Errorf("the first sends %v of %v", got, a.Range)
	}
	b := area(0x70000, 4, 2) // of which two pages were sent
	want := mem.Range{Start: 0x70000 + 2*mem.PageSize, End: 0x70000 + 4*mem.PageSize}
	if got := c.last([]image.Area{private, b}, nil); len(got) != 1 || got[0] != want {
		t.Errorf("the second sends %v; want %v", got, want)
	}
	if got := c.last([]image.Area{a, b}, nil); len(got) != 0 {
		t.Errorf("a third sends %v again", got)
	}
}
