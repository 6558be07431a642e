package api

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

// The names that issue-level programs rely on. A name leaves this table never; the test fails when a field was renamed.
var contract = []struct {
	value any
	names []string
}{
	{Status{}, []string{"nodes"}},
	{Node{}, []string{"name", "id", "address", "state", "self", "load", "cpus", "speed", "mem_total_bytes", "mem_free_bytes", "guests", "away", "age_seconds", "cpu_model", "cpu_lacks", "cpu_also_has", "other_kernel"}},
	{Processes{}, []string{"processes"}},
	{Process{}, []string{"pid", "home", "where", "user", "command", "state", "cpu_seconds", "rss_bytes", "threads", "moves", "epoch", "locked", "refusals"}},
	{MigrateRequest{PID: 1, Home: "n1", To: "n2", AllowPrivileged: true, Strategy: Precopy}, []string{"pid", "home", "to", "allow_privileged", "strategy"}},
	{MigrateResult{}, []string{"pid", "home", "from", "to", "result", "strategy", "freeze_ms", "total_ms", "bytes", "rounds", "refusals"}},
	{Explanation{}, []string{"process", "movable", "candidate", "refusals", "unfit"}},
	{Moves{}, []string{"moves"}},
	{Move{}, []string{"pid", "home", "from", "to", "cause", "result", "strategy", "epoch", "freeze_ms", "total_ms", "bytes", "rounds", "refusals", "ended_unix_ms"}},
	{Error{}, []string{"error"}},
}

func TestReleasedNames(t *testing.T) {
	for _, c := range contract {
		b, err := json.Marshal(c.value)
		if err != nil {
			t.Fatalf("%T: %v", c.value, err)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatalf("%T: %v", c.value, err)
		}
		for _, name := range c.names {
			if _, ok := m[name]; !ok {
				t.Errorf("%T: field %q was released and is gone; it gave %s", c.value, name, b)
			}
		}
	}
}

// A field without a json tag would be released under its Go name by accident.
func TestEveryFieldIsTagged(t *testing.T) {
	for _, c := range contract {
		typ := reflect.TypeOf(c.value)
		seen := []string{}
		for i := range typ.NumField() {
			tag := typ.Field(i).Tag.Get("json")
			if tag == "" || slices.Contains(seen, tag) {
				t.Errorf("%s.%s: json tag %q is empty or used twice", typ, typ.Field(i).Name, tag)
			}
			seen = append(seen, tag)
		}
	}
}
