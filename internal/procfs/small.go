package procfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Types of auxiliary entries.
const (
	AtPhent       = 4
	AtSecure      = 23
	AtHWCap       = 16
	AtHWCap2      = 26
	AtSysinfoEhdr = 33 // where the vDSO begins
)

// Auxv is the auxiliary vector that the kernel gave to a program at its start.
type Auxv struct {
	Entries []AuxEntry
	Class32 bool // of a 32-bit program (i386 or x32)
}

// AuxEntry is one of its entries.
type AuxEntry struct{ Type, Value uint64 }

// Get returns the value of type t.
func (a Auxv) Get(t uint64) (uint64, bool) {
	for _, e := range a.Entries {
		if e.Type == t {
			return e.Value, true
		}
	}
	return 0, false
}

// ParseAuxv parses /proc/PID/auxv. Whether the program is of 32 bits is told by the size of its program headers. A kernel
// thread has an empty vector.
func ParseAuxv(b []byte) (Auxv, error) {
	if len(b) == 0 {
		return Auxv{}, nil
	}
	for _, word := range []int{8, 4} {
		a := Auxv{Class32: word == 4}
		ended := false
		for i := 0; i+2*word <= len(b); i += 2 * word {
			var e AuxEntry
			if word == 8 {
				e = AuxEntry{binary.LittleEndian.Uint64(b[i:]), binary.LittleEndian.Uint64(b[i+8:])}
			} else {
				e = AuxEntry{uint64(binary.LittleEndian.Uint32(b[i:])), uint64(binary.LittleEndian.Uint32(b[i+4:]))}
			}
			if e.Type == 0 {
				ended = true
				break
			}
			a.Entries = append(a.Entries, e)
		}
		size, ok := a.Get(AtPhent)
		if !ended || !ok {
			continue
		}
		switch {
		case size == 56 && word == 8:
			return a, nil
		case size == 32:
			a.Class32 = true
			return a, nil
		}
	}
	return Auxv{}, fmt.Errorf("auxiliary vector of %d bytes is neither of a 64-bit nor of a 32-bit program", len(b))
}

// ParseCmdline splits /proc/PID/cmdline into its words.
func ParseCmdline(b []byte) ([]string, error) {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil, nil
	}
	return strings.Split(string(b), "\x00"), nil
}

// ParseComm parses /proc/PID/comm.
func ParseComm(b []byte) (string, error) { return string(bytes.TrimSuffix(b, []byte("\n"))), nil }

// FD is a descriptor and what its link says: a path, "pipe:[4711]", "anon_inode:[eventfd]".
type FD struct {
	N    int
	Link string
}

// FDInfo is /proc/PID/fdinfo/N.
type FDInfo struct {
	Pos   uint64
	Flags uint64 // of open, with O_CLOEXEC
	MntID int
	Inode uint64            // 0 on kernels before 5.14
	More  map[string]string // what depends on the kind; of keys that repeat, the last
}

// Writable reports whether the descriptor can write.
func (f FDInfo) Writable() bool { return f.Flags&3 == 1 || f.Flags&3 == 2 }

// ParseFDInfo parses /proc/PID/fdinfo/N.
func ParseFDInfo(b []byte) (FDInfo, error) {
	var f FDInfo
	seen := false
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			continue
		}
		s := scanner{b: line[colon+1:]}
		switch key := string(line[:colon]); key {
		case "pos":
			f.Pos = uint64(s.int())
		case "flags":
			f.Flags, seen = s.octal(), true
		case "mnt_id":
			f.MntID = int(s.int())
		case "ino":
			f.Inode = s.uint()
		default:
			if f.More == nil {
				f.More = map[string]string{}
			}
			f.More[key] = string(s.rest())
		}
		if s.err != nil {
			return f, fmt.Errorf("%s: %w", line[:colon], s.err)
		}
	}
	if !seen {
		return f, fmt.Errorf("no flags: %w", errShort)
	}
	return f, nil
}

