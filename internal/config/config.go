// Package config reads the agent's configuration file. Its one invariant: a file with a key that is not known, or a value
// that cannot be, is refused as a whole, with the key named; nothing is guessed.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Path is where mosixd looks when it is not told otherwise.
const Path = "/etc/mosix/mosixd.toml"

// RulesPath is where the rules for commands are by default.
const RulesPath = "/etc/mosix/rules.toml"

// Config is everything an administrator can set.
type Config struct {
	Name     string `toml:"name"`      // of this node; default: the host name
	StateDir string `toml:"state_dir"` // identity and certificate: node.key, node.cert, authority.pub, cluster.key
	RunDir   string `toml:"run_dir"`   // control socket; emptied by a reboot

	Bind       string   `toml:"bind"`        // address of the network that the cluster uses; default: all
	Port       int      `toml:"port"`        // membership (UDP and TCP); streams use port+1 (libp2p) and port+2 (direct TLS)
	Seeds      []string `toml:"seeds"`       // host or host:port of nodes to join
	MDNS       bool     `toml:"mdns"`        // look for nodes on the local network
	Metrics    string   `toml:"metrics"`     // address of /metrics; loopback by default; "" for none
	Policy     string   `toml:"policy"`      // balancing policy: none, random, mosix, hbd, opportunity, default
	Period     Duration `toml:"period"`      // of gossip and balancing
	CPUs       float64  `toml:"cpus"`        // capacity; default: what the machine or the quota of guest_cgroup has
	Memory     Bytes    `toml:"memory"`      // limit to report as total; default: what the machine or the memory cgroup has
	Cgroup     []string `toml:"cgroup"`      // cgroup directories that guests run in (v2, or one for each v1 controller)
	Guests     Guests   `toml:"guests"`      // what guests may take
	Tags       []string `toml:"tags"`        // words that stand for this node in requirements
	Indices    string   `toml:"indices"`     // command that prints a NAME VALUE in each line, which requirements may ask for
	IndexEvery Duration `toml:"index_every"` // how often it is run
	Rules      string   `toml:"rules"`       // file with rules for commands; it need not be there
	Owner      string   `toml:"owner"`       // auto: guests leave when somebody is at the machine; none: only by command
	OwnerIdle  Duration `toml:"owner_idle"`  // so long after the last key nobody is
	ClockSkew  Duration `toml:"clock_skew"`  // added to every reading of the realtime clock: for tests of clocks apart
	ClockDrift int      `toml:"clock_drift"` // by how many millionths that clock is too fast: the same
	Lease      Duration `toml:"lease"`       // of a guest, once it runs: the longest partition that it survives
	MoveLease  Duration `toml:"move_lease"`  // while a move is being decided
	LogLevel   string   `toml:"log_level"`   // debug info warn error
	FaultsFile string   `toml:"faults_file"` // arms fault points: for tests
}

// Guests is what guests may take of a node.
type Guests struct {
	Limits        // all of them
	Home   Limits `toml:"home"` // those of one home
	User   Limits `toml:"user"` // those of one user of one home
}

// Limits of guests; 0 is none.
type Limits struct {
	Most   int     `toml:"most"`
	Memory Bytes   `toml:"memory"`
	CPUs   float64 `toml:"cpus"` // that they may keep busy
}

