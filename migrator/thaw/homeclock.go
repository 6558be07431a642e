package thaw

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"mosix/internal/abi"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/tracer"
)

// A process that comes home has used CPU time elsewhere, and home's kernel does not know: its clocks of CPU time would go back.
// Nothing can tell the kernel. But programs ask through the vDSO, which passes this question on to the kernel in one place:
// from there the process goes on in what is free at the end of the vDSO, where what was used away is added. A child inherits
// that, and is recognized by its number. What asks the kernel itself (getrusage, times, /proc) sees home's count.

// cpuHook is where the vDSO of this kernel asks, and where it has room.
type cpuHook struct{ site, pad, room int }

// vDSO code is found by what it does: mov $228, %eax; syscall.
var askClock = []byte{0xb8, 0xe4, 0, 0, 0, 0x0f, 0x05}

var errNoHook = errors.New("the vDSO of this kernel asks for CPU time in another way than is known, or has no room")

var ownHook = sync.OnceValues(func() (h cpuHook, err error) {
	b, err := ownVDSO()
	if err != nil {
		return h, err
	}
	return findHook(b)
})

func findHook(vdso []byte) (h cpuHook, err error) {
	h.site = bytes.Index(vdso, askClock)
	if h.site < 0 || bytes.Count(vdso, askClock) != 1 {
		return h, errNoHook
	}
	h.pad = (len(bytes.TrimRight(vdso, "\x00")) + 31) &^ 15
	h.room = len(vdso) - h.pad - tracer.SpareBytes
	if h.room < hookCodeSize+3*hookEntrySize {
		return h, errNoHook
	}
	return h, nil
}

const (
	hookCodeSize  = 192
	hookEntrySize = 24 // number, seconds, nanoseconds
)

// hookCode is the code at pad, for a vDSO that begins at base, with its table behind it. It uses the registers that a system call
// destroys, and no stack, so that a thread which is stopped in it can begin again at the site.
func (h cpuHook) code(base mem.Addr) []byte {
	var b []byte
	labels := map[string]int{}
	type jump struct {
		at int
		to string
	}
	var jumps []jump
	emit := func(c ...byte) { b = append(b, c...) }
	label := func(n string) { labels[n] = len(b) }
	jcc := func(op byte, to string) { emit(op, 0); jumps = append(jumps, jump{len(b) - 1, to}) }
	table := func(off int) { // movabs $table, %r11
		emit(0x49, 0xbb)
		b = binary.LittleEndian.AppendUint64(b, uint64(base)+uint64(h.pad+hookCodeSize+off))
	}
	const je, jne, jns, jl, jmp = 0x74, 0x75, 0x79, 0x7c, 0xeb

	back := func() { // jmp to what follows the site
		emit(0xe9)
		b = binary.LittleEndian.AppendUint32(b, uint32(h.site+len(askClock)-(h.pad+len(b)+4)))
	}
	emit(askClock...)
	emit(0x85, 0xc0) // test %eax, %eax
	jcc(je, "known")
	label("early")
	back()
	label("known")
	emit(0x83, 0xff, 0x02) // cmp $CLOCK_PROCESS_CPUTIME_ID, %edi
	jcc(je, "process")
	emit(0x83, 0xff, 0x03) // cmp $CLOCK_THREAD_CPUTIME_ID, %edi
	jcc(je, "thread")
	emit(0x85, 0xff) // test %edi, %edi
	jcc(jns, "early")
	emit(0x89, 0xf8, 0xc1, 0xf8, 0x03, 0xf7, 0xd0) // mov %edi, %eax; sar $3, %eax; not %eax: whose
	emit(0x89, 0xf9, 0x83, 0xe1, 0x07)             // mov %edi, %ecx; and $7, %ecx: what
	emit(0x83, 0xf9, 0x06)                         // cmp $6, %ecx
	jcc(je, "anyThread")
	emit(0x83, 0xf9, 0x02) // cmp $2, %ecx
	jcc(jne, "good")
	emit(0x85, 0xc0) // test %eax, %eax
	jcc(jne, "isProcess")
	label("process")
	emit(0xb8, 0x27, 0, 0, 0, 0x0f, 0x05) // getpid
	label("isProcess")
	table(0)
	emit(0x41, 0x3b, 0x03) // cmp (%r11), %eax
	jcc(je, "add")
	jcc(jmp, "good")
	label("anyThread")
	emit(0x85, 0xc0)
	jcc(jne, "find")
	label("thread")
	emit(0xb8, 0xba, 0, 0, 0, 0x0f, 0x05) // gettid
	label("find")
	table(hookEntrySize)
	label("next")
	emit(0x41, 0x83, 0x3b, 0x00) // cmpl $0, (%r11)
	jcc(je, "good")
	emit(0x41, 0x3b, 0x03) // cmp (%r11), %eax
	jcc(je, "add")
	emit(0x49, 0x83, 0xc3, hookEntrySize) // add $24, %r11
	jcc(jmp, "next")
	label("add")
	emit(0x49, 0x8b, 0x43, 0x08, 0x48, 0x01, 0x06)       // mov 8(%r11), %rax; add %rax, (%rsi)
	emit(0x49, 0x8b, 0x43, 0x10, 0x48, 0x03, 0x46, 0x08) // mov 16(%r11), %rax; add 8(%rsi), %rax
	emit(0x48, 0x3d, 0x00, 0xca, 0x9a, 0x3b)             // cmp $1000000000, %rax
	jcc(jl, "store")
	emit(0x48, 0x2d, 0x00, 0xca, 0x9a, 0x3b, 0x48, 0xff, 0x06) // sub $1000000000, %rax; incq (%rsi)
	label("store")
	emit(0x48, 0x89, 0x46, 0x08) // mov %rax, 8(%rsi)
	label("good")
	emit(0x31, 0xc0) // xor %eax, %eax
	back()
	for _, j := range jumps {
		b[j.at] = byte(int8(labels[j.to] - j.at - 1))
	}
	return b
}

