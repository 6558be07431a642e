package eligible

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"

	"mosix/internal/mem"
	"mosix/internal/procfs"
)

// vdsoMax bounds what is read of a vDSO, in bytes; a real one has two pages.
const vdsoMax = 256 << 10

var errNoBuildID = errors.New("no build id in the vDSO")

// BuildID returns the build id of an ELF image of 64 bits, as hexadecimal digits. The bytes may be anything.
func BuildID(b []byte) (string, error) {
	const (
		headerSize, phSize = 64, 56
		ptNote             = 4
		ntGNUBuildID       = 3
	)
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:4]) != "\x7fELF" || b[4] != 2 || b[5] != 1 {
		return "", fmt.Errorf("%w: it is no ELF image of 64 bits", errNoBuildID)
	}
	phoff, phsize, phnum := le.Uint64(b[32:]), int(le.Uint16(b[54:])), int(le.Uint16(b[56:]))
	if phsize < phSize || phoff > uint64(len(b)) {
		return "", errNoBuildID
	}
	for i := range phnum {
		at := phoff + uint64(i*phsize)
		if at+phSize > uint64(len(b)) {
			break
		}
		ph := b[at:]
		off, size := le.Uint64(ph[8:]), le.Uint64(ph[32:])
		if le.Uint32(ph) != ptNote || off > uint64(len(b)) || size > uint64(len(b))-off {
			continue
		}
		for n := b[off : off+size]; len(n) >= 12; {
			namesz, descsz, kind := le.Uint32(n), le.Uint32(n[4:]), le.Uint32(n[8:])
			name := uint64(12)
			desc := name + (uint64(namesz)+3)&^3
			end := desc + (uint64(descsz)+3)&^3
			if desc+uint64(descsz) > uint64(len(n)) {
				break
			}
			if kind == ntGNUBuildID && string(n[name:name+uint64(namesz)]) == "GNU\x00" && descsz > 0 {
				return hex.EncodeToString(n[desc : desc+uint64(descsz)]), nil
			}
			n = n[min(end, uint64(len(n))):]
		}
	}
	return "", errNoBuildID
}

// vdsoRange finds the vDSO among areas.
func vdsoRange(areas []procfs.Area) (mem.Range, bool) {
	for i := range areas {
		if areas[i].Name == "[vdso]" && areas[i].Inode == 0 {
			return areas[i].Range, true
		}
	}
	return mem.Range{}, false
}

// readVDSO reads the build id of the vDSO that process pid has at r. Reading memory through /proc leaves the process alone.
func readVDSO(fs procfs.FS, pid int, r mem.Range) (string, error) {
	f, err := os.Open(fs.Path(pid, "mem"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, min(r.Len(), vdsoMax))
	if _, err := f.ReadAt(b, int64(r.Start)); err != nil {
		return "", fmt.Errorf("read the vDSO: %w", err)
	}
	return BuildID(b)
}

// LocalVDSO is the build id of the vDSO that this machine's kernel gives to its programs.
var LocalVDSO = sync.OnceValues(func() (string, error) {
	areas, err := procfs.Default.Maps(os.Getpid())
	if err != nil {
		return "", err
	}
	r, ok := vdsoRange(areas)
	if !ok {
		return "", errors.New("this kernel gives no vDSO to its programs")
	}
	return readVDSO(procfs.Default, os.Getpid(), r)
})
