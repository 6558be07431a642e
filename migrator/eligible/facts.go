package eligible

import (
	"slices"

	"mosix/internal/procfs"
)

// Facts is all that is known about a process without touching it.
type Facts struct {
	PID     int
	Stat    procfs.Stat   // of the first thread, with the times of all
	Status  procfs.Status // of the first thread
	Exe     string        // empty when it could not be read
	Command []string
	Threads []Thread // ascending by number; the first thread is among them
	Cgroups []procfs.Cgroup

	Owner      uint32 // of its files in /proc
	OwnerKnown bool

	NS, OwnNS      procfs.Namespaces // its own, and those of the agent
	UIDMap, GIDMap []procfs.IDRange  // read when the user namespace is not the agent's
	Auxv           procfs.Auxv
	Personality    uint32

	Areas     []Area
	FDs       []procfs.FD
	Timers    []procfs.Timer
	Shared    []Shared // the shared mappings that can be a reason
	SameSpace []int    // other processes in the same address space
	// Family are the processes that will move together with it, itself among them. Gather does not fill it.
	Family map[int]bool

	HasVDSO     bool
	VDSOBuildID string // empty when it could not be read

	CPU      CPU // of this machine: what the program may have detected
	IsAgent  bool
	Thorough bool
	Unread   []string // what could not be read, and why
}

// Thread is one thread.
type Thread struct {
	TID, InnerTID int // for the agent, and for the thread itself
	Comm          string
	State         byte
	Flags, Policy uint32
	Seccomp       int
	TracerPID     int
	UID, GID      procfs.IDs
	Caps          procfs.Caps
}

// Area is a mapping with what is known about its file.
type Area struct {
	procfs.Area
	Flags         procfs.VMFlags // only when Thorough
	ProtectionKey int            // only when Thorough
	FSType        string         // of the file system, where the process sees it mounted
	Known         bool           // the following are known
	Device        bool           // a character or block device other than /dev/zero
	Nlink         uint32
	// SystemFile says that only root can change the file.
	SystemFile bool
}

// Kind is what a shared mapping is made of.
type Kind uint8

// Kinds of shared memory.
const (
	SharedAnon     Kind = iota // MAP_SHARED without a file
	SharedMemfd                //
	SharedSysV                 //
	SharedUnlinked             // a file without a name
	SharedFile                 // a file that anybody with the right can open
)

var kindNames = [...]string{"shared anonymous memory", "a memfd", "System V shared memory", "a deleted file", "a file"}

func (k Kind) String() string { return kindNames[k] }

// Shared is one object that the process maps with MAP_SHARED.
type Shared struct {
	Kind       Kind
	Area       procfs.Area // the first mapping of it
	Writable   bool        // some mapping of it can be written, or could be after mprotect
	WritableAt procfs.Area // that mapping
	SystemFile bool
	Attachable bool // System V: anybody with the right can still attach it
	OwnFD      int  // a descriptor of the process itself through which it can be written or, without a name, reached; or -1
	Others     []Holder
	Unscanned  int // processes that could not be looked at
}

// Holder is another process that has an object.
type Holder struct {
	PID   int
	FD    int // -1: it maps it
	Write bool
	Comm  string // its name, of the first holders
}

// Sharers are the processes that map memory which this one shares, without a name for others: they can move together with it.
func (f *Facts) Sharers() (pids []int) {
	for i := range f.Shared {
		s := &f.Shared[i]
		if s.Kind == SharedFile || display(s.Others) != "" {
			continue
		}
		for _, h := range s.Others {
			if h.FD < 0 && !slices.Contains(pids, h.PID) {
				pids = append(pids, h.PID)
			}
		}
	}
	return pids
}
