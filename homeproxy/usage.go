package homeproxy

import (
	"encoding/binary"

	"mosix/internal/image"
)

// What was used of processors away from home is added to what home's kernel says.

const (
	rusageSize = 144
	clockTick  = 10_000_000 // ns: in what times counts
)

func addWord(b []byte, n uint64) {
	binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)+n)
}

// AddNanos adds ns to a struct timeval or timespec, whose second word counts per parts of a second.
func AddNanos(b []byte, ns, per uint64) {
	part := binary.LittleEndian.Uint64(b[8:]) + ns%1e9/(1e9/per)
	addWord(b, ns/1e9+part/per)
	binary.LittleEndian.PutUint64(b[8:], part%per)
}

// AddRusage adds u to a struct rusage.
func AddRusage(b []byte, u image.Usage) {
	AddNanos(b, u.User, 1e6)
	AddNanos(b[16:], u.Sys, 1e6)
	binary.LittleEndian.PutUint64(b[32:], max(binary.LittleEndian.Uint64(b[32:]), u.MaxRSS))
	addWord(b[64:], u.MinFlt)
	addWord(b[72:], u.MajFlt)
}

// AddTimes adds u to two words of a struct tms, in whole ticks. Home's kernel has cut its part to ticks already, so this part is
// rounded up: both cut, the sum could be four ticks behind the clock of the process.
func AddTimes(b []byte, u image.Usage) {
	addWord(b, (u.User+clockTick-1)/clockTick)
	addWord(b[8:], (u.Sys+clockTick-1)/clockTick)
}

// Rusage finds the struct rusage in the outputs of a call that had it at address a, or nil.
func Rusage(out []Blob, a uint64) []byte { return output(out, a, rusageSize) }

// output is the output of n bytes at a, or nil.
func output(out []Blob, a uint64, n int) []byte {
	for _, b := range out {
		if a != 0 && uint64(b.Addr) == a && len(b.Data) == n {
			return b.Data
		}
	}
	return nil
}

// Reaped reads which process a wait4 or waitid, which ended with ret, has told the end of; 0 for none. ended asks whether a process
// is there no more, where the call itself does not say what it told.
func Reaped(nr uint32, args [6]uint64, ret int64, out []Blob, ended func(pid int) bool) int {
	const wnowait, unlessExit = 0x01000000, 2 | 8 // WSTOPPED, WCONTINUED
	switch {
	case nr == nrWait4 && ret > 0:
		if args[2]&unlessExit == 0 {
			return int(ret)
		}
		if b := output(out, args[1], 4); b != nil {
			if st := binary.LittleEndian.Uint32(b); st&0xff == 0x7f || st == 0xffff {
				return 0
			}
			return int(ret)
		}
		if ended(int(ret)) {
			return int(ret)
		}
	case nr == nrWaitid && ret == 0 && args[3]&wnowait == 0:
		b := output(out, args[2]+16, 12)
		if b == nil {
			return 0
		}
		if pid := int(binary.LittleEndian.Uint32(b)); pid != 0 && (args[3]&unlessExit == 0 || ended(pid)) {
			return pid
		}
	}
	return 0
}

const nrWait4 = 61
