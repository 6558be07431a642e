package ferry

import (
	"os"
	"testing"
	"time"
)

// TestStamp: what was read of a file counts as long as nothing says that the file was changed since, and its times can say so.
func TestStamp(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fresh := stampOf(f)
	if !fresh.changed(stampOf(f)) {
		t.Error("a file that was made just now counts as left alone: its times are too coarse to tell")
	}
	later := stampOf(f)
	later.at = time.Now().Add(2 * settled) // as if it had been read later
	if later.changed(stampOf(f)) {
		t.Error("a file that was left alone counts as changed")
	}
	if err := f.Truncate(5); err != nil {
		t.Fatal(err)
	}
	if !later.changed(stampOf(f)) {
		t.Error("another size is no change")
	}
	same := stampOf(f)
	same.at = time.Now().Add(2 * settled)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(f.Name(), old, old); err != nil {
		t.Fatal(err)
	}
	if !same.changed(stampOf(f)) {
		t.Error("other times are no change")
	}
}
