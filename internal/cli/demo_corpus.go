package cli

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// demoCorpusBytes is about how much of the Go source tree the demonstration reads, again and again.
const demoCorpusBytes = 3 << 20

// goTree finds the source tree of an installed Go.
func goTree() (string, error) {
	var roots []string
	if r := os.Getenv("GOROOT"); r != "" {
		roots = append(roots, r)
	}
	if out, err := exec.Command("go", "env", "GOROOT").Output(); err == nil {
		roots = append(roots, strings.TrimSpace(string(out)))
	}
	if bin, err := exec.LookPath("go"); err == nil {
		if real, err := filepath.EvalSymlinks(bin); err == nil {
			roots = append(roots, filepath.Dir(filepath.Dir(real)))
		}
	}
	roots = append(roots, "/usr/local/go", "/usr/lib/go")
	for _, r := range roots {
		src := filepath.Join(r, "src")
		if _, err := os.Stat(filepath.Join(src, "fmt", "print.go")); err == nil {
			return src, nil
		}
	}
	return "", fmt.Errorf("the demonstration reads the Go source tree and found none in %s; set GOROOT", strings.Join(slices.Compact(roots), ", "))
}

// packTree makes a tar archive of Go files from all over the tree at src, about limit bytes. It is carried into the lab, so
// a tree that the lab's users may not enter (in a home of mode 0700) serves as well.
func packTree(src string, limit int64) ([]byte, error) {
	type file struct {
		path string
		size int64
	}
	var files []file
	var total int64
	err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "testdata":
			return fs.SkipDir
		case !d.Type().IsRegular() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if fi.Size() > 0 && fi.Size() < 200<<10 { // tables of numbers are no programs
			files = append(files, file{path, fi.Size()})
			total += fi.Size()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the Go source tree: %w", err)
	}
	if len(files) < 8 {
		return nil, fmt.Errorf("read the Go source tree: %s holds only %s", src, count(len(files), "Go file"))
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	step := max(1, int(total/max(limit, 1)))
	for i := 0; i < len(files) && int64(b.Len()) < limit; i += step {
		name, err := filepath.Rel(src, files[i].path)
		if err != nil {
			return nil, err
		}
		data, err := os.ReadFile(files[i].path)
		if err != nil {
			return nil, fmt.Errorf("read the Go source tree: %w", err)
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Size: int64(len(data)), Mode: 0o644}); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// unpackTree writes an archive of packTree below dir, and all its files into one beside them.
func unpackTree(r io.Reader, dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("unpack the Go source tree: %w", err)
		}
	}()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	all, err := os.Create(filepath.Join(dir, demoCorpus))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all.Close()) }()
	tree := filepath.Join(dir, demoTree)
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r) // its padding: the writer must not be left with a broken pipe
			return err
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%q leads out of the archive", h.Name)
		}
		path := filepath.Join(tree, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.MultiWriter(f, all), t)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}
