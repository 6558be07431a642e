package homeproxy

import (
	"strings"
	"testing"
)

func TestViewOf(t *testing.T) {
	for path, want := range map[string]View{
		"/proc/77/status": ViewStatus, "/proc/77/stat": ViewStat, "/proc/77/statm": ViewStatm, "/proc/77/task/79/status": ViewStatus, "/proc/77/task/79/stat": ViewThread,
		"/proc/78/status": NoView, "/proc/77/maps": NoView, "/tmp/proc/77/status": NoView, "/proc/77/task/79": NoView, "/proc/777/stat": NoView, "": NoView,
	} {
		if got := ViewOf(path, 77); got != want {
			t.Errorf("%s is %d, want %d", path, got, want)
		}
	}
}

// TestAmend: amounts of memory are the guest's, everything else is home's, and what is not a whole file stays as it is.
func TestAmend(t *testing.T) {
	const home = "Name:\tcat\nUmask:\t0022\nPid:\t77\nVmPeak:\t   90000 kB\nVmSize:\t   80000 kB\nVmRSS:\t     300 kB\nRssAnon:\t      10 kB\nRssFile:\t     290 kB\nRssShmem:\t       0 kB\nVmLib:\t    1700 kB\nThreads:\t1\n"
	const guest = "Name:\tcat\nUmask:\t0000\nPid:\t9\nVmPeak:\t   71000 kB\nVmSize:\t   70000 kB\nVmRSS:\t   50000 kB\nRssAnon:\t   48000 kB\nRssFile:\t       0 kB\nRssShmem:\t    2000 kB\nVmLib:\t    1708 kB\nThreads:\t5\n"
	const want = "Name:\tcat\nUmask:\t0022\nPid:\t77\nVmPeak:\t   85000 kB\nVmSize:\t   65000 kB\nVmRSS:\t   50000 kB\nRssAnon:\t   48000 kB\nRssFile:\t    2000 kB\nRssShmem:\t       0 kB\nVmLib:\t    1700 kB\nThreads:\t1\n"
	if got := string(ViewStatus.Amend([]byte(home), []byte(guest), 5000<<10, 8<<10)); got != want {
		t.Errorf("status: got\n%s\nwant\n%s", got, want)
	}
	if got := string(ViewStatm.Amend([]byte("2000 75 70 5 0 123 0\n"), []byte("1500 900 418 5 0 400 0\n"), 500<<12, 8<<10)); got != "1000 900 418 5 0 400 0\n" {
		t.Errorf("statm: %q", got)
	}
	stat := func(pid string, size, rss string) string {
		f := strings.Fields(strings.Repeat("1 ", 50))
		f[20], f[21] = size, rss
		return pid + " (a) b) S" + " " + strings.Join(f[1:], " ") + "\n"
	}
	away := strings.Fields(stat("9", "7000", "5"))
	away[32], away[33], away[34], away[35] = "21", "22", "23", "24" // signals; the name has two fields
	want2 := strings.Fields(stat("77", "6500", "5"))
	want2[10], want2[12] = "2", "2" // faults
	want2[31], want2[32], want2[33], want2[34] = "1", "21", "22", "23"
	if got := string(ViewStat.Amend([]byte(stat("77", "8000", "3")), []byte(strings.Join(away, " ")+"\n"), 500, 0)); got != strings.Join(want2, " ")+"\n" {
		t.Errorf("stat: %q, want %q", got, want2)
	}
	const signals = "Name:\tcat\nPid:\t78\nVmSize:\t     500 kB\nSigQ:\t1/5\nSigPnd:\t01\nShdPnd:\t02\nSigBlk:\t03\nSigIgn:\t04\nSigCgt:\tff\n"
	const theirs = "Name:\tcat\nPid:\t9\nVmSize:\t     500 kB\nSigQ:\t7/9\nSigPnd:\t11\nShdPnd:\t12\nSigBlk:\t13\nSigIgn:\t14\nSigCgt:\t15\n"
	if got, want := string(ViewStatus.Amend([]byte(signals), []byte(theirs), 0, 0)), strings.Replace(strings.Replace(theirs, "Pid:\t9", "Pid:\t78", 1), "7/9", "8/5", 1); got != want {
		t.Errorf("signals in status: %q, want %q", got, want)
	}
	if got := ViewStatus.Thread([]byte(signals)); got != 78 {
		t.Errorf("status of thread %d", got)
	}
	if got := ViewThread.Thread([]byte(stat("79", "1", "1"))); got != 79 {
		t.Errorf("stat of thread %d", got)
	}
	timed := strings.Fields(stat("77", "8000", "3"))
	timed[14], timed[15] = "8", "10" // the name has two fields
	if got := string(AddTime([]byte(stat("77", "8000", "3")), func(tid int) (uint64, uint64) { return 7, uint64(tid - 68) })); got != strings.Join(timed, " ")+"\n" {
		t.Errorf("stat with more time: %q, want %q", got, strings.Join(timed, " "))
	}
	for _, cut := range []string{"", "e: 1 kB\n", "12 (x", "1 2 3\n", "VmRSS:\t 3 kB\n"} {
		for _, v := range []View{ViewStatus, ViewStat, ViewStatm, NoView} {
			if got := string(v.Amend([]byte(cut), []byte(guest), 1, 1)); got != cut {
				t.Errorf("%d: %q became %q", v, cut, got)
			}
		}
	}
}

