package procfs

import (
	"bytes"
	"fmt"
	"time"
)

// SchedStat is what /proc/PID/task/TID/schedstat counts for one task (/proc/PID/schedstat: for the first task only).
type SchedStat struct {
	CPU    time.Duration // on a processor
	Wait   time.Duration // ready to run and waiting for one; counted when the wait ends. A task that a quota stops waits
	Slices uint64        // times that it was given a processor
}

// Ready is the time for which the task could have used a processor.
func (s SchedStat) Ready() time.Duration { return s.CPU + s.Wait }

// ParseSchedStat reads the contents of a schedstat file: three numbers, the first two in nanoseconds.
func ParseSchedStat(b []byte) (SchedStat, error) {
	var n [3]uint64
	rest := b
	for i := range n {
		var ok bool
		if n[i], rest, ok = schedNumber(rest); !ok {
			return SchedStat{}, fmt.Errorf("parse schedstat %q: want three numbers", schedClip(b))
		}
	}
	return SchedStat{CPU: time.Duration(n[0]), Wait: time.Duration(n[1]), Slices: n[2]}, nil
}

// SchedTicks is the unit of times in /proc/PID/stat: Linux shows hundredths of a second on amd64, whatever its own tick.
const SchedTicks = 10 * time.Millisecond

// SchedProc is the part of /proc/PID/stat that tells how a process uses the processor, and memory.
type SchedProc struct {
	PID     int
	Command string
	State   byte // R S D Z T t X I
	PPID    int
	Session int
	TTY     int // device number of the controlling terminal; 0: none
	Kernel  bool
	CPU     time.Duration // user and system time of all its threads, also of those that have ended
	Threads int
	Start   uint64 // ticks since boot
	RSS     uint64 // bytes
}

// flagKernelThread is PF_KTHREAD of the kernel's include/linux/sched.h.
const flagKernelThread = 0x00200000

// ParseSchedProc reads the contents of a /proc/PID/stat file.
func ParseSchedProc(b []byte) (SchedProc, error) {
	// The command is in parentheses and may itself contain blanks and parentheses: the last one ends it.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open || end+2 >= len(b) {
		return SchedProc{}, fmt.Errorf("parse stat %q: want a command in parentheses", schedClip(b))
	}
	pid, _, ok := schedNumber(b[:open])
	if !ok {
		return SchedProc{}, fmt.Errorf("parse stat %q: want a process number first", schedClip(b))
	}
	p := SchedProc{PID: int(pid), Command: string(b[open+1 : end]), State: b[end+2]}
	rest := b[end+3:]
	// Fields are numbered as in proc(5); the state, field 3, has just been read.
	for field := 4; field <= 24; field++ {
		var n uint64
		if n, rest, ok = schedNumber(rest); !ok {
			return SchedProc{}, fmt.Errorf("parse stat %q: field %d is missing or no number", schedClip(b), field)
		}
		switch field {
		case 4:
			p.PPID = int(n)
		case 6:
			p.Session = int(n)
		case 7:
			p.TTY = int(n)
		case 9:
			p.Kernel = n&flagKernelThread != 0
		case 14, 15:
			p.CPU += time.Duration(n) * SchedTicks
		case 20:
			p.Threads = int(n)
		case 22:
			p.Start = n
		case 24:
			p.RSS = n << 12
		}
	}
	return p, nil
}

// schedNumber reads a number, and skips blanks before it. A negative one reads as 0: fields that can be negative (tpgid,
// nice, priority) are none that is used here.
func schedNumber(b []byte) (n uint64, rest []byte, ok bool) {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\n') {
		i++
	}
	negative := i < len(b) && b[i] == '-'
	if negative {
		i++
	}
	first := i
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		n = n*10 + uint64(b[i]-'0')
	}
	if negative {
		n = 0
	}
	return n, b[i:], i > first && i-first <= 20
}

// schedClip shortens what an error message quotes.
func schedClip(b []byte) []byte { return b[:min(len(b), 80)] }
