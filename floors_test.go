package mosix_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "mosix"

// wing is the half of the house that a package stands in.
type wing int

const (
	// pure code has no net, os, syscall, unsafe, sync, log, goroutine, clock or randomness of its own: what tests play through is
	// what production runs.
	pure wing = iota
	// world code touches the kernel and the network. It may use pure code, never the reverse.
	world
)

// floor is the place of a package. It imports packages of lower floors only.
type floor struct {
	number int
	wing   wing
}

// floors is the house. A new package gets a line here; docs/architecture.md draws the same.
var floors = map[string]floor{
	"cmd/mosixd":   {10, world},
	"cmd/mosixctl": {10, world},

	"internal/cli": {9, world},

	"node":         {8, world},
	"internal/lab": {8, world},

	"migrator/ferry": {7, world},
	"internal/sim":   {7, pure},

	"homeproxy/shadow": {6, world},
	"homeproxy/guest":  {6, world},

	"migrator/freeze": {5, world},
	"migrator/thaw":   {5, world},

	"internal/keeper":                  {4, world},
	"internal/transport/memnet":        {4, world},
	"internal/transport/transporttest": {4, world},
	"migrator/pages":                   {4, world},
	"migrator/eligible":                {4, world},
	"gossip/peer":                      {4, world},
	"node/sampler":                     {4, world},
	"node/control":                     {4, world},
	"self":                             {5, world},
	"node/metrics":                     {4, world},

	"gossip":             {3, pure},
	"balancer":           {3, pure},
	"migrator":           {3, pure},
	"homeproxy":          {3, pure},
	"internal/feature":   {3, world},
	"internal/transport": {3, world},
	"internal/tracer":    {3, world},

	"internal/wire":     {2, pure},
	"node/api":          {2, pure},
	"internal/config":   {2, world},
	"internal/identity": {2, world},
	"internal/owner":    {2, world},
	"internal/procfs":   {2, world},
	"internal/region":   {2, world},

	"internal/failure": {1, pure},
	"internal/image":   {1, pure},
	"balancer/load":    {1, pure},
	"internal/kern":    {1, world},
	"internal/stub":    {1, world},

	"internal/require": {0, pure},

	"internal/id":    {0, pure},
	"internal/mem":   {0, pure},
	"internal/abi":   {0, pure},
	"internal/pack":  {0, pure},
	"internal/fault": {0, world},
}

// testTop holds the test programs and their tools, above all floors: they may import everything, also each other, and
// nothing but a test may import them.
const testTop = "test"

// testHelpers may be imported by tests of any floor.
var testHelpers = []string{"internal/feature", "internal/transport/memnet", "internal/transport/transporttest"}

// brains never import each other; node introduces them.
var brains = []string{"gossip", "balancer", "migrator", "homeproxy"}

// impure are the imports, with everything below them, that pure code does without.
var impure = []string{"net", "os", "syscall", "unsafe", "sync", "log", "crypto/rand", "io/ioutil", "os/exec", "plugin"}

// pureLibraries are the modules of others that pure code may use: their results depend on their arguments alone.
var pureLibraries = []string{"github.com/klauspost/compress"}

// clock is what pure code may not take from package time; of math/rand it may take only what is given a seed.
var (
	clock  = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}
	seeded = []string{"New", "NewPCG", "NewChaCha8", "NewZipf", "NewSource", "Rand", "Source", "PCG", "ChaCha8", "Zipf"}
)

// lineLimit is the length, in lines, that a source file stays under.
const lineLimit = 800

// looseEnd matches the words that mark unfinished work.
var looseEnd = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX"}, "|") + `)\b`)

func TestFloors(t *testing.T) {
	tree := os.DirFS(".")
	for _, s := range inspect(tree, floors) {
		t.Error(s)
	}
	for p := range floors {
		if files, err := fs.Glob(tree, p+"/*.go"); err != nil || len(files) == 0 {
			t.Errorf("the table names %q, where there is no package", p)
		}
	}
}

// The drawing that people read and the table that is enforced must not drift apart.
func TestArchitectureShowsEveryRoom(t *testing.T) {
	b, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // floor's number to its rows of the drawing
	for line := range strings.Lines(string(b)) {
		if m := drawnFloor.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			rows[m[1]] += " " + m[2] + " "
		}
	}
	for p, f := range floors {
		n := strconv.Itoa(f.number)
		if !slices.Contains(strings.Fields(rows[n]), p) {
			t.Errorf("docs/architecture.md does not show %s on floor %s, where floors_test.go has it", p, n)
		}
	}
}

var drawnFloor = regexp.MustCompile(`^\| *(\d+) *\|(.*)$`)