func TestRunning(t *testing.T) {
	for _, x := range []struct {
		v          View
		text, want string
	}{
		{ViewStatus, "Name:\tx\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t7\n", "Name:\tx\nUmask:\t0022\nState:\tR (running)\nTgid:\t7\n"},
		{ViewStatus, "Sta", "Sta"},
		{ViewStatm, "1 2 3 4 5 6 7\n", "1 2 3 4 5 6 7\n"},
		{ViewStat, "7 (a b) S", "7 (a b) S"},
	} {
		if got := string(Running(x.v, []byte(x.text))); got != x.want {
			t.Errorf("%q became %q, want %q", x.text, got, x.want)
		}
	}
	long := "7 (a) S" + strings.Repeat(" 1", 49) + "\n"
	if got, want := string(Running(ViewStat, []byte(long))), strings.Replace(long, " S ", " R ", 1); got != want {
		t.Errorf("%q became %q, want %q", long, got, want)
	}
}

func TestAddChildTime(t *testing.T) {
	text := "7 (a) S" + strings.Repeat(" 1", 49) + "\n"
	f := strings.Fields(string(AddChildTime([]byte(text), 5, 6)))
	if f[15] != "6" || f[16] != "7" || f[14] != "1" || f[17] != "1" {
		t.Errorf("fields 15 to 18 are %v", f[14:18])
	}
}

func TestUncaught(t *testing.T) {
	status := "Name:\tx\nSigIgn:\t0000000000000400\nSigCgt:\t0000000180000cc8\nCapInh:\t0\n"
	if got, want := string(ViewStatus.Uncaught([]byte(status), 0x4c8)), strings.Replace(status, "cc8", "800", 1); got != want {
		t.Errorf("status is\n%s, want\n%s", got, want)
	}
	stat := "7 (a b) S" + strings.Repeat(" 0", 30) + " 3272" + strings.Repeat(" 0", 18) + "\n"
	if got, want := string(ViewStat.Uncaught([]byte(stat), 0x4c8)), strings.Replace(stat, "3272", "2048", 1); got != want {
		t.Errorf("stat is %q, want %q", got, want)
	}
	for _, v := range []View{ViewStatus, ViewStat, ViewStatm} {
		if got := string(v.Uncaught([]byte("1 2 3\n"), 8)); got != "1 2 3\n" {
			t.Errorf("what is no such file becomes %q", got)
		}
	}
}