// Duration is a time.Duration that reads "1s".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Bytes is a size that reads "512MiB".
type Bytes uint64

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Bytes) UnmarshalText(b []byte) error {
	v, err := ParseBytes(string(b))
	*n = Bytes(v)
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (n Bytes) MarshalText() ([]byte, error) { return []byte(fmt.Sprintf("%d", uint64(n))), nil }

// ParseBytes reads a number of bytes with an optional binary unit: 4096, 64KiB, 512MiB, 2GiB (K, M, G mean the same).
func ParseBytes(s string) (uint64, error) {
	num := strings.TrimRight(s, "KMGTiB")
	var n uint64
	if _, err := fmt.Sscanf(num, "%d", &n); err != nil || strings.TrimSpace(num) != fmt.Sprint(n) {
		return 0, fmt.Errorf("%q is not a size: want a number and a unit, such as 512MiB", s)
	}
	unit := s[len(num):]
	shift, ok := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[strings.TrimSuffix(strings.TrimSuffix(unit, "B"), "i")]
	if !ok || unit == "i" || unit == "iB" {
		return 0, fmt.Errorf("%q is not a size: the unit must be KiB, MiB, GiB or TiB", s)
	}
	if n > math.MaxUint64>>shift {
		return 0, fmt.Errorf("%q is not a size: it is more than 64 bits can count", s)
	}
	return n << shift, nil
}

// Default is the configuration of a machine whose administrator wrote none.
func Default() Config {
	name, _ := os.Hostname()
	return Config{
		Name: name, StateDir: "/var/lib/mosix", RunDir: "/run/mosix", Port: 7946, MDNS: true, Metrics: "127.0.0.1:9464",
		Policy: "default", Period: Duration(time.Second), Lease: Duration(10 * time.Minute), MoveLease: Duration(10 * time.Second),
		IndexEvery: Duration(10 * time.Second), Rules: RulesPath, LogLevel: "info", Owner: "auto", OwnerIdle: Duration(5 * time.Minute),
	}
}

// Load reads path over the defaults. A missing file is an error only where the path was given by the user.
func Load(path string, given bool) (Config, error) {
	c := Default()
	md, err := toml.DecodeFile(path, &c)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if u := md.Undecoded(); len(u) > 0 {
		return c, fmt.Errorf("read configuration %s: key %q is not known; docs/operations.md lists the keys", path, u[0])
	}
	return c, c.Check()
}

// Check says what is wrong with c.
func (c Config) Check() error {
	switch {
	case c.Name == "" || len(c.Name) > 64 || strings.ContainsAny(c.Name, " \t\n/@"):
		return fmt.Errorf("name = %q: want 1 to 64 characters without blanks, / and @", c.Name)
	case c.Port < 1 || c.Port > 65533:
		return fmt.Errorf("port = %d: want 1 to 65533 (the two ports after it are used too)", c.Port)
	case time.Duration(c.Period) < 50*time.Millisecond:
		return fmt.Errorf("period = %s: want at least 50ms", time.Duration(c.Period))
	case time.Duration(c.MoveLease) < time.Second || time.Duration(c.Lease) < time.Duration(c.MoveLease):
		return fmt.Errorf("lease = %s, move_lease = %s: want 1s <= move_lease <= lease", time.Duration(c.Lease), time.Duration(c.MoveLease))
	case !(c.CPUs >= 0): // also what is not a number
		return fmt.Errorf("cpus = %g: want a number of processors, or none", c.CPUs)
	case slices.ContainsFunc([]Limits{c.Guests.Limits, c.Guests.Home, c.Guests.User}, func(l Limits) bool { return l.Most < 0 || !(l.CPUs >= 0) }):
		return fmt.Errorf("guests: most and cpus cannot be below 0")
	case slices.ContainsFunc(c.Tags, func(t string) bool { return t == "" || len(t) > 64 || strings.ContainsAny(t, "\"'\n") }) || len(c.Tags) > 32:
		return fmt.Errorf("tags = %q: want at most 32 words of 1 to 64 characters, without quotes", c.Tags)
	case time.Duration(c.IndexEvery) < time.Second:
		return fmt.Errorf("index_every = %s: want at least 1s", time.Duration(c.IndexEvery))
	case c.Owner != "auto" && c.Owner != "none":
		return fmt.Errorf("owner = %q: want auto or none", c.Owner)
	case time.Duration(c.OwnerIdle) < time.Second:
		return fmt.Errorf("owner_idle = %s: want at least 1s", time.Duration(c.OwnerIdle))
	case !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel):
		return fmt.Errorf("log_level = %q: want debug, info, warn or error", c.LogLevel)
	}
	return nil
}

// ControlSocket is where the agent listens for mosixctl.
func (c Config) ControlSocket() string { return filepath.Join(c.RunDir, "control.sock") }