// source is one file of the tree.
type source struct {
	path string // slash-separated, from the root
	test bool
	ast  *ast.File
	fset *token.FileSet
}

func (s source) dir() string { return path.Dir(s.path) }

// inspect returns one sentence for each rule that a file of tree breaks. It reads the files itself: asking the go command
// would make the test's verdict stale, because its cache does not see what the go command reads.
func inspect(tree fs.FS, floors map[string]floor) (bad []string) {
	report := func(format string, a ...any) { bad = append(bad, fmt.Sprintf(format, a...)) }
	packages := map[string][]source{}
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipDir(tree, p, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		text, ok := textOf(tree, p, d)
		if !ok {
			return nil
		}
		for i, line := range strings.Split(text, "\n") {
			if w := looseEnd.FindString(line); w != "" {
				report("%s:%d says %s: finish the work, or write it where people look for it.", p, i+1, w)
			}
		}
		if ext := path.Ext(p); ext == ".go" || ext == ".s" {
			if n := strings.Count(text, "\n"); n >= lineLimit {
				report("%s has %d lines: split it by subject before %d.", p, n, lineLimit)
			}
		}
		if path.Ext(p) != ".go" {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			report("%s cannot be parsed: %v.", p, err)
			return nil
		}
		s := source{path: p, test: strings.HasSuffix(p, "_test.go"), ast: f, fset: fset}
		packages[s.dir()] = append(packages[s.dir()], s)
		return nil
	})
	if err != nil {
		report("the tree cannot be read: %v.", err)
	}
	for dir, files := range packages {
		_, placed := floors[dir]
		inTest := dir == testTop || strings.HasPrefix(dir, testTop+"/")
		code := slices.ContainsFunc(files, func(s source) bool { return !s.test })
		if code && !placed && !inTest {
			report("package %s has no floor: give it a line in the table of floors_test.go.", dir)
		}
		if code {
			checkComment(dir, files, report)
		}
		for _, s := range files {
			checkImports(s, floors, report)
			if f := floors[dir]; placed && f.wing == pure && !s.test {
				checkPure(s, report)
			}
		}
	}
	slices.Sort(bad)
	return bad
}

// skipDir says which folders hold no code of this module.
func skipDir(tree fs.FS, p, name string) bool {
	if p == "." {
		return false
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "bin" {
		return name != ".ci"
	}
	_, err := fs.Stat(tree, path.Join(p, "go.mod"))
	return err == nil
}

// textOf reads p where it is something that people write.
func textOf(tree fs.FS, p string, d fs.DirEntry) (string, bool) {
	switch path.Ext(p) {
	case ".go", ".s", ".md", ".toml", ".yml", ".service", ".sh":
	default:
		if d.Name() != "Makefile" && !strings.HasPrefix(p, ".ci/") {
			return "", false
		}
	}
	b, err := fs.ReadFile(tree, p)
	return string(b), err == nil
}

func checkComment(dir string, files []source, report func(string, ...any)) {
	text, main := "", false
	for _, s := range files {
		if s.test {
			continue
		}
		main = main || s.ast.Name.Name == "main"
		if s.ast.Doc != nil {
			text += s.ast.Doc.Text()
		}
	}
	switch {
	case text == "":
		report("package %s has no package comment: say what it is and what it keeps true.", dir)
	case !main && !strings.Contains(text, "invariant"):
		report("the comment of package %s does not name its invariant.", dir)
	}
}

func checkImports(s source, floors map[string]floor, report func(string, ...any)) {
	dir := s.dir()
	from, placed := floors[dir]
	for _, spec := range s.ast.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		switch {
		case imp == "unsafe" && !strings.HasSuffix(s.path, "_unsafe.go") && !strings.HasSuffix(s.path, "_unsafe_test.go"):
			report("%s imports unsafe: move that code to a file whose name ends in _unsafe.go.", s.path)
		case below(imp, "golang.org/x/sys") && dir != "internal/kern" && !below(dir, testTop):
			report("%s imports %s: only internal/kern may; add what is needed there.", s.path, imp)
		}
		to, ours := strings.CutPrefix(imp, module+"/")
		if !ours {
			continue
		}
		if b, c := brainOf(dir), brainOf(to); b != "" && c != "" && b != c {
			report("%s imports %s: the brains %s and %s know nothing of each other; node introduces them.", s.path, to, b, c)
			continue
		}
		if below(to, testTop) && !below(dir, testTop) && !s.test {
			report("%s imports %s: only tests use what lies under %s.", s.path, to, testTop)
			continue
		}
		target, known := floors[to]
		if !placed || !known || to == dir {
			continue // no floor is reported once, at the package itself
		}
		if s.test {
			if target.number > from.number && !slices.Contains(testHelpers, to) {
				report("%s imports %s: a test of floor %d cannot use floor %d; it belongs to a package further up.", s.path, to, from.number, target.number)
			}
			continue
		}
		if from.wing == pure && target.wing == world {
			report("%s imports %s: pure code never knows the world; take what it needs as an argument.", s.path, to)
		}
		if target.number >= from.number {
			report("%s imports %s: floor %d cannot stand on floor %d.", s.path, to, from.number, target.number)
		}
	}
}

