package procfs

import (
	"bytes"
	"fmt"
)

// IDs are the four ids of a kind that a task has.
type IDs struct{ Real, Effective, Saved, FS uint32 }

// Same reports whether all four are v.
func (i IDs) Same(v uint32) bool {
	return i.Real == v && i.Effective == v && i.Saved == v && i.FS == v
}

// All lists the four.
func (i IDs) All() [4]uint32 { return [4]uint32{i.Real, i.Effective, i.Saved, i.FS} }

func (i IDs) String() string {
	return fmt.Sprintf("%d %d %d %d", i.Real, i.Effective, i.Saved, i.FS)
}

// Caps are the five capability sets of a task, bit n for capability n.
type Caps struct{ Inheritable, Permitted, Effective, Bounding, Ambient uint64 }

// Status is /proc/PID/status. Sizes are in bytes. What a kernel does not tell is zero, except where a comment says so.
type Status struct {
	Name      string
	Umask     uint32
	State     byte
	TGID, PID int
	PPID      int
	TracerPID int
	UID, GID  IDs
	Groups    []uint32
	FDSize    int
	// The numbers of the task in every PID namespace it has one in, from the reader's inward.
	NSTGID, NSPID, NSPGID, NSSID []int
	Kthread                      bool // kernels before 6.8 do not say: see FlagKthread

	HasVM bool // it has an address space: false for kernel threads and zombies
	VMPeakBytes, VMSizeBytes, VMLockedBytes, VMPinnedBytes, VMHWMBytes, VMRSSBytes,
	RSSAnonBytes, RSSFileBytes, RSSShmemBytes, VMDataBytes, VMStackBytes, VMExeBytes, VMLibBytes, VMPTEBytes,
	VMSwapBytes, HugetlbBytes uint64
	CoreDumping bool

	Threads          int
	SigQueued        int
	SigPnd, ShdPnd   uint64 // pending for the thread, for the process; bit n-1 for signal n
	SigBlk           uint64
	SigIgn, SigCgt   uint64
	Caps             Caps
	NoNewPrivs       bool
	Seccomp          int // 0 none, 1 strict, 2 filter
	SeccompFilters   int // kernels before 5.9 do not say
	ThreadFeatures   string
	Voluntary        uint64 // context switches
	Nonvoluntary     uint64
	CPUsAllowedList  string
	SpeculationStore string
}

// InnerPID is the number that the task has for itself, in its own PID namespace.
func (s *Status) InnerPID() int {
	if n := len(s.NSPID); n > 0 {
		return s.NSPID[n-1]
	}
	return s.PID
}

