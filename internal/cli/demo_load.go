package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spf13/cobra"
)

// demoLoadWorkers is how many goroutines share the work; with GOMAXPROCS=4 as many threads compute.
const demoLoadWorkers = 4

func (a *app) demoLoadCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "demo-load parse|deflate",
		Short:  "Parse or compress Go files in several threads (used by demo)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			work, ok := map[string]func(name string, text []byte) (string, error){"parse": demoParse, "deflate": demoDeflate}[args[0]]
			if !ok {
				return usagef("%q is no load: want parse or deflate", args[0])
			}
			return a.demoLoad(work)
		},
	}
}

// demoLoad applies work to the files of the tree, read once: to the next eight of them for each line of its input. It prints the
// results in the order of the files, whichever thread was first.
func (a *app) demoLoad(work func(string, []byte) (string, error)) error {
	var files []string
	err := filepath.WalkDir(demoTree, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no files below %s", demoTree)
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Compare(spread(a), spread(b)) })
	texts := make([][]byte, len(files))
	for i, name := range files {
		if texts[i], err = os.ReadFile(name); err != nil {
			return err
		}
	}
	lines := make([]string, 0, 8*len(files))
	var mu sync.Mutex // guards lines and failed
	var failed error
	work1 := func(i int) {
		line, err := work(files[i%len(files)], texts[i%len(texts)])
		mu.Lock()
		defer mu.Unlock()
		lines[i], failed = line, errors.Join(failed, err)
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range demoLoadWorkers {
		wg.Go(func() {
			for i := range next {
				work1(i)
			}
		})
	}
	in := bufio.NewScanner(a.in)
	in.Buffer(nil, 2*demoUnit)
	for n := 0; in.Scan(); {
		for range 8 {
			mu.Lock()
			lines = append(lines, "")
			mu.Unlock()
			next <- n
			n++
		}
	}
	close(next)
	wg.Wait()
	if err := errors.Join(failed, in.Err()); err != nil {
		return err
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(a.out, l); err != nil {
			return err
		}
	}
	return nil
}

// spread orders the files so that any few in a row cost about as much as any others: by name, those of one package stand together.
func spread(name string) string {
	h := sha256.Sum256([]byte(name))
	return string(h[:]) + name
}

// demoParse counts the nodes of the syntax tree and adds up where its names stand.
func demoParse(name string, text []byte) (string, error) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, text, parser.ParseComments)
	if err != nil {
		return "", err
	}
	nodes, names := 0, 0
	ast.Inspect(f, func(n ast.Node) bool {
		nodes++
		if id, ok := n.(*ast.Ident); ok {
			names += set.Position(id.Pos()).Line * len(id.Name)
		}
		return true
	})
	return fmt.Sprintf("%s: %d nodes, %d imports, %d", f.Name.Name, nodes, len(f.Imports), names), nil
}

// demoDeflate compresses text and prints the hash of the result.
func demoDeflate(name string, text []byte) (string, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(text); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x  %d  %s", sha256.Sum256(b.Bytes()), b.Len(), filepath.ToSlash(name)), nil
}
