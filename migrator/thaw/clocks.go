package thaw

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/tracer"
)

// PatchClocks makes the guest's vDSO answer realtime from home's clock: the entries of clock_gettime, gettimeofday and time
// jump to the region. offset is home's realtime minus home's monotonic clock, in nanoseconds. A guest without a vDSO makes
// raw calls, which are answered elsewhere.
func PatchClocks(p *tracer.Process, vdso mem.Addr, offset int64) error {
	p.Region.Header().RealOffset = offset
	if vdso == 0 {
		return nil
	}
	r, err := findVDSO(p.PID)
	if err != nil {
		return err
	}
	b := make([]byte, r.Len())
	if _, err := kern.ReadVM(p.PID, b, r); err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("read the vDSO's symbols: %w", err)
	}
	to := map[string]mem.Addr{"__vdso_clock_gettime": p.Code.At.Clock, "__vdso_gettimeofday": p.Code.At.Day, "__vdso_time": p.Code.At.Time}
	for _, s := range syms {
		label, ok := to[s.Name]
		if !ok {
			continue
		}
		delete(to, s.Name)
		jump := []byte{0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0} // movabs $entry, %rax; jmp *%rax
		if s.Size < uint64(len(jump)) {
			return fmt.Errorf("%s of this kernel's vDSO has %d bytes, too few to correct its clock", s.Name, s.Size)
		}
		binary.LittleEndian.PutUint64(jump[2:], uint64(p.Region.At(label)))
		if _, err := p.WriteMemory(r.Start+mem.Addr(s.Value), jump); err != nil {
			return fmt.Errorf("correct %s: %w", s.Name, err)
		}
	}
	for name := range to {
		return fmt.Errorf("this kernel's vDSO has no %s: a guest would see the host's clock", name)
	}
	return nil
}

func findVDSO(pid int) (mem.Range, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return mem.Range{}, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasSuffix(line, "[vdso]\n") {
			lo, rest, _ := strings.Cut(line, "-")
			hi, _, _ := strings.Cut(rest, " ")
			s, err1 := strconv.ParseUint(lo, 16, 64)
			e, err2 := strconv.ParseUint(hi, 16, 64)
			if err1 == nil && err2 == nil {
				return mem.Range{Start: mem.Addr(s), End: mem.Addr(e)}, nil
			}
		}
	}
	return mem.Range{}, fmt.Errorf("process %d has no vDSO", pid)
}

// innermostPID reads the last number of NSpid in /proc/PID/status: how the process itself counts.
func innermostPID(status []byte) (int, error) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			f := bytes.Fields(rest)
			if len(f) > 0 {
				return strconv.Atoi(string(f[len(f)-1]))
			}
		}
	}
	return 0, fmt.Errorf("no NSpid in a process's status")
}