// Namespaces are the inode numbers of the namespaces that a process is in.
type Namespaces struct {
	User, PID, Mount, Net, IPC, UTS, Time, Cgroup uint64

	PIDChildren, TimeChildren uint64 // in which its children begin; NoNamespace: in one that has nobody yet
}

// NoNamespace stands for a namespace that has no number yet.
const NoNamespace = ^uint64(0)

// ParseNSLink parses the target of /proc/PID/ns/KIND: "time:[4026531834]".
func ParseNSLink(link string) (kind string, inode uint64, err error) {
	i := strings.Index(link, ":[")
	if i <= 0 || !strings.HasSuffix(link, "]") {
		return "", 0, fmt.Errorf("%q is not the link of a namespace", link)
	}
	s := scanner{b: []byte(link[i+2 : len(link)-1])}
	inode = s.uint()
	return link[:i], inode, s.end()
}

// Cgroup is a line of /proc/PID/cgroup: a hierarchy and the process's place in it.
type Cgroup struct {
	ID          int
	Controllers []string // empty for version 2
	Path        string
}

// ParseCgroups parses /proc/PID/cgroup.
func ParseCgroups(b []byte) ([]Cgroup, error) {
	var out []Cgroup
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		parts := strings.SplitN(string(line), ":", 3)
		if len(parts) != 3 {
			return out, fmt.Errorf("%q is not ID:controllers:path", line)
		}
		s := scanner{b: []byte(parts[0])}
		c := Cgroup{ID: int(s.uint()), Path: parts[2]}
		if err := s.end(); err != nil {
			return out, err
		}
		if parts[1] != "" {
			c.Controllers = strings.Split(parts[1], ",")
		}
		out = append(out, c)
	}
	return out, nil
}

// Unlimited is the value of a limit that is none.
const Unlimited = ^uint64(0)

// Limits are the resource limits of a process, by the kernel's number (RLIMIT_CPU is 0).
type Limits [16]struct{ Soft, Hard uint64 }

// limitNames are the kernel's names, by number.
var limitNames = [16]string{
	"Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size", "Max resident set",
	"Max processes", "Max open files", "Max locked memory", "Max address space", "Max file locks", "Max pending signals",
	"Max msgqueue size", "Max nice priority", "Max realtime priority", "Max realtime timeout",
}

// ParseLimits parses /proc/PID/limits.
func ParseLimits(b []byte) (Limits, error) {
	var l Limits
	seen := 0
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		for i, name := range limitNames {
			after, ok := bytes.CutPrefix(line, []byte(name))
			if !ok || len(after) == 0 || after[0] != ' ' {
				continue
			}
			s := scanner{b: after}
			l[i].Soft, l[i].Hard = s.limit(), s.limit()
			if s.err != nil {
				return l, fmt.Errorf("%s: %w", name, s.err)
			}
			seen++
		}
	}
	if seen < len(limitNames) {
		return l, fmt.Errorf("%d of %d limits: %w", seen, len(limitNames), errShort)
	}
	return l, nil
}

func (s *scanner) limit() uint64 {
	s.spaces()
	if after, ok := bytes.CutPrefix(s.b, []byte("unlimited")); ok {
		s.b = after
		return Unlimited
	}
	return s.uint()
}

// Timer is a POSIX timer of a process.
type Timer struct {
	ID     int
	Signal int
	Value  uint64 // sigev_value
	Notify string // "signal", "none" or "thread", with "/pid.N" or "/tid.N"
	Clock  int    // negative for the CPU time of a process or thread
}

// ParseTimers parses /proc/PID/timers.
func ParseTimers(b []byte) ([]Timer, error) {
	var out []Timer
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			return out, fmt.Errorf("%q has no colon", line)
		}
		s := scanner{b: line[colon+1:]}
		key := string(line[:colon])
		if key == "ID" {
			out = append(out, Timer{})
		} else if len(out) == 0 {
			return nil, fmt.Errorf("%s before the first timer", key)
		}
		t := &out[max(len(out)-1, 0)]
		switch key {
		case "ID":
			t.ID = int(s.uint())
		case "signal":
			t.Signal = int(s.uint())
			s.want('/')
			t.Value = s.hex()
		case "notify":
			t.Notify = string(s.rest())
		case "ClockID":
			t.Clock = int(s.int())
		}
		if s.err != nil {
			return out, fmt.Errorf("%s: %w", key, s.err)
		}
	}
	return out, nil
}

