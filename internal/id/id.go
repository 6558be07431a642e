// Package id names nodes, processes and moves. Its one invariant: a number that means something on one node can never be
// passed, unconverted, where the same number would mean something else on another; each has a type of its own.
package id

import (
	"fmt"
	"strconv"
	"strings"
)

// Node is the name of a node: unique in the cluster, by default its host name.
type Node string

// HomePID is a process or thread number as its home counts it: what the process itself, ps and kill see.
type HomePID int32

// HostPID is the number that the node which runs a guest gives to it, in the host's initial PID namespace.
type HostPID int32

// Epoch counts the moves of a process. It starts at 0, at home, and every committed move raises it by one.
type Epoch uint64

// Seq numbers the forwarded calls of one thread. It starts at 1 and never repeats within an epoch.
type Seq uint64

// Process names a process cluster-wide: its home, its number there, and the boot-relative start time that tells it from a
// later process with the same number.
type Process struct {
	Home  Node    `json:"home"`
	PID   HomePID `json:"pid"`
	Start uint64  `json:"start"` // field 22 of /proc/PID/stat, in clock ticks since boot
}

// String gives the form that users see, pid@home.
func (p Process) String() string { return fmt.Sprintf("%d@%s", p.PID, p.Home) }

// ParsePID reads "4711" or "4711@home"; home is empty in the first case.
func ParsePID(s string) (HomePID, Node, error) {
	num, home, _ := strings.Cut(s, "@")
	n, err := strconv.ParseInt(num, 10, 32)
	if err != nil || n <= 0 {
		return 0, "", fmt.Errorf("%q is not a process id: want a number, or number@home", s)
	}
	return HomePID(n), Node(home), nil
}
