package tracer

import (
	"encoding/binary"
	"testing"

	"mosix/internal/abi"
)

func info(sig, value int) (si abi.Siginfo) {
	binary.LittleEndian.PutUint32(si[:], uint32(sig))
	binary.LittleEndian.PutUint32(si[24:], uint32(value))
	return si
}

func TestInOrder(t *testing.T) {
	a, b := 34, 35
	for _, c := range []struct {
		name       string
		want, have []abi.Siginfo
		ok         bool
		others     int
	}{
		{"nothing", nil, nil, true, 0},
		{"all there", []abi.Siginfo{info(a, 1), info(a, 2)}, []abi.Siginfo{info(a, 1), info(a, 2)}, true, 0},
		{"more behind", []abi.Siginfo{info(a, 1)}, []abi.Siginfo{info(a, 1), info(a, 2)}, true, 1},
		{"one before", []abi.Siginfo{info(a, 1)}, []abi.Siginfo{info(a, 0), info(a, 1)}, false, 1},
		{"one between", []abi.Siginfo{info(a, 1), info(a, 2)}, []abi.Siginfo{info(a, 1), info(a, 7), info(a, 2)}, false, 1},
		{"another number before", []abi.Siginfo{info(a, 1)}, []abi.Siginfo{info(b, 0), info(a, 1)}, true, 1},
		{"changed places", []abi.Siginfo{info(a, 1), info(a, 2)}, []abi.Siginfo{info(a, 2), info(a, 1)}, false, 0},
		{"one missing", []abi.Siginfo{info(a, 1), info(a, 2)}, []abi.Siginfo{info(a, 1)}, true, 0},
		{"the same twice", []abi.Siginfo{info(a, 1), info(a, 1)}, []abi.Siginfo{info(a, 1), info(a, 1)}, true, 0},
	} {
		ok, others := inOrder(c.want, c.have)
		if ok != c.ok || len(others) != c.others {
			t.Errorf("%s: %v with %d others, want %v with %d", c.name, ok, len(others), c.ok, c.others)
		}
	}
}
