package thaw

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// PatchClocks makes the guest's vDSO answer realtime from home's clock: the entries of clock_gettime, gettimeofday and time
// jump to the region. offset is home's realtime minus home's monotonic clock, in nanoseconds. A guest without a vDSO makes
// raw calls, which are answered elsewhere. In a copy of home's vDSO nothing may look at the kernel's pages, which are empty there.
func PatchClocks(p *tracer.Process, vdso mem.Addr, offset int64) error {
	h := p.Region.Header()
	h.RealOffset, h.ClockCount, h.Clock[0] = offset, 0, stub.ClockLine{Offset: offset}
	if vdso == 0 {
		return nil
	}
	v, err := vdsoOf(p)
	if err != nil {
		return err
	}
	entries, _, err := clockEntries(p, v)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if len(e.patch) > jumpSize || e.size < jumpSize {
			return fmt.Errorf("%s of home's vDSO has %d bytes, too few to correct its clock", e.name, e.size)
		}
		if _, err := p.WriteMemory(e.at, e.patch); err != nil {
			return fmt.Errorf("correct %s: %w", e.name, err)
		}
	}
	return fillHook(p, v)
}

const jumpSize = 12

// clockEntry is a function of the vDSO, what stands in its place, and the code of ours to which that jumps.
type clockEntry struct {
	name  string
	at    mem.Addr
	size  uint64
	patch []byte
	code  mem.Range
}

// clockEntries finds the functions that tell realtime in the vDSO at at, and in a copy also the one that tells how fine the clocks
// are; others are those of the rest. What they look like is read from the vDSO as its kernel has made it: a guest may write to its own, and what a guest has
// written is no file for us to parse.
func clockEntries(p *tracer.Process, vdso found) (out []clockEntry, others []mem.Range, err error) {
	f, err := elf.NewFile(bytes.NewReader(vdso.code))
	if err != nil {
		return nil, nil, fmt.Errorf("read the vDSO: %w", err)
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		return nil, nil, fmt.Errorf("read the vDSO's symbols: %w", err)
	}
	at := p.Code.At
	to := map[string]mem.Range{
		"__vdso_clock_gettime": {Start: at.Clock, End: at.Day},
		"__vdso_gettimeofday":  {Start: at.Day, End: at.Time},
		"__vdso_time":          {Start: at.Time, End: at.Fault - 8},
	}
	for _, s := range syms {
		e := clockEntry{name: s.Name, at: vdso.at.Start + mem.Addr(s.Value), size: s.Size}
		if s.Value > vdso.at.Len() || s.Size > vdso.at.Len()-s.Value {
			return nil, nil, fmt.Errorf("%s lies outside of the vDSO", s.Name)
		}
		code, ok := to[s.Name]
		switch {
		case ok:
			delete(to, s.Name)
			e.code = mem.Range{Start: p.Region.At(code.Start), End: p.Region.At(code.End)}
			e.patch = append(binary.LittleEndian.AppendUint64([]byte{0x48, 0xb8}, uint64(e.code.Start)), 0xff, 0xe0) // movabs $entry, %rax; jmp *%rax
		case vdso.copied && s.Name == "__vdso_clock_getres":
			e.patch = []byte{0xb8, abi.SysClockGetres & 0xff, 0, 0, 0, 0x0f, 0x05, 0xc3} // mov $nr, %eax; syscall; ret
		case s.Name == "__vdso_getrandom" || s.Name == "__vdso_getcpu":
			others = append(others, mem.Range{Start: e.at, End: e.at + mem.Addr(e.size)})
			continue
		default:
			continue
		}
		out = append(out, e)
	}
	for name := range to {
		return nil, nil, fmt.Errorf("home's vDSO has no %s: a guest would see the host's clock", name)
	}
	return out, others, nil
}

