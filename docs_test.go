package mosix_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	tomlKey  = regexp.MustCompile("`toml:\"([a-z_]+)\"`")
	markLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// The manual of the configuration lists every key that the agent knows, and the packaged file every one that is no test's.
func TestOperationsListsEveryKey(t *testing.T) {
	code := readFile(t, "internal/config/config.go")
	manual := readFile(t, "docs/operations.md")
	packaged := readFile(t, "packaging/mosixd.toml")
	keys := tomlKey.FindAllStringSubmatch(code, -1)
	if len(keys) == 0 {
		t.Fatal("internal/config/config.go has no keys that this test can see")
	}
	for _, k := range keys {
		if !strings.Contains(manual, "| `"+k[1]+"` |") {
			t.Errorf("docs/operations.md does not explain the key %s", k[1])
		}
		forTests := k[1] == "clock_skew" || k[1] == "clock_drift" || k[1] == "faults_file"
		if regexp.MustCompile(`(?m)^#.*\b`+k[1]+` = `).MatchString(packaged) == forTests {
			t.Errorf("packaging/mosixd.toml and the key %s: only tests' keys are left out", k[1])
		}
	}
}

// A link from one document to another leads somewhere.
func TestLinksOfDocuments(t *testing.T) {
	err := fs.WalkDir(os.DirFS("."), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin" || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(p) != ".md" {
			return nil
		}
		for _, m := range markLink.FindAllStringSubmatch(readFile(t, p), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", p, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every target that documents tell people to make exists.
func TestDocumentedTargets(t *testing.T) {
	makefile := readFile(t, "Makefile")
	target := regexp.MustCompile("(?m)(?:^    (?:sudo )?|`)make ([a-z-]+)")
	for _, p := range []string{"README.md", "CONTRIBUTING.md", "docs/operations.md"} {
		for _, m := range target.FindAllStringSubmatch(readFile(t, p), -1) {
			if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(m[1]) + `:.*## `).MatchString(makefile) {
				t.Errorf("%s says make %s, and the Makefile has no such target with a description", p, m[1])
			}
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