// ParseStatus parses /proc/PID/status.
func ParseStatus(b []byte) (Status, error) {
	var st Status
	var seenPID, seenState bool
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			continue
		}
		s := scanner{b: line[colon+1:]}
		whole := true // the value must be consumed to its end
		switch string(line[:colon]) {
		case "Name": // the kernel escapes line breaks and backslashes in it
			st.Name, whole = unescape(s.rest()), false
		case "Umask":
			st.Umask = uint32(s.octal())
		case "State":
			if t := s.token(); len(t) == 1 {
				st.State, seenState = t[0], true
			}
			whole = false
		case "Tgid":
			st.TGID = int(s.uint())
		case "Pid":
			st.PID, seenPID = int(s.uint()), true
		case "PPid":
			st.PPID = int(s.uint())
		case "TracerPid":
			st.TracerPID = int(s.uint())
		case "Uid":
			st.UID = s.ids()
		case "Gid":
			st.GID = s.ids()
		case "FDSize":
			st.FDSize = int(s.uint())
		case "Groups":
			for s.err == nil && len(s.rest()) > 0 {
				st.Groups = append(st.Groups, uint32(s.uint()))
			}
		case "NStgid":
			st.NSTGID = s.ints()
		case "NSpid":
			st.NSPID = s.ints()
		case "NSpgid":
			st.NSPGID = s.ints()
		case "NSsid":
			st.NSSID = s.ints()
		case "Kthread":
			st.Kthread = s.uint() != 0
		case "VmPeak":
			st.VMPeakBytes = s.kb()
		case "VmSize":
			st.VMSizeBytes, st.HasVM = s.kb(), true
		case "VmLck":
			st.VMLockedBytes = s.kb()
		case "VmPin":
			st.VMPinnedBytes = s.kb()
		case "VmHWM":
			st.VMHWMBytes = s.kb()
		case "VmRSS":
			st.VMRSSBytes = s.kb()
		case "RssAnon":
			st.RSSAnonBytes = s.kb()
		case "RssFile":
			st.RSSFileBytes = s.kb()
		case "RssShmem":
			st.RSSShmemBytes = s.kb()
		case "VmData":
			st.VMDataBytes = s.kb()
		case "VmStk":
			st.VMStackBytes = s.kb()
		case "VmExe":
			st.VMExeBytes = s.kb()
		case "VmLib":
			st.VMLibBytes = s.kb()
		case "VmPTE":
			st.VMPTEBytes = s.kb()
		case "VmSwap":
			st.VMSwapBytes = s.kb()
		case "HugetlbPages":
			st.HugetlbBytes = s.kb()
		case "CoreDumping":
			st.CoreDumping = s.uint() != 0
		case "Threads":
			st.Threads = int(s.uint())
		case "SigQ":
			st.SigQueued, whole = int(s.uint()), false
		case "SigPnd":
			st.SigPnd = s.mask()
		case "ShdPnd":
			st.ShdPnd = s.mask()
		case "SigBlk":
			st.SigBlk = s.mask()
		case "SigIgn":
			st.SigIgn = s.mask()
		case "SigCgt":
			st.SigCgt = s.mask()
		case "CapInh":
			st.Caps.Inheritable = s.mask()
		case "CapPrm":
			st.Caps.Permitted = s.mask()
		case "CapEff":
			st.Caps.Effective = s.mask()
		case "CapBnd":
			st.Caps.Bounding = s.mask()
		case "CapAmb":
			st.Caps.Ambient = s.mask()
		case "NoNewPrivs":
			st.NoNewPrivs = s.uint() != 0
		case "Seccomp":
			st.Seccomp = int(s.uint())
		case "Seccomp_filters":
			st.SeccompFilters = int(s.uint())
		case "x86_Thread_features":
			st.ThreadFeatures, whole = string(bytes.TrimRight(s.rest(), " ")), false
		case "voluntary_ctxt_switches":
			st.Voluntary = s.uint()
		case "nonvoluntary_ctxt_switches":
			st.Nonvoluntary = s.uint()
		case "Cpus_allowed_list":
			st.CPUsAllowedList, whole = string(s.rest()), false
		case "Speculation_Store_Bypass":
			st.SpeculationStore, whole = string(s.rest()), false
		default:
			continue
		}
		err := s.err
		if whole {
			err = s.end()
		}
		if err != nil {
			return st, fmt.Errorf("%s: %w", line[:colon], err)
		}
	}
	if !seenPID || !seenState {
		return st, fmt.Errorf("no Pid or no State: %w", errShort)
	}
	return st, nil
}

func (s *scanner) ids() IDs {
	return IDs{uint32(s.uint()), uint32(s.uint()), uint32(s.uint()), uint32(s.uint())}
}

func (s *scanner) ints() []int {
	var out []int
	for s.err == nil && len(s.rest()) > 0 {
		out = append(out, int(s.uint()))
	}
	return out
}

func (s *scanner) mask() uint64 { s.spaces(); return s.hex() }

// kb reads a number of KiB and returns bytes.
func (s *scanner) kb() uint64 {
	v := s.uint()
	if s.err == nil && v > 1<<53 {
		s.err = errNumber
	}
	if t := s.token(); s.err == nil && string(t) != "kB" {
		s.err = fmt.Errorf("unit %q is not kB", t)
	}
	return v << 10
}

// unescape undoes what the kernel does to names: \n for a line break, \\ for a backslash, and octal \012.
func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out = append(out, b[i])
			continue
		}
		c := b[i+1]
		switch {
		case c == 'n':
			out, i = append(out, '\n'), i+1
		case c == '\\':
			out, i = append(out, '\\'), i+1
		case i+3 < len(b) && c >= '0' && c <= '3' && octalDigit(b[i+2]) && octalDigit(b[i+3]):
			out = append(out, (c-'0')<<6|(b[i+2]-'0')<<3|(b[i+3]-'0'))
			i += 3
		default:
			out = append(out, b[i])
		}
	}
	return string(out)
}

func octalDigit(c byte) bool { return c >= '0' && c <= '7' }
