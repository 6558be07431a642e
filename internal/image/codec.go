package image

import (
	"fmt"
	"reflect"

	"mosix/internal/abi"
	"mosix/internal/id"
	"mosix/internal/mem"
	"mosix/internal/pack"
)

// CodecVersion is the form of an encoded Family.
//
// History:
//
//	1  2026-11  first
//	2  2026-11  what was used away; clocks
//	3  2026-11  Thread.Until
//	4  2026-11  areas say of which object they are parts, and what the process has advised for them
//	5  2026-11  Process.Stopped
//	6  2026-11  Thread.Begun, Process.Guards
//	7  2026-11  Thread.Slack, Process.NoHuge
const CodecVersion = 7

// Encode gives the family's binary form.
func (f *Family) Encode() []byte {
	w := &pack.Writer{B: make([]byte, 0, 4096)}
	w.U32(CodecVersion)
	w.String(string(f.Process.Home))
	w.U32(uint32(f.Process.PID))
	w.U64(f.Process.Start)
	w.U64(uint64(f.Epoch))
	w.U32(uint32(len(f.Members)))
	for i := range f.Members {
		f.Members[i].encode(w)
	}
	return w.B
}

// Decode reads it. Bytes after the end are ignored.
func Decode(b []byte) (*Family, error) {
	r := pack.NewReader(b)
	if v := r.U32(); r.Err() == nil && v != CodecVersion {
		return nil, fmt.Errorf("the image has version %d, this agent reads %d: bring both nodes to the same release", v, CodecVersion)
	}
	f := &Family{Process: id.Process{Home: id.Node(r.String()), PID: id.HomePID(r.U32()), Start: r.U64()}, Epoch: id.Epoch(r.U64())}
	n := r.Count(100)
	for i := 0; i < n && r.Err() == nil; i++ {
		f.Members = append(f.Members, decodeProcess(r))
	}
	if r.Err() != nil {
		return nil, fmt.Errorf("decode image: %w", r.Err())
	}
	return f, f.check()
}

// check refuses an image that could not be of a process.
func (f *Family) check() error {
	if len(f.Members) == 0 || len(f.Members) > MaxMembers {
		return fmt.Errorf("the image of %v has %d processes, at least 1 and at most %d are due", f.Process, len(f.Members), MaxMembers)
	}
	if f.Members[0].PID != f.Process.PID {
		return fmt.Errorf("the image of %v begins with process %d", f.Process, f.Members[0].PID)
	}
	seen := map[id.HomePID]bool{}
	for i := range f.Members {
		p := &f.Members[i]
		if len(p.Threads) == 0 || p.Threads[0].TID != p.PID {
			return fmt.Errorf("process %d in the image of %v has no leading thread", p.PID, f.Process)
		}
		for j := range p.Threads {
			if tid := p.Threads[j].TID; seen[tid] {
				return fmt.Errorf("the image of %v has thread %d twice", f.Process, tid)
			}
			seen[p.Threads[j].TID] = true
		}
		if err := CheckAreas(p.Areas); err != nil {
			return err
		}
		for _, g := range p.Guards {
			if a := Find(p.Areas, g.Start); a == nil || g.End <= g.Start || g.End > a.End || g.Start%mem.PageSize != 0 || g.End%mem.PageSize != 0 {
				return fmt.Errorf("the image of %v has guard pages %v outside of its areas", f.Process, g)
			}
		}
	}
	return nil
}

// CheckAreas refuses a list of areas that is not ascending, not of whole pages, or not in a program's half of the addresses.
func CheckAreas(as []Area) error {
	var at mem.Addr
	for _, a := range as {
		if a.Start < at || a.End <= a.Start || a.Start%mem.PageSize != 0 || a.End%mem.PageSize != 0 || a.End > 1<<47 {
			return fmt.Errorf("the image has an area %v that cannot be", a.Range)
		}
		at = a.End
	}
	return nil
}

// Encode gives u's binary form, and DecodeUsage reads it; none where b is too short: an older agent has written it.
func (u Usage) Encode() []byte {
	w := &pack.Writer{}
	putWords(w, &u)
	return w.B
}

// DecodeUsage reads what Encode gives.
func DecodeUsage(b []byte) (u Usage) {
	r := pack.NewReader(b)
	getWords(r, &u)
	if r.Err() != nil {
		return Usage{}
	}
	return u
}

func putWords(w *pack.Writer, v any) {
	s := reflect.ValueOf(v).Elem()
	for i := range s.NumField() {
		w.U64(s.Field(i).Uint())
	}
}

func getWords(r *pack.Reader, v any) {
	s := reflect.ValueOf(v).Elem()
	for i := range s.NumField() {
		s.Field(i).SetUint(r.U64())
	}
}

func (p *Process) encode(w *pack.Writer) {
	w.U32(uint32(p.PID))
	w.U32(p.UID)
	w.U32(p.GID)
	w.String(p.Comm)
	w.String(p.Exe)
	w.String(p.Command)
	EncodeAreas(w, p.Areas)
	putWords(w, &p.Layout)
	for s := 1; s <= abi.NSig; s++ {
		putWords(w, &p.Actions[s])
	}
	w.Bytes(p.Auxv)
	w.U64(uint64(p.VDSO))
	w.U32(p.Expedit)
	w.U64(p.CPUTime)
	for _, l := range p.Limits {
		w.U64(l[0])
		w.U64(l[1])
	}
	for _, t := range p.ITimers {
		for _, v := range t {
			w.U64(v)
		}
	}
	w.U64(uint64(p.RealOffset))
	putWords(w, &p.Away)
	for _, c := range p.Clocks {
		w.U64(uint64(c))
	}
	encodeInfos(w, p.Pending)
	w.Bool(p.Stopped)
	w.Bool(p.NoHuge)
	w.U32(uint32(len(p.Guards)))
	for _, g := range p.Guards {
		w.U64(uint64(g.Start))
		w.U64(uint64(g.End))
	}
	w.U32(uint32(len(p.Threads)))
	for i := range p.Threads {
		p.Threads[i].encode(w)
	}
}