// Mount is a line of /proc/PID/mountinfo.
type Mount struct {
	ID, Parent int
	Dev        Dev
	Root       string // of the mount within its file system
	Point      string // in the process's root
	FSType     string // "ext4", "fuse.sshfs"
	Source     string
}

// ParseMounts parses /proc/PID/mountinfo.
func ParseMounts(b []byte) ([]Mount, error) {
	out := make([]Mount, 0, bytes.Count(b, []byte{'\n'})+1)
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		s := scanner{b: line}
		m := Mount{ID: int(s.uint()), Parent: int(s.uint())}
		m.Dev.Major = uint32(s.uint())
		s.want(':')
		m.Dev.Minor = uint32(s.uint())
		m.Root, m.Point = unescape(s.token()), unescape(s.token())
		_ = s.token() // options of the mount
		for s.err == nil && string(s.token()) != "-" {
		}
		m.FSType = string(s.token())
		if s.err != nil {
			return out, fmt.Errorf("line %d: %w", n, s.err)
		}
		if src := s.rest(); len(src) > 0 { // the source may be an empty string
			m.Source = unescape(s.token())
		}
		out = append(out, m)
	}
	return out, nil
}

// IDRange says that Count ids of a user namespace, from Inside on, are Outside and the following for the reader.
type IDRange struct{ Inside, Outside, Count uint32 }

// ParseIDMap parses /proc/PID/uid_map and gid_map.
func ParseIDMap(b []byte) ([]IDRange, error) {
	var out []IDRange
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		s := scanner{b: line}
		r := IDRange{uint32(s.uint()), uint32(s.uint()), uint32(s.uint())}
		if err := s.end(); err != nil {
			return out, fmt.Errorf("%q: %w", line, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Mapped reports whether some id inside the namespace is outside for the reader.
func Mapped(ranges []IDRange, outside uint32) bool {
	for _, r := range ranges {
		// An id that has no outside for the reader is shown as the highest number.
		if r.Outside != 1<<32-1 && outside >= r.Outside && outside-r.Outside < r.Count {
			return true
		}
	}
	return false
}

// Bits of a personality that change how memory is laid out.
const (
	PersonalityNoRandomize     = 0x0040000
	PersonalityMmapPageZero    = 0x0100000
	PersonalityCompatLayout    = 0x0200000
	PersonalityReadImpliesExec = 0x0400000
	PersonalityLimit32Bit      = 0x0800000
	PersonalityLimit3GB        = 0x8000000
)

// ParsePersonality parses /proc/PID/personality.
func ParsePersonality(b []byte) (uint32, error) {
	s := scanner{b: bytes.TrimRight(b, "\n")}
	v := s.hex()
	return uint32(v), s.end()
}

// ShmSegment is a System V shared memory segment.
type ShmSegment struct {
	ID        int // also the inode number in maps
	Mode      uint32
	SizeBytes uint64
	Attached  int
}

// Doomed reports whether the segment goes away with its last user, so that nobody can attach it any more.
func (s ShmSegment) Doomed() bool { return s.Mode&0o1000 != 0 }

// ParseSysVShm parses /proc/sysvipc/shm.
func ParseSysVShm(b []byte) ([]ShmSegment, error) {
	var out []ShmSegment
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		if n == 1 {
			continue // the heading
		}
		s := scanner{b: line}
		_ = s.int() // key
		g := ShmSegment{ID: int(s.int()), Mode: uint32(s.octal()), SizeBytes: s.uint()}
		_, _ = s.int(), s.int() // creator, last user
		g.Attached = int(s.uint())
		if s.err != nil {
			return out, fmt.Errorf("line %d: %w", n, s.err)
		}
		out = append(out, g)
	}
	return out, nil
}
