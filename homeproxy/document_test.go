package homeproxy

import (
	"flag"
	"os"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write docs/syscalls.md anew")

func TestDocument(t *testing.T) {
	const file = "../docs/syscalls.md"
	want := Document()
	if *rewrite {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table says: go test ./homeproxy -run TestDocument -rewrite", file)
	}
}
