package software

import (
	"fmt"
	"maps"
	"slices"
)

// Reasons are the calls for which a process of this package's programs, or a client of an X server, may come home, and why. Another one
// is a fault: what programs do every day is to be done at a distance. docs/operations.md has the same list.
var Reasons = map[string]string{
	"clone":   "it shares memory with other processes, or has made as many threads away as it had room for",
	"clone3":  "as clone",
	"fork":    "as clone",
	"vfork":   "as clone",
	"execve":  "it has other threads, or a signal waits for it: home's kernel knows what becomes of them",
	"mmap":    "it maps memory that is shared for writing, a file that can be written, or more than 64 MiB of files",
	"fcntl":   "by a descriptor of memory that it shares",
	"openat":  "it opens a file of /proc that shows its own memory, such as /proc/self/maps",
	"futex":   "it waits until a realtime, and the host's clock is more than 1 ms from home's",
	"madvise": "it advises what would cost the host's kernel time",
}

// Unlisted names the calls in homes that are not among Reasons.
func Unlisted(homes map[string]int) (out []string) {
	for _, call := range slices.Sorted(maps.Keys(homes)) {
		if Reasons[call] == "" {
			out = append(out, fmt.Sprintf("%d times for %s, which is not listed", homes[call], call))
		}
	}
	return out
}
