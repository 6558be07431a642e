package vm

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

// tree is what the machine's root is made of: an archive that the kernel unpacks into memory (cpio, new ASCII format, as
// Documentation/driver-api/early-userspace/buffer-format.rst of Linux has it).
type tree struct {
	files map[string]file
}

type file struct {
	mode uint32
	body []byte
}

func newTree() *tree { return &tree{files: map[string]file{}} }

// put adds a file, or with a mode of S_IFDIR or S_IFLNK a folder or a link, and the folders above it.
func (t *tree) put(name string, mode uint32, body []byte) {
	name = path.Clean("/" + name)
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		if _, ok := t.files[dir]; !ok {
			t.files[dir] = file{mode: modeDir | 0o755}
		}
	}
	t.files[name] = file{mode, body}
}

const modeDir, modeFile = 0o040000, 0o100000

// program adds a program of this machine under name, and the libraries that it needs where they are.
func (t *tree) program(from, name string) error {
	if err := t.copy(from, name); err != nil {
		return err
	}
	if f, err := elf.Open(from); err != nil {
		return nil // a script
	} else if f.Close(); f.Section(".interp") == nil {
		return nil
	}
	out, err := exec.Command("ldd", from).Output()
	if err != nil {
		return fmt.Errorf("ask ldd what %s needs: %w", from, err)
	}
	for line := range strings.Lines(string(out)) {
		for _, word := range strings.Fields(line) {
			if _, have := t.files[word]; !have && strings.HasPrefix(word, "/") {
				if err := t.copy(word, word); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (t *tree) copy(from, name string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	t.put(name, modeFile|0o755, b)
	return nil
}

func (t *tree) write(w io.Writer) error {
	names := make([]string, 0, len(t.files))
	for name := range t.files {
		names = append(names, name)
	}
	slices.Sort(names) // a folder comes before what is in it
	pad := func(n int) string { return strings.Repeat("\x00", -n&3) }
	entry := func(i int, name string, f file) error {
		head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			i, f.mode, 0, 0, 1, 0, len(f.body), 0, 0, 0, 0, len(name)+1, 0) + name + "\x00"
		_, err := io.WriteString(w, head+pad(len(head))+string(f.body)+pad(len(f.body)))
		return err
	}
	for i, name := range names {
		if err := entry(i+1, strings.TrimPrefix(name, "/"), t.files[name]); err != nil {
			return err
		}
	}
	return entry(0, "TRAILER!!!", file{})
}
