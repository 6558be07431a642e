// Package procfs reads /proc. Its one invariant: reading never disturbs the process that is read; nothing here opens a file
// whose opening has an effect, and every parser takes bytes, so that a recorded /proc tests it.
package procfs

import (
	"path/filepath"
	"strconv"
)

// FS is a mounted, or recorded, /proc.
type FS struct{ Root string }

// Default is the /proc of this machine.
var Default = FS{Root: "/proc"}

// Path joins a process number and names below it: Path(4711, "task", "4712", "stat").
func (fs FS) Path(pid int, elem ...string) string {
	return filepath.Join(append([]string{fs.Root, strconv.Itoa(pid)}, elem...)...)
}
