package procfs

import (
	"bytes"
	"errors"
	"fmt"
)

// TicksPerSecond is the unit of times in Stat: USER_HZ, which is 100 on every Linux/amd64.
const TicksPerSecond = 100

// Flags of Stat.Flags that say that the kernel runs this task itself.
const (
	FlagIOWorker   = 0x10     // a worker of io_uring inside the process
	FlagUserWorker = 0x4000   // another worker that the kernel keeps inside the process (vhost, io_uring)
	FlagKthread    = 0x200000 // a kernel thread
)

// Scheduling policies in Stat.Policy.
const (
	SchedOther    = 0
	SchedFIFO     = 1
	SchedRR       = 2
	SchedBatch    = 3
	SchedIdle     = 5
	SchedDeadline = 6
	SchedExt      = 7
)

// Stat is /proc/PID/stat. Times are in ticks of 1/TicksPerSecond s, sizes in the units that the names say. Addresses and
// the exit code are 0 for a reader who may not trace the process.
type Stat struct {
	PID     int
	Comm    string // at most 15 bytes, any bytes
	State   byte   // R S D T t Z X I …
	PPID    int
	PGRP    int
	Session int
	TTY     uint32 // device number of the controlling terminal, 0 without one
	TPGID   int    // foreground process group of that terminal, or -1
	Flags   uint32

	MinFlt, CMinFlt, MajFlt, CMajFlt uint64
	UTime, STime                     uint64 // ticks used; of the whole process in /proc/PID/stat, of the thread under task
	CUTime, CSTime                   int64  // ticks of children that were waited for
	Priority, Nice                   int
	Threads                          int
	Start                            uint64 // ticks after boot: with PID, names a process for ever
	VSizeBytes                       uint64
	RSSPages                         int64
	RSSLimitBytes                    uint64

	StartCode, EndCode, StartStack uint64
	ESP, EIP                       uint64
	WChan                          uint64
	ExitSignal                     int // sent to the parent at the end; -1 for a thread
	Processor                      int // that it last ran on
	RTPriority, Policy             uint32
	BlockIOTicks                   uint64
	GuestTime                      uint64
	CGuestTime                     int64
	StartData, EndData, StartBrk   uint64
	ArgStart, ArgEnd               uint64
	EnvStart, EnvEnd               uint64
	ExitCode                       int // as wait4 gives it
}

// TTYMajor and TTYMinor split the number of the controlling terminal.
func (s *Stat) TTYMajor() int { return int(s.TTY >> 8 & 0xfff) }

// TTYMinor is the other half.
func (s *Stat) TTYMinor() int { return int(s.TTY&0xff | s.TTY>>12&0xfff00) }

// ParseStat parses /proc/PID/stat, of Linux 3.5 or later.
func ParseStat(b []byte) (Stat, error) {
	var st Stat
	// The name stands in brackets, may hold brackets, blanks and even line breaks: the last bracket ends it.
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return st, errors.New("no name in brackets")
	}
	head := scanner{b: b[:open]}
	st.PID = int(head.uint())
	if err := head.end(); err != nil {
		return st, fmt.Errorf("process number: %w", err)
	}
	st.Comm = string(b[open+1 : shut])

	line, _ := cutLine(b[shut+1:])
	s := scanner{b: line}
	if t := s.token(); len(t) == 1 {
		st.State = t[0]
	} else {
		return st, fmt.Errorf("state %q is not one letter", t)
	}
	st.PPID = int(s.int())
	st.PGRP = int(s.int())
	st.Session = int(s.int())
	st.TTY = uint32(s.int())
	st.TPGID = int(s.int())
	st.Flags = uint32(s.uint())
	st.MinFlt, st.CMinFlt, st.MajFlt, st.CMajFlt = s.uint(), s.uint(), s.uint(), s.uint()
	st.UTime, st.STime, st.CUTime, st.CSTime = s.uint(), s.uint(), s.int(), s.int()
	st.Priority, st.Nice, st.Threads = int(s.int()), int(s.int()), int(s.int())
	_ = s.int() // itrealvalue, always 0
	st.Start = s.uint()
	st.VSizeBytes, st.RSSPages, st.RSSLimitBytes = s.uint(), s.int(), s.uint()
	st.StartCode, st.EndCode, st.StartStack, st.ESP, st.EIP = s.uint(), s.uint(), s.uint(), s.uint(), s.uint()
	_, _, _, _ = s.uint(), s.uint(), s.uint(), s.uint() // signals, only the first 31: Status has all
	st.WChan = s.uint()
	_, _ = s.uint(), s.uint() // nswap, cnswap, always 0
	st.ExitSignal, st.Processor = int(s.int()), int(s.int())
	st.RTPriority, st.Policy = uint32(s.uint()), uint32(s.uint())
	st.BlockIOTicks, st.GuestTime, st.CGuestTime = s.uint(), s.uint(), s.int()
	st.StartData, st.EndData, st.StartBrk = s.uint(), s.uint(), s.uint()
	st.ArgStart, st.ArgEnd, st.EnvStart, st.EnvEnd = s.uint(), s.uint(), s.uint(), s.uint()
	st.ExitCode = int(s.int())
	return st, s.err
}
