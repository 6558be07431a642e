package image

import (
	"strconv"
	"strings"

	"mosix/internal/abi"
	"mosix/internal/mem"
)

// ParseMaps reads /proc/PID/maps into areas. What the kernel provides by itself ([vdso], [vvar], [vsyscall]) is left out;
// vvar is where the former begin, 0 without them. exclude is a range that belongs to mosix, not to the program.
func ParseMaps(b []byte, exclude mem.Range) (as []Area, vvar mem.Addr) {
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
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
		if inode == "0" && strings.HasPrefix(name, "[v") { // a device may be called [vfio-device]
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
		as = append(as, a)
	}
	return as, vvar
}