// brainOf is the brain whose root package p is. What stands around a brain is not the brain.
func brainOf(p string) string {
	if slices.Contains(brains, p) {
		return p
	}
	return ""
}

func checkPure(s source, report func(string, ...any)) {
	names := map[string]string{} // local name to import path, of the packages of which only a part is allowed
	for _, spec := range s.ast.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(impure, func(p string) bool { return below(imp, p) }) {
			report("%s imports %s: pure code has no net, os, syscall, unsafe, sync, log or randomness of its own.", s.path, imp)
		}
		first, _, _ := strings.Cut(imp, "/")
		if strings.Contains(first, ".") && !slices.ContainsFunc(pureLibraries, func(p string) bool { return below(imp, p) }) {
			report("%s imports %s: pure code uses the standard library and mosix only.", s.path, imp)
		}
		if imp == "time" || imp == "math/rand" || imp == "math/rand/v2" {
			local := "rand"
			if imp == "time" {
				local = "time"
			}
			if spec.Name != nil {
				local = spec.Name.Name
			}
			names[local] = imp
		}
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report("%s:%d starts a goroutine: pure code is called, and returns.", s.path, s.fset.Position(n.Pos()).Line)
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			line := s.fset.Position(n.Pos()).Line
			switch imp := names[x.Name]; {
			case imp == "time" && slices.Contains(clock, n.Sel.Name):
				report("%s:%d uses time.%s: pure code is told what time it is.", s.path, line, n.Sel.Name)
			case strings.HasPrefix(imp, "math/rand") && !slices.Contains(seeded, n.Sel.Name):
				report("%s:%d uses rand.%s: pure code gets its *rand.Rand as an argument.", s.path, line, n.Sel.Name)
			}
		}
		return true
	})
}

// below reports whether p is top or lies below it.
func below(p, top string) bool { return p == top || strings.HasPrefix(p, top+"/") }