func decodeProcess(r *pack.Reader) (p Process) {
	p.PID = id.HomePID(r.U32())
	p.UID, p.GID = r.U32(), r.U32()
	p.Comm, p.Exe, p.Command = r.String(), r.String(), r.String()
	p.Areas = DecodeAreas(r)
	getWords(r, &p.Layout)
	for s := 1; s <= abi.NSig; s++ {
		getWords(r, &p.Actions[s])
	}
	p.Auxv = append([]byte(nil), r.Bytes()...)
	p.VDSO = mem.Addr(r.U64())
	p.Expedit, p.CPUTime = r.U32(), r.U64()
	for i := range p.Limits {
		p.Limits[i] = [2]uint64{r.U64(), r.U64()}
	}
	for i := range p.ITimers {
		for j := range p.ITimers[i] {
			p.ITimers[i][j] = r.U64()
		}
	}
	p.RealOffset = int64(r.U64())
	getWords(r, &p.Away)
	for i := range p.Clocks {
		p.Clocks[i] = int64(r.U64())
	}
	p.Pending = decodeInfos(r)
	p.Stopped, p.NoHuge = r.Bool(), r.Bool()
	n := r.Count(16)
	for i := 0; i < n && r.Err() == nil; i++ {
		p.Guards = append(p.Guards, mem.Range{Start: mem.Addr(r.U64()), End: mem.Addr(r.U64())})
	}
	n = r.Count(27 * 8)
	for i := 0; i < n && r.Err() == nil; i++ {
		p.Threads = append(p.Threads, decodeThread(r))
	}
	return p
}

// EncodeAreas appends a list of areas.
func EncodeAreas(w *pack.Writer, as []Area) {
	w.U32(uint32(len(as)))
	for _, a := range as {
		w.U64(uint64(a.Start))
		w.U64(uint64(a.End))
		w.U8(a.Prot)
		w.Bool(a.Shared)
		w.Bool(a.GrowsDown)
		w.Bool(a.File)
		w.String(a.Name)
		w.U64(a.Object.Dev)
		w.U64(a.Object.Inode)
		w.U64(a.Offset)
		w.U32(uint32(a.Advice))
	}
}

// DecodeAreas reads one.
func DecodeAreas(r *pack.Reader) []Area {
	n := r.Count(52)
	as := make([]Area, 0, n)
	for i := 0; i < n && r.Err() == nil; i++ {
		var a Area
		a.Start, a.End = mem.Addr(r.U64()), mem.Addr(r.U64())
		a.Prot, a.Shared, a.GrowsDown, a.File, a.Name = r.U8(), r.Bool(), r.Bool(), r.Bool(), r.String()
		a.Object, a.Offset, a.Advice = Object{Dev: r.U64(), Inode: r.U64()}, r.U64(), Advice(r.U32())
		as = append(as, a)
	}
	return as
}

func (t *Thread) encode(w *pack.Writer) {
	w.U32(uint32(t.TID))
	w.String(t.Comm)
	putWords(w, &t.Regs)
	w.Bytes(t.XState)
	w.U64(t.Mask)
	w.U64(t.Alt.SP)
	w.U32(t.Alt.Flags)
	w.U64(t.Alt.Size)
	w.U64(t.Robust)
	w.U64(t.RobustLen)
	w.U64(t.ClearTID)
	w.U64(t.Rseq)
	w.U32(t.RseqSize)
	w.U32(t.RseqSig)
	w.U64(uint64(t.Until))
	w.U64(t.Begun)
	w.U64(t.Slack)
	encodeInfos(w, t.Pending)
	putWords(w, &t.Away)
}

func encodeInfos(w *pack.Writer, infos []abi.Siginfo) {
	w.U32(uint32(len(infos)))
	for i := range infos {
		w.B = append(w.B, infos[i][:]...)
	}
}

func decodeInfos(r *pack.Reader) (out []abi.Siginfo) {
	n := r.Count(len(abi.Siginfo{}))
	for i := 0; i < n && r.Err() == nil; i++ {
		var si abi.Siginfo
		for j := range si {
			si[j] = r.U8()
		}
		out = append(out, si)
	}
	return out
}

func decodeThread(r *pack.Reader) (t Thread) {
	t.TID = id.HomePID(r.U32())
	t.Comm = r.String()
	getWords(r, &t.Regs)
	t.XState = append([]byte(nil), r.Bytes()...)
	t.Mask = r.U64()
	t.Alt = abi.StackT{SP: r.U64(), Flags: r.U32(), Size: r.U64()}
	t.Robust, t.RobustLen, t.ClearTID = r.U64(), r.U64(), r.U64()
	t.Rseq, t.RseqSize, t.RseqSig = r.U64(), r.U32(), r.U32()
	t.Until, t.Begun, t.Slack = int64(r.U64()), r.U64(), r.U64()
	t.Pending = decodeInfos(r)
	getWords(r, &t.Away)
	return t
}
