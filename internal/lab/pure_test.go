package lab

import (
	"strings"
	"testing"
)

func TestParseHierarchies(t *testing.T) {
	const mounts = `30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:31 / /sys/fs/cgroup/mem\040ory rw shared:9 - cgroup cgroup rw,memory
35 30 0:31 / /elsewhere rw - cgroup cgroup rw,memory
`
	hybrid := parseHierarchies(mounts, func(string) string { return "hugetlb\n" })
	if got := hybrid["cpu"]; got != (cgroupDir{Path: "/sys/fs/cgroup/cpu,cpuacct"}) {
		t.Errorf("cpu in %+v", got)
	}
	if got := hybrid["memory"]; got != (cgroupDir{Path: "/sys/fs/cgroup/mem ory"}) {
		t.Errorf("memory in %+v", got)
	}
	unified := parseHierarchies(mounts, func(string) string { return "cpu memory\n" })
	for _, c := range []string{"cpu", "memory"} {
		if got := unified[c]; got != (cgroupDir{Path: "/sys/fs/cgroup/unified", V2: true}) {
			t.Errorf("%s in %+v, want v2 to win", c, got)
		}
	}
}

func TestCPUQuotaKeepsTheKernelsLimits(t *testing.T) {
	for _, cpus := range []float64{0.01, 0.05, 0.1, 0.5, 1, 3.5, 64} {
		quota, period := cpuQuota(cpus)
		if quota.Milliseconds() < 1 || period.Milliseconds() > 1000 {
			t.Errorf("%g CPUs: %s in %s; the kernel takes 1ms or more in 1s or less", cpus, quota, period)
		}
		if got := float64(quota) / float64(period); got < cpus*0.999 || got > cpus*1.001 {
			t.Errorf("%g CPUs: %s in %s are %g", cpus, quota, period, got)
		}
	}
}

func TestParseStat(t *testing.T) {
	line := func(state, threads string) string {
		return "17 (a) b (c) " + state + " 1 17 17 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 " + threads + " 0 4242 0 0"
	}
	for _, tc := range []struct {
		state, threads string
		runs           bool
	}{{"S", "1", true}, {"R", "9", true}, {"D", "1", true}, {"Z", "1", false}, {"X", "1", false}, {"Z", "2", true}} {
		runs, start, err := parseStat(line(tc.state, tc.threads))
		if err != nil || runs != tc.runs || start != 4242 {
			t.Errorf("%+v: %v %d %v", tc, runs, start, err)
		}
	}
	for _, bad := range []string{"", "17 (x", "17 (x) S 1 2", line("S", "many")} {
		if _, _, err := parseStat(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestAddUsersReplacesTheMachines(t *testing.T) {
	got := addUsers("root:x:0:0::/root:/bin/sh\nuser1:x:1000:1000::/home/u:/bin/zsh\nuser11:x:1:1::/:/bin/sh", func(name string, uid int) string { return name + ":lab" })
	if want := "root:x:0:0::/root:/bin/sh\nuser11:x:1:1::/:/bin/sh\nuser1:lab\nuser2:lab\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFindAccount(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\nuser1:x:61001:61001::/home/user1:/bin/bash\n"
	for who, want := range map[string]account{
		"user1": {"user1", "/home/user1", "/bin/bash", 61001, 61001},
		"61001": {"user1", "/home/user1", "/bin/bash", 61001, 61001},
		"4711":  {"4711", "/", "/bin/sh", 4711, 4711},
	} {
		if got, err := findAccount(passwd, who); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", who, got, err, want)
		}
	}
	if a, err := findAccount(passwd, "root"); err != nil || a.uid != 0 || a.home != homeOfRoot {
		t.Errorf("root: %+v, %v", a, err)
	}
	for _, who := range []string{"user", "-1", "4294967296"} {
		if a, err := findAccount(passwd, who); err == nil || !strings.Contains(err.Error(), "has no user") {
			t.Errorf("%s: %+v, %v", who, a, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	env := environment(account{name: "user1", home: "/home/user1", shell: "/bin/sh"}, "/tmp", []string{"PATH=/only", "broken", "A=b=c"})
	for key, want := range map[string]string{"PATH": "/only", "A": "b=c", "HOME": "/home/user1", "PWD": "/tmp", "broken": ""} {
		if got := lookup(env, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if n := strings.Count(strings.Join(env, "\n"), "PATH="); n != 1 {
		t.Errorf("PATH is there %d times", n)
	}
	if got := strings.Join(places("x", env), " "); got != "/only/x" {
		t.Errorf("x is looked for at %q", got)
	}
}
