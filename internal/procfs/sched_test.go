package procfs

import (
	"os"
	"testing"
	"time"
)

func TestParseSchedStat(t *testing.T) {
	tests := []struct {
		in   string
		want SchedStat
		ok   bool
	}{
		{"53812345 901234 77\n", SchedStat{53812345, 901234, 77}, true},
		{"0 0 0\n", SchedStat{}, true},
		{"1 2 3", SchedStat{1, 2, 3}, true},
		{"1 2 3 4\n", SchedStat{1, 2, 3}, true}, // a later kernel may add fields
		{"1 2\n", SchedStat{}, false},
		{"", SchedStat{}, false},
		{"a b c\n", SchedStat{}, false},
		{"1 2 333333333333333333333\n", SchedStat{}, false},
	}
	for _, tt := range tests {
		got, err := ParseSchedStat([]byte(tt.in))
		if (err == nil) != tt.ok || tt.ok && got != tt.want {
			t.Errorf("ParseSchedStat(%q) = %+v, %v; want %+v, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
	if got := (SchedStat{CPU: 2, Wait: 3}).Ready(); got != 5 {
		t.Errorf("Ready = %d, want 5", got)
	}
}

func TestParseSchedProc(t *testing.T) {
	const tail = " S 812 4711 4000 34816 -1 4194304 1500 0 0 0 1234 66 0 0 20 0 9 0 98765 12345678 1000 18446744073709551615 1 1 0\n"
	want := SchedProc{
		PID: 4711, Command: "python3", State: 'S', PPID: 812, Session: 4000, TTY: 34816, CPU: 13 * time.Second, Threads: 9, Start: 98765, RSS: 1000 << 12,
	}
	tests := []struct {
		name, in string
		want     func(SchedProc) SchedProc
	}{
		{"usual", "4711 (python3)" + tail, func(p SchedProc) SchedProc { return p }},
		{"hostile name", "4711 (a) R 1 (b)" + tail, func(p SchedProc) SchedProc { p.Command = "a) R 1 (b"; return p }},
		{"no name", "4711 ()" + tail, func(p SchedProc) SchedProc { p.Command = ""; return p }},
		{"kernel thread", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 3 0 0 20 0 1 0 5 0 0 18446744073709551615", func(SchedProc) SchedProc {
			return SchedProc{PID: 2, Command: "kthreadd", State: 'S', Kernel: true, CPU: 30 * time.Millisecond, Threads: 1, Start: 5}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseSchedProc([]byte(tt.in))
			if err != nil || got != tt.want(want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want(want))
			}
		})
	}
	for _, in := range []string{"", "4711", "4711 (x", "4711 (x)", "4711 (x) S", "x (x)" + tail, "4711 (x) S 1 2 3 4 5 6 7 8", ")(" + tail} {
		if got, err := ParseSchedProc([]byte(in)); err == nil {
			t.Errorf("ParseSchedProc(%q) = %+v, want an error", in, got)
		}
	}
}

// What the running kernel writes is understood.
func TestSchedOfThisProcess(t *testing.T) {
	b, err := os.ReadFile(Default.Path(os.Getpid(), "stat"))
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	p, err := ParseSchedProc(b)
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != os.Getpid() || p.PPID != os.Getppid() || p.Threads < 1 || p.RSS == 0 || p.Kernel {
		t.Errorf("%s is read as %+v", b, p)
	}
	if b, err = os.ReadFile(Default.Path(os.Getpid(), "schedstat")); err != nil {
		t.Skipf("this kernel has no schedstat: %v", err)
	}
	if _, err := ParseSchedStat(b); err != nil {
		t.Error(err)
	}
}

func FuzzParseSched(f *testing.F) {
	f.Add([]byte("53812345 901234 77\n"))
	f.Add([]byte("4711 (python3) S 812 4711 4000 34816 -1 4194304 1500 0 0 0 1234 66 0 0 20 0 9 0 98765 12345678 1000 18446744073709551615 1\n"))
	f.Add([]byte("1 ( ) ) - 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSchedStat(b); err == nil && s.Slices == 0 && len(b) < 5 {
			t.Errorf("ParseSchedStat(%q) = %+v out of less than three numbers", b, s)
		}
		if p, err := ParseSchedProc(b); err == nil && len(b) < 45 {
			t.Errorf("ParseSchedProc(%q) = %+v out of less than 24 fields", b, p)
		}
	})
}
