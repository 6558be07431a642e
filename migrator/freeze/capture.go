// Package freeze takes the image of a process that is held still, and lays the original to rest as its own shadow. Its one
// invariant: until Park has written the record, nothing that it does survives the death of the agent; after it, the record
// alone is enough to make the process run on where it is.
package freeze

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/procfs"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/migrator/pages"
)

// Areas reads the areas of p, without the region. The kernel does not give those of a process that runs in one stroke: what changes in
// the middle may be there twice, and is read again.
func Areas(p *tracer.Process) (as []image.Area, vvar mem.Addr, err error) {
	var ex mem.Range
	if p.Region != nil {
		ex = p.Region.Range()
	}
	for range 20 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.PID))
		if err != nil {
			return nil, 0, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
		}
		as, vvar = image.ParseMaps(b, ex)
		if len(as) == 0 {
			return nil, 0, fmt.Errorf("process %d has no memory: %w", p.PID, tracer.ErrGone)
		}
		if image.CheckAreas(as) == nil {
			break
		}
	}
	return as, vvar, nil
}

// FreeBase finds where the region fits: at stub.Base where that is free, else in the first gap above it.
func FreeBase(as []image.Area, slots int) mem.Addr {
	const align = 1 << 20 // the clocks' code finds the region by rounding its own address down
	size := mem.Addr(stub.RegionSize(slots)+align-1) &^ (align - 1)
	at := stub.Base
	for _, a := range as {
		if a.End <= at {
			continue
		}
		if a.Start >= at+size {
			break
		}
		at = (a.End + align - 1) &^ (align - 1)
	}
	return at
}

// Capture takes everything of the held process but its memory. tidOf says how the process itself numbers a thread. Registers
// are those to resume with: calls that our own stop has cut are marked to be made again.
// restarted says which call a thread in restart_syscall continues: no register tells; 0 means that nobody knows.
func Capture(p *tracer.Process, tidOf func(int) id.HomePID, restarted func(tid int) uint64) (image.Process, error) {
	var m image.Process
	l := p.Leader()
	if l == nil {
		return m, fmt.Errorf("process %d has no leading thread any more: it cannot move until it ends", p.PID)
	}
	var err error
	if m.Areas, m.VDSO, err = Areas(p); err != nil {
		return m, err
	}
	pm, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.PID))
	if err != nil {
		return m, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	m.Guards, err = pages.Guards(pm, m.Areas)
	pm.Close()
	if err != nil {
		return m, err
	}
	m.PID = tidOf(l.TID)
	if err := describe(p.PID, &m); err != nil {
		return m, err
	}
	if err := captureProcess(l, &m); err != nil {
		return m, err
	}
	for _, t := range p.Held() {
		th, err := captureThread(t, restarted)
		if err != nil {
			return m, err
		}
		th.TID = tidOf(t.TID)
		m.Threads = append(m.Threads, th)
	}
	return m, nil
}

// Sleeping notes in which call each thread sleeps that is in restart_syscall, by what the kernel calls the place: once the
// thread is stopped nothing tells any more.
func Sleeping(pid int, tids []int) map[int]uint64 {
	out := map[int]uint64{}
	for _, tid := range tids {
		call, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
		f := strings.Fields(string(call))
		if err != nil || len(f) < 7 || f[0] != "219" {
			continue
		}
		out[tid] = 0
		at, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/wchan", pid, tid))
		first, _ := strconv.ParseUint(strings.TrimPrefix(f[1], "0x"), 16, 64)
		w := string(at)
		if w == "do_syscall_64" || w == "x64_sys_call" { // what sleeps on a timer itself is left out as part of the scheduler
			w = "nanosleep"
		}
		switch {
		case strings.Contains(w, "futex"):
			out[tid] = abi.SysFutex
		case strings.Contains(w, "poll"):
			out[tid] = abi.SysPoll
		case strings.Contains(w, "nanosleep") && first < 64: // a clock, not an address
			out[tid] = abi.SysClockNanosleep
		case strings.Contains(w, "nanosleep"):
			out[tid] = abi.SysNanosleep
		}
	}
	return out
}

// describe reads what /proc says.
func describe(pid int, m *image.Process) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	f := statFields(stat)
	m.Layout = image.Layout{StartCode: f[26], EndCode: f[27], StartStack: f[28], StartData: f[45], EndData: f[46], StartBrk: f[47],
		ArgStart: f[48], ArgEnd: f[49], EnvStart: f[50], EnvEnd: f[51]}
	m.CPUTime = (f[14] + f[15]) * 1e7
	m.Auxv, _ = os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	if len(m.Auxv) > 1024 {
		m.Auxv = m.Auxv[:1024]
	}
	for i := 0; i+16 <= len(m.Auxv); i += 16 {
		if binary.LittleEndian.Uint64(m.Auxv[i:]) == 0 { // AT_NULL: nothing after it counts
			m.Auxv = m.Auxv[:i+16]
			break
		}
	}
	m.Exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	m.Comm = strings.TrimSuffix(string(comm), "\n")
	cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	m.Command = strings.TrimSpace(strings.ReplaceAll(string(cmd[:min(len(cmd), 4096)]), "\x00", " "))
	if limits, err := procfs.Default.Limits(pid); err == nil {
		for i, l := range limits {
			m.Limits[i] = [2]uint64{l.Soft, l.Hard}
		}
	}
	var st os.FileInfo
	if st, err = os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		m.UID, m.GID = owner(st)
	}
	return nil
}

