package mem

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// space is how many addresses the properties look at: small, so that ranges meet often.
const space = 48

// anyRanges draws ranges in any order, empty and backward ones among them.
func anyRanges() *rapid.Generator[[]Range] {
	at := rapid.Uint64Range(0, space-1)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Range {
		return Range{Addr(at.Draw(t, "start")), Addr(at.Draw(t, "end"))}
	}), 0, 10)
}

// sortedRanges draws a list that Subtract may be given: ascending, free of overlaps; neighbours may touch.
func sortedRanges() *rapid.Generator[[]Range] {
	return rapid.Custom(func(t *rapid.T) []Range {
		cuts := rapid.SliceOfNDistinct(rapid.Uint64Range(0, space-1), 0, 16, rapid.ID[uint64]).Draw(t, "cuts")
		slices.Sort(cuts)
		var out []Range
		for i := 0; i+1 < len(cuts); i++ {
			if rapid.Bool().Draw(t, "covered") {
				out = append(out, Range{Addr(cuts[i]), Addr(cuts[i+1])})
			}
		}
		return out
	})
}

// points is the set of addresses that rs cover, the slow and obvious way.
func points(rs []Range) (out [space]bool) {
	for _, r := range rs {
		for a := r.Start; a < r.End; a++ {
			out[a] = true
		}
	}
	return out
}

func checkAscending(t *rapid.T, rs []Range) {
	var at Addr
	for _, r := range rs {
		if r.Start < at || r.Len() == 0 {
			t.Fatalf("%v is not ascending and free of overlaps and of empty ranges", rs)
		}
		at = r.End
	}
}

func TestSubtract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := sortedRanges().Draw(t, "a"), sortedRanges().Draw(t, "b")
		a0, b0 := slices.Clone(a), slices.Clone(b)
		got := Subtract(a, b)
		checkAscending(t, got)
		in, out, have := points(a), points(b), points(got)
		for i := range space {
			if want := in[i] && !out[i]; have[i] != want {
				t.Fatalf("%v without %v gives %v: address %x in it is %v, want %v", a, b, got, i, have[i], want)
			}
		}
		if !slices.Equal(a, a0) || !slices.Equal(b, b0) {
			t.Fatalf("the arguments were changed")
		}
		if Bytes(got)+Bytes(Subtract(a, got)) != Bytes(a) {
			t.Fatalf("what is left and what was taken do not add up to %v", a)
		}
	})
}

func TestNormalize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs := anyRanges().Draw(t, "rs")
		want := points(rs)
		got := Normalize(slices.Clone(rs))
		checkAscending(t, got)
		if have := points(got); have != want {
			t.Fatalf("%v became %v, which covers other addresses", rs, got)
		}
		for i := 1; i < len(got); i++ {
			if got[i].Start == got[i-1].End {
				t.Fatalf("%v and %v touch and were not joined", got[i-1], got[i])
			}
		}
		if again := Normalize(slices.Clone(got)); !slices.Equal(again, got) {
			t.Fatalf("a second pass changed %v to %v", got, again)
		}
		n := 0
		for _, in := range want {
			if in {
				n++
			}
		}
		if Bytes(got) != uint64(n) {
			t.Fatalf("%v has %d bytes, its addresses are %d", got, Bytes(got), n)
		}
	})
}

func TestTwoRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.Uint64Range(0, space-1)
		r := Range{Addr(at.Draw(t, "r.start")), Addr(at.Draw(t, "r.end"))}
		o := Range{Addr(at.Draw(t, "o.start")), Addr(at.Draw(t, "o.end"))}
		a := Addr(at.Draw(t, "address"))
		in, out := points([]Range{r}), points([]Range{o})
		shared := false
		both := points([]Range{r.Intersect(o)})
		for i := range space {
			shared = shared || in[i] && out[i]
			if both[i] != (in[i] && out[i]) {
				t.Fatalf("the intersection of %v and %v is %v", r, o, r.Intersect(o))
			}
		}
		if r.Overlaps(o) != shared || o.Overlaps(r) != shared {
			t.Fatalf("%v and %v share an address: %v, Overlaps says %v and %v", r, o, shared, r.Overlaps(o), o.Overlaps(r))
		}
		if r.Contains(a) != in[a] {
			t.Fatalf("%v contains %x: %v", r, uint64(a), r.Contains(a))
		}
	})
}

func TestPages(t *testing.T) {
	for _, c := range []struct{ at, page, up Addr }{
		{0, 0, 0}, {1, 0, 4096}, {4095, 0, 4096}, {4096, 4096, 4096}, {4097, 4096, 8192},
		{0x7fffffffefff, 0x7fffffffe000, 0x7ffffffff000},
	} {
		if got := c.at.Page(); got != c.page {
			t.Errorf("the page of %#x is %#x, want %#x", uint64(c.at), uint64(got), uint64(c.page))
		}
		if got := c.at.PageUp(); got != c.up {
			t.Errorf("%#x rounded up is %#x, want %#x", uint64(c.at), uint64(got), uint64(c.up))
		}
	}
}

// TestAddrIsNoPointer holds the invariant of the package: an address of another process cannot be turned into a pointer by a
// conversion that the compiler takes for one of our own.
func TestAddrIsNoPointer(t *testing.T) {
	if k := reflect.TypeFor[Addr]().Kind(); k != reflect.Uint64 {
		t.Errorf("Addr is a %v", k)
	}
	if got := (Range{0x7f00, 0x8000}).String(); got != "7f00-8000" {
		t.Errorf("a range reads %q, /proc/PID/maps would say 7f00-8000", got)
	}
}
