package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"pgregory.net/rapid"
)

func write(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "mosixd.toml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	c.Name = "n1" // the name of this machine is not ours to judge
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

func TestMissingFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "none.toml")
	c, err := Load(p, false)
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Errorf("a file that nobody asked for: %+v, %v", c, err)
	}
	if _, err := Load(p, true); err == nil || !strings.Contains(err.Error(), p) {
		t.Errorf("a file that was asked for: %v", err)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	got, err := Load(write(t, `
name = "n1"
state_dir = "/state"
run_dir = "/run/n1"
bind = "10.0.0.1"
port = 7000
seeds = ["n2", "n3:7946"]
mdns = false
metrics = ""
policy = "none"
period = "250ms"
cpus = 1.5
memory = "512MiB"
cgroup = ["/sys/fs/cgroup/mosix"]
tags = ["lab", "fast"]
indices = "/usr/local/bin/indices"
index_every = "5s"
rules = "/rules.toml"
owner = "none"
owner_idle = "90s"
clock_skew = "-3s"
clock_drift = 200
lease = "1h"
move_lease = "5s"
log_level = "debug"
faults_file = "/run/faults"
[guests]
most = 8
memory = "4GiB"
cpus = 2.5
[guests.home]
most = 4
[guests.user]
cpus = 1
`), true)
	want := Config{Name: "n1", StateDir: "/state", RunDir: "/run/n1", Bind: "10.0.0.1", Port: 7000, Seeds: []string{"n2", "n3:7946"},
		Policy: "none", Period: Duration(250 * time.Millisecond), CPUs: 1.5, Memory: 512 << 20, Cgroup: []string{"/sys/fs/cgroup/mosix"},
		Tags: []string{"lab", "fast"}, Indices: "/usr/local/bin/indices", IndexEvery: Duration(5 * time.Second), Rules: "/rules.toml",
		Guests: Guests{Limits: Limits{8, 4 << 30, 2.5}, Home: Limits{Most: 4}, User: Limits{CPUs: 1}},
		Owner:  "none", OwnerIdle: Duration(90 * time.Second), ClockSkew: Duration(-3 * time.Second), ClockDrift: 200, Lease: Duration(time.Hour), MoveLease: Duration(5 * time.Second), LogLevel: "debug", FaultsFile: "/run/faults"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	// A key that this test does not know is not tested.
	if v := reflect.ValueOf(want); v.NumField() != 26 {
		t.Errorf("the configuration has %d keys, the test reads 26", v.NumField())
	}
	if got.ControlSocket() != "/run/n1/control.sock" {
		t.Errorf("the control socket is %s", got.ControlSocket())
	}
}

// TestRefused: the message names the key and the value.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`nmae = "n1"`, `"nmae"`},
		{"[balancer]\npolicy = \"mosix\"", `"balancer`},
		{`name = ""`, `name = ""`},
		{`name = "a b"`, `name = "a b"`},
		{`name = "1@n"`, `name = "1@n"`},
		{`name = "a/b"`, `name = "a/b"`},
		{`name = "` + strings.Repeat("n", 65) + `"`, "1 to 64 characters"},
		{`port = 0`, `port = 0`},
		{`port = 65534`, `port = 65534`},
		{`port = -1`, `port = -1`},
		{`port = "ssh"`, `"port"`},
		{`period = "10ms"`, `period = 10ms`},
		{`period = "-1s"`, `period = -1s`},
		{`period = "soon"`, `soon`},
		{`move_lease = "500ms"`, `move_lease = 500ms`},
		{"lease = \"5s\"\nmove_lease = \"6s\"", `lease = 5s`},
		{`cpus = -1.0`, `cpus = -1`},
		{`cpus = nan`, `cpus = NaN`},
		{`memory = "much"`, `much`},
		{`memory = "-1"`, `-1`},
		{`log_level = "loud"`, `log_level = "loud"`},
		{`name = n1`, `mosixd.toml`},
	} {
		_, err := Load(write(t, "name = \"n1\"\n"+c.text), true)
		if strings.HasPrefix(c.text, "name") {
			_, err = Load(write(t, c.text), true)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to say %s", c.text, err, c.want)
		}
	}
	for _, text := range []string{"port = 65533", "period = \"50ms\"", "lease = \"1s\"\nmove_lease = \"1s\"", "policy = \"none\"",
		"name = \"" + strings.Repeat("n", 64) + "\"", "log_level = \"error\"", "cpus = 0.25"} {
		if !strings.HasPrefix(text, "name") {
			text = "name = \"n1\"\n" + text
		}
		if _, err := Load(write(t, text), true); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for _, c := range []struct {
		text string
		n    uint64
		ok   bool
	}{
		{"0", 0, true}, {"4096", 4096, true}, {"4096B", 4096, true},
		{"64KiB", 64 << 10, true}, {"64KB", 64 << 10, true}, {"64K", 64 << 10, true}, {"64Ki", 64 << 10, true},
		{"512MiB", 512 << 20, true}, {"2GiB", 2 << 30, true}, {"3TiB", 3 << 40, true}, {"5 MiB", 5 << 20, true},
		{"18446744073709551615", 1<<64 - 1, true},
		{"16777215TiB", 16777215 << 40, true},
		{"16777216TiB", 0, false}, {"18446744073709551615K", 0, false}, {"18446744073709551616", 0, false},
		{"", 0, false}, {"MiB", 0, false}, {"-1", 0, false}, {"+1", 0, false}, {"1.5GiB", 0, false}, {"0x10", 0, false},
		{"1PiB", 0, false}, {"1 000", 0, false}, {"1mib", 0, false}, {"1MiBB", 0, false}, {"1KM", 0, false}, {"1iB", 0, false},
		{"1i", 0, false}, {"1KiB1", 0, false},
	} {
		n, err := ParseBytes(c.text)
		if (err == nil) != c.ok || n != c.n {
			t.Errorf("%q: %d, %v, want %d, fine: %v", c.text, n, err, c.n, c.ok)
		}
		if err != nil && !strings.Contains(err.Error(), "is not a size") {
			t.Errorf("%q: %v does not say that it is not a size", c.text, err)
		}
	}
}

// TestValuesReadBack: what is written by us is read by us.
func TestValuesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := struct {
			D Duration
			B Bytes
		}{Duration(rapid.Int64().Draw(t, "d")), Bytes(rapid.Uint64().Draw(t, "b"))}
		b, err := toml.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		out := in
		out.D, out.B = 0, 0
		if err := toml.Unmarshal(b, &out); err != nil || out != in {
			t.Fatalf("%s reads back as %+v, %v, want %+v", b, out, err, in)
		}
	})
}
