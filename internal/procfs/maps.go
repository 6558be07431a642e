package procfs

import (
	"bytes"
	"fmt"
	"strings"

	"mosix/internal/abi"
	"mosix/internal/mem"
)

// Dev is the number of a device, or of a file system without one (major 0).
type Dev struct{ Major, Minor uint32 }

func (d Dev) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// Area is one line of /proc/PID/maps.
type Area struct {
	mem.Range
	Prot   uint8 // abi.ProtRead | abi.ProtWrite | abi.ProtExec
	Shared bool  // MAP_SHARED
	Offset uint64
	Dev    Dev    // of the file system that the file lies on
	Inode  uint64 // 0 without a file
	// Name is the file, "[heap]" and the like, or empty. Line breaks in it are written \012; " (deleted)" at the end says that
	// the file has no name any more, or is called so.
	Name string
}

// Readable reports whether the process may read the area.
func (a *Area) Readable() bool { return a.Prot&abi.ProtRead != 0 }

// Writable reports whether the process may write the area now.
func (a *Area) Writable() bool { return a.Prot&abi.ProtWrite != 0 }

// Executable reports whether the process may execute the area.
func (a *Area) Executable() bool { return a.Prot&abi.ProtExec != 0 }

const deletedSuffix = " (deleted)"

// Deleted reports whether the name says that the file has none any more.
func (a *Area) Deleted() bool { return strings.HasSuffix(a.Name, deletedSuffix) }

// Path is the name without the mark of deletion.
func (a *Area) Path() string { return strings.TrimSuffix(a.Name, deletedSuffix) }

// String is the line as the kernel writes it, without the padding.
func (a *Area) String() string {
	perms := []byte("---p")
	for i, p := range []uint8{abi.ProtRead, abi.ProtWrite, abi.ProtExec} {
		if a.Prot&p != 0 {
			perms[i] = "rwx"[i]
		}
	}
	if a.Shared {
		perms[3] = 's'
	}
	s := fmt.Sprintf("%08x-%08x %s %08x %02x:%02x %d", uint64(a.Start), uint64(a.End), perms, a.Offset, a.Dev.Major, a.Dev.Minor, a.Inode)
	if a.Name != "" {
		s += " " + a.Name
	}
	return s
}

// ParseMaps parses /proc/PID/maps.
func ParseMaps(b []byte) ([]Area, error) {
	out := make([]Area, 0, bytes.Count(b, []byte{'\n'})+1)
	var last string // areas of one file follow one another: their name is kept once
	err := EachArea(b, func(a Area, name []byte) error {
		if string(name) != last {
			last = string(name)
		}
		a.Name = last
		out = append(out, a)
		return nil
	})
	return out, err
}

// EachArea calls f for every line of /proc/PID/maps. The area has no Name; the bytes of name are only lent.
func EachArea(b []byte, f func(a Area, name []byte) error) error {
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		a, name, err := parseArea(line)
		if err == nil {
			err = f(a, name)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

func parseArea(line []byte) (a Area, name []byte, err error) {
	s := scanner{b: line}
	a.Start = mem.Addr(s.hex())
	s.want('-')
	a.End = mem.Addr(s.hex())
	s.want(' ')
	if s.err == nil && len(s.b) < 5 {
		return a, nil, errShort
	}
	if s.err != nil {
		return a, nil, s.err
	}
	if a.End <= a.Start {
		return a, nil, fmt.Errorf("area %s is empty", a.Range)
	}
	for i, p := range [...]uint8{abi.ProtRead, abi.ProtWrite, abi.ProtExec} {
		switch s.b[i] {
		case "rwx"[i]:
			a.Prot |= p
		case '-':
		default:
			return a, nil, fmt.Errorf("permissions %q are unknown", s.b[:4])
		}
	}
	switch s.b[3] {
	case 's':
		a.Shared = true
	case 'p':
	default:
		return a, nil, fmt.Errorf("permissions %q are unknown", s.b[:4])
	}
	s.b = s.b[4:]
	s.want(' ')
	a.Offset = s.hex()
	s.want(' ')
	a.Dev.Major = uint32(s.hex())
	s.want(':')
	a.Dev.Minor = uint32(s.hex())
	s.want(' ')
	a.Inode = s.uint()
	if s.err == nil && len(s.b) > 0 && s.b[0] != ' ' {
		s.err = errNumber
	}
	return a, s.rest(), s.err
}

// VMFlags are the two-letter codes of an area in /proc/PID/smaps, between blanks: "rd wr mr mw me ac".
type VMFlags string

// Has reports whether the two-letter code is among f.
func (f VMFlags) Has(code string) bool {
	for i := 0; i+2 <= len(f); i += 3 {
		if string(f[i:i+2]) == code {
			return true
		}
	}
	return false
}

// Codes of VMFlags that decide something.
const (
	FlagHugetlb      = "ht" // pages of hugetlbfs
	FlagUffdMissing  = "um" // a userfaultfd serves missing pages
	FlagUffdWP       = "uw" // a userfaultfd write-protects
	FlagUffdMinor    = "ui"
	FlagIO           = "io" // memory of a device
	FlagPFNMap       = "pf" // pages without a struct page
	FlagMixedMap     = "mm"
	FlagSealed       = "sl" // mseal: can be neither unmapped nor changed
	FlagShadowStack  = "ss"
	FlagDontFork     = "dc"
	FlagWipeOnFork   = "wf"
	FlagLocked       = "lo"
	FlagGrowsDown    = "gd"
	FlagDontDump     = "dd"
	FlagMergeable    = "mg"
	FlagHugePage     = "hg"
	FlagNoHugePage   = "nh"
	FlagNoReserve    = "nr"
	FlagDropOnMemory = "dp"
)

// Smap is an area with the few facts of /proc/PID/smaps that a move needs.
type Smap struct {
	Area
	Flags                             VMFlags
	KernelPageBytes                   uint64
	RSSBytes, AnonBytes, PrivateDirty uint64
	SwapBytes                         uint64
	ProtectionKey                     int // 0 where the processor has none
}

// ParseSmaps parses /proc/PID/smaps.
func ParseSmaps(b []byte) ([]Smap, error) {
	var out []Smap
	var last string
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		// A key begins with a capital letter; an address does not.
		if len(line) == 0 || line[0] < 'A' || line[0] > 'Z' {
			a, name, err := parseArea(line)
			if err != nil {
				return out, fmt.Errorf("line %d: %w", n, err)
			}
			if string(name) != last {
				last = string(name)
			}
			a.Name = last
			out = append(out, Smap{Area: a})
			continue
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("line %d: a value before the first area", n)
		}
		m := &out[len(out)-1]
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			return out, fmt.Errorf("line %d: no colon", n)
		}
		s := scanner{b: line[colon+1:]}
		switch string(line[:colon]) {
		case "VmFlags":
			m.Flags = VMFlags(bytes.TrimRight(s.rest(), " "))
		case "KernelPageSize":
			m.KernelPageBytes = s.kb()
		case "Rss":
			m.RSSBytes = s.kb()
		case "Anonymous":
			m.AnonBytes = s.kb()
		case "Private_Dirty":
			m.PrivateDirty = s.kb()
		case "Swap":
			m.SwapBytes = s.kb()
		case "ProtectionKey":
			m.ProtectionKey = int(s.uint())
		}
		if s.err != nil {
			return out, fmt.Errorf("line %d: %s: %w", n, line[:colon], s.err)
		}
	}
	return out, nil
}
