package shadow

import "testing"

// A path that only looks as if the process were in it is left alone, whatever file system it is in.
func TestInProc(t *testing.T) {
	s := &Shadow{PID: 123}
	for link, want := range map[string]string{
		"/proc/123/mem":      "/proc/123/mem",
		"/mnt/1123/status":   "/mnt/1123/status",
		"/123/":              "/123/", // no descriptor leads there
		"/srv/p/123/status":  "/srv/p/123/status",
		"socket:[123/]":      "socket:[123/]",
		"/mnt/0123/123/maps": "/mnt/0123/123/maps",
	} {
		if got := s.inProc("/dev/null", link); got != want {
			t.Errorf("%s became %s, want %s", link, got, want)
		}
	}
	if got := s.inProc("/proc/self/status", "/mnt/p/1123/123/status"); got != "/proc/123/status" {
		t.Errorf("in another mount of proc it became %s", got)
	}
	if got := s.inProc("/proc/self/status", "/mnt/p/1123/status"); got != "/mnt/p/1123/status" {
		t.Errorf("another process's file became %s", got)
	}
}
