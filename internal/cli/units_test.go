package cli

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestUnits(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{humanBytes(0), "0B"}, {humanBytes(1023), "1023B"}, {humanBytes(1024), "1.0KiB"}, {humanBytes(1536), "1.5KiB"},
		{humanBytes(1023 << 10), "1.0MiB"}, {humanBytes(100 << 20), "100MiB"}, {humanBytes(99 << 20), "99.0MiB"}, {humanBytes(1<<64 - 1), "16.0EiB"},
		{humanMS(0.123), "0.12 ms"}, {humanMS(5.52), "5.5 ms"}, {humanMS(210.4), "210 ms"}, {humanMS(1250), "1.25 s"},
		{humanSeconds(0.25), "0.2s"}, {humanSeconds(12.4), "12s"}, {humanSeconds(200), "3m20s"}, {humanSeconds(14700), "4h5m"}, {humanSeconds(183600), "2d3h"},
		{humanCPU(3.21), "3.2s"}, {humanCPU(65), "1:05"}, {humanCPU(7400.9), "2:03:20"},
		{count(0, "move"), "0 moves"}, {count(1, "process"), "1 process"}, {count(2, "process"), "2 processes"},
		{number(2), "2"}, {number(0.5), "0.5"}, {number(1.254), "1.25"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

// Whatever users put into their command lines, a table has its lines, fits its width, and sends nothing to the terminal but
// text.
func TestTableHoldsAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(0, 60).Draw(t, "width")
		tab := table{columns: []column{{title: "A"}, {"B", true}, {title: "C"}}}
		n := rapid.IntRange(0, 5).Draw(t, "rows")
		for range n {
			tab.add(rapid.String().Draw(t, "a"), string(rapid.SliceOf(rapid.Byte()).Draw(t, "b")), rapid.String().Draw(t, "c"))
		}
		var b strings.Builder
		if err := tab.print(&b, width); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(b.String(), "\n"); got != n+1 {
			t.Fatalf("%d lines for %d rows: %q", got, n, b.String())
		}
		for line := range strings.Lines(b.String()) {
			line = strings.TrimSuffix(line, "\n")
			if width > 0 && utf8.RuneCountInString(line) > width {
				t.Fatalf("%q is wider than %d", line, width)
			}
			if line != printable(line) {
				t.Fatalf("%q holds what is not text", line)
			}
		}
	})
}
