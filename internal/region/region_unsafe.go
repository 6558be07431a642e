// Package region is the agent's side of the memory that it shares with a held process: a sealed memfd with the stub's code,
// header, ring, table, record and slots. Its one invariant: the other side may be hostile; every number read from it is
// copied once and checked before use, and nothing but the sealed size decides what may be touched.
package region

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
)

// Region is one such memory.
type Region struct {
	File  *os.File
	B     []byte
	Base  mem.Addr // where the process has it
	Slots int
	Code  *stub.Code
}

// ErrVersion says that a region was made by an agent whose layout this one does not know.
var ErrVersion = errors.New("the shared page has a layout that this agent does not know")

// Init maps f, which is sealed and of stub.RegionSize(slots) bytes, and writes code and header.
func Init(f *os.File, base mem.Addr, slots int, code *stub.Code) (*Region, error) {
	b, err := kern.Map(f, stub.RegionSize(slots))
	if err != nil {
		return nil, err
	}
	r := &Region{File: f, B: b, Base: base, Slots: slots, Code: code}
	copy(b[stub.CodeOff:], code.Bytes)
	h := r.Header()
	*h = stub.Header{
		Magic: stub.Magic, Version: stub.Version, State: stub.StatePlanted, Size: uint64(len(b)), Base: uint64(base),
		Slots: uint32(slots), Taken: uint64(base + code.At.Taken), CallSys: uint64(base + code.At.CallSys), CallEnd: uint64(base + code.At.CallEnd),
	}
	return r, nil
}

// Attach maps a region that an earlier agent left in a process.
func Attach(f *os.File, code *stub.Code) (*Region, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := uint64(st.Size())
	if !kern.Sealed(f) || size < stub.SlotsOff || (size-stub.SlotsOff)%stub.SlotSize != 0 {
		return nil, fmt.Errorf("%s is not a sealed region: %w", f.Name(), ErrVersion)
	}
	b, err := kern.Map(f, size)
	if err != nil {
		return nil, err
	}
	r := &Region{File: f, B: b, Slots: int((size - stub.SlotsOff) / stub.SlotSize), Code: code}
	h := r.Header()
	if h.Magic != stub.Magic || h.Version != stub.Version || int(h.Slots) != r.Slots {
		v := h.Version
		r.Close()
		return nil, fmt.Errorf("layout %d, this agent speaks %d: %w", v, stub.Version, ErrVersion)
	}
	r.Base = mem.Addr(h.Base)
	return r, nil
}

// Share maps r once more, for somebody who closes it by itself.
func (r *Region) Share() (*Region, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", r.File.Fd()), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("share a region: %w", err)
	}
	b, err := kern.Map(f, uint64(len(r.B)))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Region{File: f, B: b, Base: r.Base, Slots: r.Slots, Code: r.Code}, nil
}

// Close unmaps the region here; the process keeps it.
func (r *Region) Close() {
	if r.B != nil {
		_ = kern.Unmap(r.B)
		r.B = nil
		_ = r.File.Close()
	}
}

// Addr is the address, in the process, of what lies at off.
func (r *Region) Addr(off int) mem.Addr { return r.Base + mem.Addr(off) }

// At is the address of a label of the stub's code.
func (r *Region) At(label mem.Addr) mem.Addr { return r.Base + label }

// Range is where the process has the region.
func (r *Region) Range() mem.Range { return mem.Range{Start: r.Base, End: r.Base + mem.Addr(len(r.B))} }

// Header is the region's header, live.
func (r *Region) Header() *stub.Header {
	return (*stub.Header)(unsafe.Pointer(&r.B[stub.HeaderOff : stub.HeaderOff+unsafe.Sizeof(stub.Header{})][0]))
}

// Keeper is the keeper's page, live.
func (r *Region) Keeper() *stub.Keeper {
	return (*stub.Keeper)(unsafe.Pointer(&r.B[stub.KeeperOff : stub.KeeperOff+unsafe.Sizeof(stub.Keeper{})][0]))
}