// table is what follows the code: the process, its threads as far as there is room, and the end.
func (h cpuHook) table(m *image.Process) []byte {
	var b []byte
	entry := func(n uint32, ns uint64) {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
		b = binary.LittleEndian.AppendUint64(b, ns/1e9)
		b = binary.LittleEndian.AppendUint64(b, ns%1e9)
	}
	entry(uint32(m.PID), m.Away.Run)
	for i := range m.Threads {
		if u := m.Threads[i].Away; u.Run > 0 && len(b)+2*hookEntrySize <= h.room-hookCodeSize {
			entry(uint32(m.Threads[i].TID), u.Run)
		}
	}
	return append(b, make([]byte, hookEntrySize)...)
}

// showAway makes the clocks of CPU time of a process that is about to run at home go on where they were.
func showAway(p *tracer.Process, m *image.Process) error {
	h, err := ownHook()
	if err != nil {
		return err
	}
	r, _, err := findVDSO(p.PID, "[vdso]")
	if err != nil {
		return err
	}
	now := make([]byte, len(askClock))
	if _, err := kern.ReadVM(p.PID, now, mem.Range{Start: r.Start + mem.Addr(h.site), End: r.Start + mem.Addr(h.site+len(now))}); err != nil {
		return err
	}
	jump := append(binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(h.pad-(h.site+5))), 0x66, 0x90)
	if !bytes.Equal(now, askClock) && !bytes.Equal(now, jump) {
		return fmt.Errorf("process %d has changed its vDSO", p.PID)
	}
	code := make([]byte, hookCodeSize)
	copy(code, h.code(r.Start))
	if _, err := p.WriteMemory(r.Start+mem.Addr(h.pad), append(code, h.table(m)...)); err != nil {
		return err
	}
	if _, err := p.WriteMemory(r.Start+mem.Addr(h.site), jump); err != nil {
		return err
	}
	for i := range m.Threads {
		h.beginAgain(&m.Threads[i].Regs, r.Start)
	}
	return nil
}

// beginAgain puts a thread that stands in the code of the hook, or where it was put in, to its beginning.
func (h cpuHook) beginAgain(r *abi.Regs, vdso mem.Addr) {
	at := int(mem.Addr(r.RIP) - vdso)
	if mem.Addr(r.RIP) >= vdso && (at > h.site && at < h.site+len(askClock) || at >= h.pad && at < h.pad+hookCodeSize) {
		r.RIP, r.OrigRAX = uint64(vdso)+uint64(h.site), abi.NoCall
	}
}

// RewindCPUClock does so for all held threads of a process that leaves home.
func RewindCPUClock(p *tracer.Process) {
	h, err := ownHook()
	if err != nil {
		return
	}
	r, _, err := findVDSO(p.PID, "[vdso]")
	if err != nil {
		return
	}
	for _, t := range p.Held() {
		h.beginAgain(&t.Regs, r.Start)
	}
}

// fillHook puts the code of the hook into a guest too, with an empty table and nothing that leads to it: a handler that is active
// may have interrupted it at home, and returns there.
func fillHook(p *tracer.Process, vdso found) error {
	h, err := findHook(vdso.code)
	if err != nil {
		return nil // then no process has one
	}
	_, err = p.WriteMemory(vdso.at.Start+mem.Addr(h.pad), h.code(vdso.at.Start))
	return err
}
