package cli

import (
	"strings"
	"testing"

	"mosix/node/api"
)

// TestDifferences: nothing is said of a node that is the same, and every difference of another.
func TestDifferences(t *testing.T) {
	var b strings.Builder
	sayDifferences(&b, api.Node{Name: "n2", CPUModel: "some"})
	if b.Len() != 0 {
		t.Errorf("of the same: %q", b.String())
	}
	many := strings.Split("a b c d e f g h i j k l m n", " ")
	sayDifferences(&b, api.Node{Name: "n3", CPUModel: "Old\x1b[1m", CPULacks: many, CPUAlsoHas: []string{"xop"}, OtherKernel: true})
	for _, want := range []string{"n3 runs another kernel build", "n3 lacks, in its processor", "a, b, c, d, e, f, g, h, i, j, k, l and 2 more; processes of this node do not move there", "also: xop; processes of it do not move here"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q does not say %q", b.String(), want)
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Errorf("%q reaches the terminal", b.String())
	}
}
