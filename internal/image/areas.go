package image

import (
	"strconv"
	"strings"

	"mosix/internal/abi"
	"mosix/internal/mem"
)

// ParseMaps reads /proc/PID/maps, or smaps, into areas. What the kernel provides by itself ([vdso], [vvar], [vsyscall]) is left out;
// vvar is where the former begin, 0 without them. exclude is a range that belongs to mosix, not to the program.
func ParseMaps(b []byte, exclude mem.Range) (as []Area, vvar mem.Addr) {
	var last *Area // whose values follow; nil where they are of no interest
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" && line[0] >= 'A' && line[0] <= 'Z' {
			if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && last != nil {
				last.Advice, last.GrowsDown = parseFlags(flags)
			}
			continue
		}
		last = nil
		span, rest, _ := strings.Cut(line, " ")
		lo, hi, ok := strings.Cut(span, "-")
		start, err1 := strconv.ParseUint(lo, 16, 64)
		end, err2 := strconv.ParseUint(hi, 16, 64)
		if !ok || err1 != nil || err2 != nil || len(rest) < 4 {
			continue
		}
		perms := rest[:4]
		f := strings.Fields(rest)
		inode, name := "0", ""
		if len(f) > 3 {
			inode = f[3]
		}
		if i := strings.IndexAny(rest[4:], "/["); i >= 0 {
			name = rest[4+i:]
		}
		if inode == "0" && strings.HasPrefix(name, "[v") || name == VDSOName { // a device may be called [vfio-device]
			if vvar == 0 && name != "[vsyscall]" {
				vvar = mem.Addr(start)
			}
			continue
		}
		a := Area{Range: mem.Range{Start: mem.Addr(start), End: mem.Addr(end)}, Name: name,
			Shared: perms[3] == 's', GrowsDown: name == "[stack]", File: inode != "0"}
		if a.Overlaps(exclude) {
			continue
		}
		for i, bit := range []uint8{abi.ProtRead, abi.ProtWrite, abi.ProtExec} {
			if perms[i] != '-' {
				a.Prot |= bit
			}
		}
		segment := a.Shared && strings.HasPrefix(name, "/SYSV") // its number, which may be 0, stands in place of an inode's
		if a.File = a.File || segment; a.File {
			major, minor, _ := strings.Cut(f[2], ":")
			hi, _ := strconv.ParseUint(major, 16, 32)
			lo, _ := strconv.ParseUint(minor, 16, 32)
			a.Object.Dev = hi<<32 | lo
			if segment {
				a.Object.Dev |= 1 << 63
			}
			a.Object.Inode, _ = strconv.ParseUint(inode, 10, 64)
			a.Offset, _ = strconv.ParseUint(f[1], 16, 64)
		}
		as = append(as, a)
		last = &as[len(as)-1]
	}
	return as, vvar
}

func parseFlags(s string) (a Advice, growsDown bool) {
	a = AdviceKnown
	for _, f := range strings.Fields(s) {
		switch f {
		case "gd":
			growsDown = true
		case "nr":
			a |= NoReserve
		case "dc":
			a |= DontFork
		case "wf":
			a |= WipeOnFork
		case "dd":
			a |= DontDump
		case "hg":
			a |= HugePage
		case "nh":
			a |= NoHugePage
		case "sr":
			a |= Sequential
		case "rr":
			a |= Random
		case "mw":
			a |= MayWrite
		case "lo":
			a |= Locked
		}
	}
	return a, growsDown
}

// Advise gives the areas as, of which only maps was read, the advice that areas known, of an earlier look at smaps, have.
func Advise(as, known []Area) {
	for i := range as {
		if k := Find(known, as[i].Start); k != nil && as[i].End <= k.End && k.Object == as[i].Object && k.Shared == as[i].Shared {
			as[i].Advice, as[i].GrowsDown = k.Advice, k.GrowsDown
		}
	}
}

// A guest has memory of its own, a stand-in, for each object of its home; the kernel there then keeps account of what is part
// of which, whatever the guest does with its areas. The stand-in's name says for what it stands.
const standIn = "mosix-of:"

// StandInName is the name of the memfd that stands for o.
func StandInName(o Object) string {
	return standIn + strconv.FormatUint(o.Dev, 16) + ":" + strconv.FormatUint(o.Inode, 10)
}

// AtHome makes areas as a guest's host sees them those of the process: parts of stand-ins become parts of the objects.
func AtHome(as []Area) {
	for i := range as {
		a := &as[i]
		if o, ok := StandsFor(a.Name); ok {
			a.Object, a.Name = o, ""
		}
	}
}

// StandsFor reads the name of a stand-in, as /proc/PID/maps has it.
func StandsFor(name string) (o Object, ok bool) {
	name, ok = strings.CutPrefix(name, "/memfd:"+standIn)
	dev, inode, _ := strings.Cut(strings.TrimSuffix(name, " (deleted)"), ":")
	var err1, err2 error
	o.Dev, err1 = strconv.ParseUint(dev, 16, 64)
	o.Inode, err2 = strconv.ParseUint(inode, 10, 64)
	return o, ok && err1 == nil && err2 == nil && o != Object{}
}

// VDSOFile is the name of the memfd with a copy of home's vDSO, which a guest has where the kernels differ; VDSOName is how maps
// call it. Processes with a file of that name do not move.
const (
	VDSOFile = "mosix-vdso"
	VDSOName = "/memfd:" + VDSOFile + " (deleted)"
)