// Member is entry i of the keeper's table, live.
func (r *Region) Member(i int) *stub.Member {
	off := stub.MembersOff + i*stub.MemberSize
	return (*stub.Member)(unsafe.Pointer(&r.B[off : off+stub.MemberSize][0]))
}

// Notice is the place, in a keeper's region, for the last call of the listener that is number fd there.
func (r *Region) Notice(fd uint32) *kern.Notif {
	return (*kern.Notif)(unsafe.Pointer(&r.B[stub.NoticesOff+int(fd%stub.Notices)*stub.NoticeSize]))
}

// Slot is slot i, live.
func (r *Region) Slot(i int) *stub.Slot {
	off := stub.SlotOff(i)
	return (*stub.Slot)(unsafe.Pointer(&r.B[off : off+uint64(unsafe.Sizeof(stub.Slot{}))][0]))
}

// SlotAddr is the address of slot i in the process.
func (r *Region) SlotAddr(i int) mem.Addr { return r.Base + mem.Addr(stub.SlotOff(i)) }

// SlotTID is the address, in the process, of the thread number in slot i.
func (r *Region) SlotTID(i int) mem.Addr {
	return r.SlotAddr(i) + mem.Addr(unsafe.Offsetof(stub.Slot{}.TID))
}

// SlotData is the data area of slot i.
func (r *Region) SlotData(i int) []byte {
	off := stub.SlotOff(i) + stub.SlotDataOff
	return r.B[off : off+stub.SlotDataSize : off+stub.SlotDataSize]
}

// Scratch is what injected calls may point to.
func (r *Region) Scratch() []byte {
	return r.B[stub.ScratchOff : stub.ScratchOff+stub.ScratchSize : stub.ScratchOff+stub.ScratchSize]
}

// PutCalls writes calls into the table. At most stub.TableCalls fit.
func (r *Region) PutCalls(calls []stub.Call) {
	for i := range calls {
		*(*stub.Call)(unsafe.Pointer(&r.B[stub.TableOff+i*stub.CallSize : stub.TableOff+(i+1)*stub.CallSize][0])) = calls[i]
	}
}

// Returned is what call i of the table returned.
func (r *Region) Returned(i int) int64 {
	return (*stub.Call)(unsafe.Pointer(&r.B[stub.TableOff+i*stub.CallSize : stub.TableOff+(i+1)*stub.CallSize][0])).Ret
}

// PutRecord stores the encoded image.
func (r *Region) PutRecord(b []byte) error {
	if len(b) > stub.RecordSize {
		return fmt.Errorf("the image's record has %d bytes, the shared page holds %d: the process has too many areas or threads", len(b), stub.RecordSize)
	}
	copy(r.B[stub.RecordOff:], b)
	r.Header().Record = uint64(len(b))
	return nil
}

// Record copies the stored image.
func (r *Region) Record() []byte {
	n := min(r.Header().Record, stub.RecordSize)
	return append([]byte(nil), r.B[stub.RecordOff:stub.RecordOff+n]...)
}

// Signal is a signal that reached the shadow.
type Signal struct {
	TID  int
	Info abi.Siginfo
}

// TakeSignals removes what the recorder has written, oldest first: at most a whole ring, however fast the other side writes.
func (r *Region) TakeSignals() []Signal {
	h := r.Header()
	var out []Signal
	for range stub.RingEntries {
		tail := atomic.LoadUint32(&h.RingTail)
		off := stub.RingOff + int(tail%stub.RingEntries)*stub.EntrySize
		e := (*stub.Entry)(unsafe.Pointer(&r.B[off : off+stub.EntrySize][0]))
		if atomic.LoadUint32(&e.Seq) != tail+1 {
			return out
		}
		out = append(out, Signal{int(e.TID), e.Info})
		atomic.StoreUint32(&h.RingTail, tail+1)
		kern.FutexWake(&h.RingTail, 1<<30)
	}
	return out
}

// String reads a zero-terminated field of the header.
func String(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
