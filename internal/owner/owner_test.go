package owner

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const session = `# This is private data. Do not parse.
UID=1000
USER=anna
ACTIVE=1
IS_DISPLAY=1
STATE=active
REMOTE=0
TYPE=x11
CLASS=user
SEAT=seat0
`

func TestSessions(t *testing.T) {
	for name, c := range map[string]struct {
		change func(string) string
		want   bool
	}{
		"at the display":   {func(s string) string { return s }, true},
		"over ssh":         {func(s string) string { return strings.Replace(s, "SEAT=seat0\n", "", 1) }, false},
		"in background":    {func(s string) string { return strings.Replace(s, "ACTIVE=1", "ACTIVE=0", 1) }, false},
		"the login screen": {func(s string) string { return strings.Replace(s, "CLASS=user", "CLASS=greeter", 1) }, false},
		"locked":           {func(s string) string { return s + "LOCKED_HINT=1\n" }, false},
		"idle":             {func(s string) string { return s + "IDLE_HINT=1\n" }, false},
		"no sense":         {func(string) string { return "\x00\xff=\n====\n" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "c1"), []byte(c.change(session)), 0o600); err != nil {
				t.Fatal(err)
			}
			yes, why := Sessions{dir}.Present(time.Now())
			if yes != c.want || yes && why != "anna has an active session on seat0" {
				t.Errorf("%v, %q", yes, why)
			}
		})
	}
	if yes, _ := (Sessions{"/nowhere/at/all"}).Present(time.Now()); yes {
		t.Error("a machine without logind has an owner")
	}
}

func TestDevices(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "event0")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	d := &Devices{Pattern: filepath.Join(dir, "event*"), Idle: time.Minute}
	if yes, why := d.Present(time.Now()); yes {
		t.Fatalf("somebody is there before a key was pressed: %s", why)
	}
	if _, err := keys.Write(make([]byte, 24)); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if yes, why := d.Present(time.Now()); yes {
			if !strings.Contains(why, path) {
				t.Errorf("it says %q", why)
			}
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatal("a key that was pressed is not noticed")
		}
	}
	if yes, _ := d.Present(time.Now().Add(2 * time.Minute)); yes {
		t.Error("somebody is there two minutes after the last key")
	}
	if yes, why := (Any{Sessions{dir}, d}).Present(time.Now()); !yes || why == "" {
		t.Errorf("%v, %q", yes, why)
	}
}