// statFields returns the fields of /proc/PID/stat by their number in the manual page; those before the state are 0.
func statFields(b []byte) (f [64]uint64) {
	s := string(b)
	for i, x := range strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) {
		if i+3 < len(f) {
			f[i+3], _ = strconv.ParseUint(x, 10, 64)
		}
	}
	return f
}

// StartTime is field 22 of /proc/PID/stat: with the number it names a process for ever.
func StartTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	return statFields(b)[22], nil
}

// CPUTime reads user and system time from the content of /proc/PID/stat.
func CPUTime(stat []byte) time.Duration {
	f := statFields(stat)
	return time.Duration(f[14]+f[15]) * 10 * time.Millisecond
}

// captureProcess asks the kernel, through the leader, what only the process itself can ask.
func captureProcess(l *tracer.Thread, m *image.Process) error {
	g := l.Proc.Region
	at := func(off int) uint64 { return uint64(g.Addr(stub.ScratchOff + off)) }
	calls := make([]stub.Call, 0, abi.NSig+8)
	for s := 1; s <= abi.NSig; s++ {
		calls = append(calls, tracer.NewCall(abi.SysRtSigaction, uint64(s), 0, at(s*abi.SigActionSize), 8))
	}
	const getRegistrations = 1 << 9
	calls = append(calls, tracer.NewCall(abi.SysBrk, 0), tracer.NewCall(abi.SysMembarrier, getRegistrations),
		tracer.NewCall(abi.SysPrctl, abi.PrGetTHPDisable))
	const timersOff = 8192
	for i := range m.ITimers {
		calls = append(calls, tracer.NewCall(abi.SysGetitimer, uint64(i+1), at(timersOff+32*i)))
	}
	out, err := l.Batch(calls)
	if err != nil {
		return err
	}
	for s := 1; s <= abi.NSig; s++ {
		m.Actions[s] = abi.GetSigAction(g.Scratch()[s*abi.SigActionSize:])
	}
	m.Layout.Brk = uint64(out[abi.NSig])
	for i := range m.ITimers {
		for j := range m.ITimers[i] {
			m.ITimers[i][j] = binary.LittleEndian.Uint64(g.Scratch()[timersOff+32*i+8*j:])
		}
	}
	if r := out[abi.NSig+1]; r > 0 {
		m.Expedit = uint32(r)
	}
	m.NoHuge = out[abi.NSig+2] == 1
	return nil
}

func captureThread(t *tracer.Thread, restarted func(tid int) uint64) (image.Thread, error) {
	th := image.Thread{Regs: t.Regs, Mask: t.Mask}
	var err error
	if th.XState, err = kern.GetXState(t.TID); err != nil {
		return th, err
	}
	if tiles(th.XState) {
		return th, fmt.Errorf("thread %d has something in the tiles of the processor (AMX), for which a host gives no permission: try again when it has released them", t.TID)
	}
	rs, err := kern.GetRseq(t.TID)
	if err != nil {
		return th, err
	}
	th.Rseq, th.RseqSize, th.RseqSig = rs.Addr, rs.Size, rs.Sig
	if th.Robust, th.RobustLen, err = kern.RobustList(t.TID); err != nil {
		return th, err
	}
	g := t.Proc.Region
	out, err := t.MustBatch("sigaltstack, prctl", []stub.Call{
		tracer.NewCall(abi.SysSigaltstack, 0, uint64(g.Addr(stub.ScratchOff))),
		tracer.NewCall(abi.SysPrctl, abi.PrGetTidAddress, uint64(g.Addr(stub.ScratchOff+64))),
		tracer.NewCall(abi.SysPrctl, abi.PrGetTimerSlack),
	})
	if err != nil {
		return th, err
	}
	th.Slack = uint64(out[2])
	th.Alt = abi.GetStackT(g.Scratch())
	th.ClearTID = binary.LittleEndian.Uint64(g.Scratch()[64:])
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/comm", t.Proc.PID, t.TID))
	th.Comm = strings.TrimSuffix(string(comm), "\n")
	th.Pending = append([]abi.Siginfo(nil), t.Stash...)
	t.Taken = len(t.Stash)
	if th.Begun = t.Begun; th.Begun > 0 {
		th.Regs.RAX = restartNoInt // nothing of it is lost, nor made twice, whatever handler runs before
	}
	if th.Until = t.Until; th.Until != 0 {
		th.Regs.RAX = restartBlock // tells the call that is made again from a new one
	}
	if th.Regs.OrigRAX == abi.SysRestartSyscall && int64(th.Regs.RAX) == -abi.ERestartBlock {
		if th.Regs.OrigRAX = restarted(t.TID); th.Regs.OrigRAX == 0 && th.Until == 0 {
			return th, fmt.Errorf("thread %d sleeps in a call that was interrupted before, and which one cannot be told: try again later", t.TID)
		}
	}
	if th.Regs.OrigRAX == abi.SysFutex && int64(th.Regs.RAX) == -abi.ERestartBlock {
		th.Regs.RAX = restartSys // the restart block waits on memory of this side
	}
	return th, nil
}

// tiles reports whether an XSAVE area has the registers of AMX in use: a guest would need a permission for them, which is given to
// a process by its own asking only.
func tiles(xstate []byte) bool {
	const header, tilecfg, tiledata = 512, 1 << 17, 1 << 18
	return len(xstate) >= header+8 && binary.LittleEndian.Uint64(xstate[header:])&(tilecfg|tiledata) != 0
}
