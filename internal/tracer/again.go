package tracer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"mosix/internal/abi"
	"mosix/internal/mem"
)

// Again makes the held thread, whose timed call a stop has ended (Until), make it again for what remains of its time at now.
// Registers that a call takes are the caller's to lose for every function of C; a timespec cannot be changed where the program
// has it, and is put behind the end of the vDSO, where nothing is: the kernel reads it when the call begins.
// With an error, and where a socket has the timeout, it is made again for its whole time.
func (t *Thread) Again(now int64) error {
	if t.Until == 0 || t.Regs.OrigRAX == abi.NoCall {
		return nil
	}
	left := max(t.Until-now, 0)
	r := &t.Regs
	form := abi.TimeoutOf(r.OrigRAX)
	if form == abi.TimeoutNone {
		return nil
	}
	r.RAX = ^uint64(abi.ERestartNoHnd - 1)
	var arg *uint64
	switch form {
	case abi.TimeoutMillis:
		r.R10 = uint64((left + 999999) / 1000000)
		return nil
	case abi.TimeoutThird:
		arg = &r.RDX
	case abi.TimeoutFourth:
		arg = &r.R10
	case abi.TimeoutFifth:
		arg = &r.R8
	default:
		return nil
	}
	at, err := t.Proc.spare(t.TID)
	if err != nil {
		return err
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], uint64(left/1e9))
	binary.LittleEndian.PutUint64(b[8:], uint64(left%1e9))
	if _, err := t.Proc.WriteMemory(at, b[:]); err != nil {
		return fmt.Errorf("shorten the wait of thread %d: %w", t.TID, err)
	}
	*arg = uint64(at)
	return nil
}

// spare is a place of 16 bytes for thread tid, behind the end of the vDSO in its last page.
func (p *Process) spare(tid int) (mem.Addr, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.PID))
	if err != nil {
		return 0, fmt.Errorf("%w (%v)", ErrGone, err)
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(line, "[vdso]\n") {
			continue
		}
		var lo, hi uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &lo, &hi); err != nil {
			return 0, err
		}
		var head [64]byte
		if _, err := p.ReadMemory(mem.Addr(lo), head[:]); err != nil || !bytes.HasPrefix(head[:], []byte("\x7fELF")) {
			break
		}
		// The section headers are what the linker puts last.
		end := lo + binary.LittleEndian.Uint64(head[40:]) + uint64(binary.LittleEndian.Uint16(head[58:]))*uint64(binary.LittleEndian.Uint16(head[60:]))
		end = (end + 15) &^ 15
		if end <= lo || end+16 > hi {
			break
		}
		return mem.Addr(end + 16*(uint64(tid)%((hi-end)/16))), nil
	}
	return 0, fmt.Errorf("process %d has no vDSO with room behind it: a wait cannot be shortened", p.PID)
}