// Rewind puts every held thread that stands in the corrected clocks, or has a signal frame that returns there, back to the
// entry of the vDSO's own function, with its arguments: at home there is no code of ours to go on in.
func Rewind(p *tracer.Process, vdso mem.Addr) error {
	if vdso == 0 {
		return nil
	}
	v, err := vdsoOf(p)
	if errors.Is(err, errNoVDSO) {
		return nil // it has unmapped what would be corrected
	}
	if err != nil {
		return err
	}
	entries, _, err := clockEntries(p, v)
	if err != nil {
		return err
	}
	for _, t := range p.Held() {
		r := &t.Regs
		if rewind(entries, &r.RIP, &r.RDI, &r.RSI, r.R8, r.R10) {
			r.OrigRAX = abi.NoCall
		}
		if err := rewindFrames(p, entries, mem.Addr(r.RSP)); err != nil {
			return err
		}
	}
	return nil
}

// rewind corrects one set of registers; it returns whether there was something to correct.
func rewind(entries []clockEntry, rip, rdi, rsi *uint64, r8, r10 uint64) bool {
	const saved = 6 // bytes of the two instructions that keep the arguments
	for _, e := range entries {
		at := mem.Addr(*rip)
		switch {
		case e.code.Contains(at):
			if at >= e.code.Start+saved {
				*rdi, *rsi = r8, r10
			}
		case at <= e.at || at >= e.at+jumpSize:
			continue
		}
		*rip = uint64(e.at)
		return true
	}
	return false
}

// rewindFrames looks through the stack above sp for frames of signals that interrupted the clocks. A word there that is an
// address in them is the RIP of such a frame: they call nothing, so it is no return address. But it may be what is left of a frame
// that was given up, with live words of others in its place: then nothing is written (see isFrame).
func rewindFrames(p *tracer.Process, entries []clockEntry, sp mem.Addr) error {
	const depth = 256 << 10
	b := make([]byte, depth)
	n, _ := kern.ReadVM(p.PID, b, mem.Range{Start: sp &^ 7, End: sp&^7 + depth})
	if n <= 0 { // the stack ends within: page by page
		for n = 0; n < depth; {
			step := mem.PageSize - int(sp&^7+mem.Addr(n))%mem.PageSize
			k, err := kern.ReadVM(p.PID, b[n:min(n+step, depth)], mem.Range{Start: sp&^7 + mem.Addr(n), End: sp&^7 + mem.Addr(min(n+step, depth))})
			n += max(k, 0)
			if err != nil {
				break
			}
		}
	}
	le := binary.LittleEndian
	const toR8, toR10, toRDI, toRSI = 128, 112, 64, 56 // from RIP back, in struct sigcontext
	for i := toR8; i+8 <= n; i += 8 {
		rip := le.Uint64(b[i:])
		if rip < uint64(p.Region.Base) {
			continue
		}
		if !isFrame(b[:n], i, uint64(sp&^7)) {
			continue
		}
		rdi, rsi := le.Uint64(b[i-toRDI:]), le.Uint64(b[i-toRSI:])
		if !rewind(entries, &rip, &rdi, &rsi, le.Uint64(b[i-toR8:]), le.Uint64(b[i-toR10:])) {
			continue
		}
		for off, v := range map[int]uint64{0: rip, toRDI: rdi, toRSI: rsi} {
			var w [8]byte
			le.PutUint64(w[:], v)
			if _, err := p.WriteMemory(sp&^7+mem.Addr(i-off), w[:]); err != nil {
				return fmt.Errorf("correct a signal frame: %w", err)
			}
		}
	}
	return nil
}

// isFrame reports whether the word at i of the stack b, which begins at the address base, is the RIP of a whole signal frame, by
// what the kernel has written around it: struct ucontext (flags, no link), and in struct sigcontext the flags of the processor, the
// segment of user code, and a pointer to the state of the floating point unit, which lies above.
func isFrame(b []byte, i int, base uint64) bool {
	const toFlags, toLink, flags, segments, fpstate = 168, 160, 8, 16, 56
	if i < toFlags || i+fpstate+8 > len(b) {
		return false
	}
	word := binary.LittleEndian.Uint64
	const userCode, always, most = 0x33, 2, 1<<22 - 1
	fp := word(b[i+fpstate:])
	return word(b[i-toFlags:]) <= 7 && word(b[i-toLink:]) == 0 &&
		word(b[i+flags:])&always != 0 && word(b[i+flags:]) <= most &&
		word(b[i+segments:])&0xffff == userCode &&
		fp > base+uint64(i) && fp < base+uint64(i)+64<<10
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