// The rules above would be worth nothing if they let everything pass: each violation here must give its one sentence.
func TestFloorsNoticeViolations(t *testing.T) {
	house := map[string]floor{
		"gossip": {3, pure}, "balancer": {3, pure}, "balancer/load": {1, pure}, "gossip/peer": {4, world},
		"internal/kern": {1, world}, "internal/id": {0, pure}, "node": {7, world}, "internal/transport/memnet": {4, world},
	}
	const doc = "// Package p has one invariant.\n"
	for _, c := range []struct {
		name, file, text string
		want             []string // parts of the sentences, in their order; none: nothing is wrong
	}{
		{"clean pure", "gossip/a.go", doc + "package gossip\nimport (\n\"time\"\n\"math/rand/v2\"\n_ \"mosix/internal/id\"\n)\nvar D = time.Second\nvar R = rand.New(rand.NewPCG(1, 2))\n", nil},
		{"clean world", "node/a.go", doc + "package node\nimport (\n\"os\"\n_ \"mosix/gossip\"\n_ \"mosix/gossip/peer\"\n)\nvar P = os.Getpid\n", nil},
		{"no floor", "attic/a.go", doc + "package attic\n", []string{"package attic has no floor"}},
		{"upward", "internal/kern/a.go", doc + "package kern\nimport _ \"mosix/gossip/peer\"\n", []string{"floor 1 cannot stand on floor 4"}},
		{"sideways", "gossip/peer/a.go", doc + "package peer\nimport _ \"mosix/internal/transport/memnet\"\n", []string{"floor 4 cannot stand on floor 4"}},
		{"pure knows world", "balancer/a.go", doc + "package balancer\nimport _ \"mosix/internal/kern\"\n", []string{"pure code never knows the world"}},
		{"brains", "gossip/a.go", doc + "package gossip\nimport _ \"mosix/balancer\"\n", []string{"know nothing of each other"}},
		{"brains, in a test", "gossip/a_test.go", "package gossip\nimport _ \"mosix/balancer\"\n", []string{"know nothing of each other"}},
		{"a brain uses what stands beside another", "gossip/a.go", doc + "package gossip\nimport _ \"mosix/balancer/load\"\n", nil},
		{"os", "gossip/a.go", doc + "package gossip\nimport _ \"os\"\n", []string{"imports os: pure code has no"}},
		{"below sync", "gossip/a.go", doc + "package gossip\nimport _ \"sync/atomic\"\n", []string{"imports sync/atomic"}},
		{"log/slog", "gossip/a.go", doc + "package gossip\nimport _ \"log/slog\"\n", []string{"imports log/slog"}},
		{"crypto/rand", "gossip/a.go", doc + "package gossip\nimport _ \"crypto/rand\"\n", []string{"imports crypto/rand"}},
		{"below net", "gossip/a.go", doc + "package gossip\nimport _ \"net/netip\"\n", []string{"imports net/netip"}},
		{"other's library", "gossip/a.go", doc + "package gossip\nimport _ \"github.com/some/thing\"\n", []string{"the standard library and mosix only"}},
		{"clock", "gossip/a.go", doc + "package gossip\nimport \"time\"\nvar T = time.Now()\n", []string{"a.go:4 uses time.Now"}},
		{"clock by another name", "gossip/a.go", doc + "package gossip\nimport clk \"time\"\nfunc F() { clk.Sleep(1) }\n", []string{"uses time.Sleep"}},
		{"global randomness", "gossip/a.go", doc + "package gossip\nimport \"math/rand/v2\"\nvar N = rand.IntN(3)\n", []string{"uses rand.IntN"}},
		{"goroutine", "gossip/a.go", doc + "package gossip\nfunc F() { go F() }\n", []string{"starts a goroutine"}},
		{"tests of pure code may use the world", "gossip/a_test.go", "package gossip\nimport (\n\"os\"\n\"time\"\n)\nvar T, P = time.Now(), os.Getpid()\n", nil},
		{"tests may use helpers from above", "gossip/a_test.go", "package gossip\nimport _ \"mosix/internal/transport/memnet\"\n", nil},
		{"tests do not climb", "gossip/a_test.go", "package gossip\nimport _ \"mosix/node\"\n", []string{"a test of floor 3 cannot use floor 7"}},
		{"x/sys", "node/a.go", doc + "package node\nimport _ \"golang.org/x/sys/unix\"\n", []string{"only internal/kern may"}},
		{"x/sys in kern", "internal/kern/a.go", doc + "package kern\nimport _ \"golang.org/x/sys/unix\"\n", nil},
		{"unsafe", "node/a.go", doc + "package node\nimport _ \"unsafe\"\n", []string{"ends in _unsafe.go"}},
		{"unsafe, well named", "node/a_unsafe.go", doc + "package node\nimport _ \"unsafe\"\n", nil},
		{"unsafe in a test", "node/a_unsafe_test.go", "package node\nimport _ \"unsafe\"\n", nil},
		{"no comment", "node/a.go", "package node\n", []string{"package node has no package comment"}},
		{"no invariant", "node/a.go", "// Package node composes.\npackage node\n", []string{"does not name its invariant"}},
		{"a main needs none", "test/x/main.go", "// Command x does x.\npackage main\n", nil},
		{"test programs use each other", "test/x/main.go", "// Command x does x.\npackage main\nimport _ \"mosix/test/workload\"\n", nil},
		{"code uses test programs", "node/a.go", doc + "package node\nimport _ \"mosix/test/workload\"\n", []string{"only tests use what lies under test"}},
		{"long file", "node/a.go", doc + "package node\n" + strings.Repeat("//\n", lineLimit), []string{"split it by subject"}},
		{"long assembly", "node/a_amd64.s", strings.Repeat("//\n", lineLimit), []string{"split it by subject"}},
		{"loose end", "node/a.go", doc + "package node // TO" + "DO: more\n", []string{"a.go:2 says TO" + "DO"}},
		{"loose end in a document", "docs/a.md", "a\nX" + "XX\n", []string{"a.md:2 says X" + "XX"}},
		{"a longer word", "docs/a.md", "mktemp a.XX" + "XXXX\n", nil},
		{"not Go", "node/a.go", "packag node\n", []string{"cannot be parsed"}},
		{"not ours", "tools/testdata/a.go", "packag node\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := inspect(mapFS(t, map[string]string{c.file: c.text}), house)
			if len(got) != len(c.want) {
				t.Fatalf("%d sentences %q, want %d", len(got), got, len(c.want))
			}
			for i, w := range c.want {
				if !strings.Contains(got[i], w) {
					t.Errorf("%q does not say %q", got[i], w)
				}
			}
		})
	}
}

// mapFS lays files down in a folder of the test.
func mapFS(t *testing.T, files map[string]string) fs.FS {
	t.Helper()
	root := t.TempDir()
	for p, text := range files {
		p = filepath.Join(root, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return os.DirFS(root)
}
