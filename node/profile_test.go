package node

import (
	"math"
	"testing"
	"time"

	"mosix/homeproxy/guest"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/pack"
)

// What a host tells of a guest is read as it was written; nothing that it may say instead makes a number that nobody can compare.
func TestProfileOnTheWire(t *testing.T) {
	sane := profile{guest.Traffic{Calls: 7, Bytes: 8, Births: 9}, 0.25, 90 * time.Microsecond}
	with := func(talk float64, price time.Duration) profile {
		return profile{sane.Traffic, talk, price}
	}
	for _, tt := range []struct {
		name       string
		said, want profile
		ok         bool
	}{
		{"as it is", sane, sane, true},
		{"not a number", with(math.NaN(), 1), with(0, 1), true},
		{"below zero", with(-3, 1), with(0, 1), true},
		{"without end", with(math.Inf(1), 1), with(1000, 1), true},
		{"calls that cost nothing", with(1, 0), with(1, 0), false},
		{"calls that cost less", with(1, -time.Second), with(1, -time.Second), false},
	} {
		w := &pack.Writer{}
		w.B = append(w.B, image.Usage{}.Encode()...)
		tt.said.encode(w)
		for _, rest := range [][]byte{w.B, append(append([]byte{}, w.B...), "of a later version"...)} {
			if got, ok := decodeProfile(rest); ok != tt.ok || got != tt.want {
				t.Errorf("%s: %+v, %v, want %+v, %v", tt.name, got, ok, tt.want, tt.ok)
			}
		}
		if _, ok := decodeProfile(w.B[:len(w.B)-1]); ok {
			t.Errorf("%s: half a profile is read", tt.name)
		}
	}
	if _, ok := decodeProfile(nil); ok {
		t.Error("an agent of before tells a profile")
	}
}

// A call costs what quick ones take: those that wait for a busy node say nothing of the way.
func TestPrice(t *testing.T) {
	b := &balance{prices: map[id.Node]*price{}}
	if got := b.priceTo("n2"); got != callCost {
		t.Errorf("of a node that was never asked: %v, want %v", got, callCost)
	}
	for i := range 40 {
		took := 200 * time.Microsecond
		if i%2 == 1 {
			took = time.Duration(i) * time.Millisecond
		}
		b.answered("n2", took)
	}
	b.answered("n3", time.Hour)
	b.answered("n4", -time.Hour) // the clock was set
	for node, want := range map[id.Node]time.Duration{"n2": 200 * time.Microsecond, "n3": priceMost, "n4": priceLeast} {
		if got := b.priceTo(node); got != want {
			t.Errorf("%s: %v, want %v", node, got, want)
		}
	}
	if got, want := b.anyPrice(), 200*time.Microsecond; got != want {
		t.Errorf("of any node: %v, want %v", got, want)
	}
}
