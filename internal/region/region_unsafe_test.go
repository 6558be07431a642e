package region

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
)

const base = 0x100000000000

func fresh(t *testing.T, slots int) *Region {
	t.Helper()
	f, err := kern.Memfd("region-test", stub.RegionSize(slots))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Init(f, base, slots, stub.Load())
	if err != nil {
		f.Close()
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// again opens the memory of r once more, as a new agent would.
func again(t *testing.T, r *Region) *os.File {
	t.Helper()
	f, err := os.OpenFile("/proc/self/fd/"+itoa(int(r.File.Fd())), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// TestANewAgentFindsEverything: what one agent has written another reads, at the same places.
func TestANewAgentFindsEverything(t *testing.T) {
	r := fresh(t, 3)
	if err := r.PutRecord([]byte("the image")); err != nil {
		t.Fatal(err)
	}
	r.Header().Epoch, r.Header().PID = 7, 4711
	copy(r.Header().Home[:], "n1")
	r.Slot(2).Seq = 99
	copy(r.SlotData(2), "data")
	n, err := Attach(again(t, r), stub.Load())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	h := n.Header()
	if n.Base != base || n.Slots != 3 || h.Epoch != 7 || h.PID != 4711 || String(h.Home[:]) != "n1" || h.State != stub.StatePlanted ||
		n.Slot(2).Seq != 99 || !bytes.HasPrefix(n.SlotData(2), []byte("data")) || string(n.Record()) != "the image" {
		t.Errorf("the new agent sees %+v, slots %d at %v, record %q", *h, n.Slots, n.Base, n.Record())
	}
	if !bytes.HasPrefix(n.B, n.Code.Bytes) {
		t.Error("the code is not at the beginning")
	}
	if n.Range() != (mem.Range{Start: base, End: base + mem.Addr(stub.RegionSize(3))}) || n.SlotAddr(1) != base+mem.Addr(stub.SlotOff(1)) ||
		n.Addr(stub.ScratchOff) != base+stub.ScratchOff || n.At(n.Code.At.Loop) != base+n.Code.At.Loop {
		t.Errorf("addresses: %v, slot 1 at %v", n.Range(), n.SlotAddr(1))
	}
}

// TestPartsDoNotOverlap: whoever writes one part of the region to its end leaves the others alone.
func TestPartsDoNotOverlap(t *testing.T) {
	r := fresh(t, 2)
	end := func(b []byte) (from, to uintptr) {
		from = uintptr(unsafe.Pointer(&b[0])) - uintptr(unsafe.Pointer(&r.B[0]))
		return from, from + uintptr(len(b))
	}
	part := func(off int, size uintptr) []byte { return r.B[off : off+int(size)] }
	at := uintptr(0)
	for _, p := range []struct {
		name string
		b    []byte
	}{
		{"code", part(stub.CodeOff, uintptr(len(r.Code.Bytes)))},
		{"header", part(stub.HeaderOff, unsafe.Sizeof(stub.Header{}))},
		{"keeper", part(stub.KeeperOff, unsafe.Sizeof(stub.Keeper{}))},
		{"ring", part(stub.RingOff, stub.RingEntries*stub.EntrySize)},
		{"table", part(stub.TableOff, stub.TableCalls*stub.CallSize)},
		{"scratch", r.Scratch()},
		{"record", part(stub.RecordOff, stub.RecordSize)},
		{"slot 0", part(int(stub.SlotOff(0)), unsafe.Sizeof(stub.Slot{}))},
		{"stack 0", part(int(stub.SlotOff(0))+0x1000, stub.SlotStackTop-0x1000)},
		{"data 0", r.SlotData(0)},
		{"slot 1", part(int(stub.SlotOff(1)), unsafe.Sizeof(stub.Slot{}))},
		{"data 1", r.SlotData(1)},
	} {
		from, to := end(p.b)
		if from < at {
			t.Errorf("%s begins at %#x, what lies before it ends at %#x", p.name, from, at)
		}
		at = to
	}
	if at != uintptr(len(r.B)) {
		t.Errorf("the last part ends at %#x of %#x", at, len(r.B))
	}
	if unsafe.Sizeof(stub.Entry{}) != stub.EntrySize || unsafe.Sizeof(stub.Call{}) != stub.CallSize {
		t.Errorf("an entry has %d bytes, a call %d", unsafe.Sizeof(stub.Entry{}), unsafe.Sizeof(stub.Call{}))
	}
	if cap(r.Scratch()) != stub.ScratchSize || cap(r.SlotData(0)) != stub.SlotDataSize {
		t.Error("an append to scratch or data would run into its neighbour")
	}
}

// memfd makes one with the seals that are named, and no others.
func memfd(t *testing.T, size int64, seals uintptr) *os.File {
	t.Helper()
	name := [...]byte{'t', 0}
	fd, _, e := syscall.Syscall(abi.SysMemfdCreate, uintptr(unsafe.Pointer(&name)), 1|2, 0)
	if e != 0 {
		t.Fatal(e)
	}
	f := os.NewFile(fd, "memfd")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	const addSeals = 1033
	if seals != 0 {
		if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, fd, addSeals, seals); e != 0 {
			t.Fatal(e)
		}
	}
	return f
}

// TestAttachRefuses what is not one of our regions, and what could be made shorter under our hands.
func TestAttachRefuses(t *testing.T) {
	const sealSeal, sealShrink, sealGrow = 1, 2, 4
	whole := fresh(t, 1)
	size := int64(len(whole.B))
	with := func(f *os.File, spoil func(h *stub.Header)) *os.File {
		t.Helper()
		if _, err := f.WriteAt(whole.B, 0); err != nil {
			t.Fatal(err)
		}
		b, err := kern.Map(f, uint64(size))
		if err != nil {
			t.Fatal(err)
		}
		spoil((*stub.Header)(unsafe.Pointer(&b[stub.HeaderOff])))
		if err := kern.Unmap(b); err != nil {
			t.Fatal(err)
		}
		return f
	}
	sealed := func() *os.File { return memfd(t, size, sealSeal|sealShrink|sealGrow) }
	plain, err := os.Create(filepath.Join(t.TempDir(), "plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := plain.Truncate(size); err != nil {
		t.Fatal(err)
	}
	as := func(*stub.Header) {}
	for name, f := range map[string]*os.File{
		"an ordinary file":           with(plain, as),
		"not sealed":                 with(memfd(t, size, 0), as),
		"may shrink":                 with(memfd(t, size, sealGrow|sealSeal), as),
		"may grow":                   with(memfd(t, size, sealShrink|sealSeal), as),
		"empty":                      memfd(t, 0, sealSeal|sealShrink|sealGrow),
		"too short for any":          memfd(t, stub.SlotsOff-1, sealSeal|sealShrink|sealGrow),
		"half a slot":                memfd(t, size-stub.SlotSize/2, sealSeal|sealShrink|sealGrow),
		"a slot and a byte":          memfd(t, size+1, sealSeal|sealShrink|sealGrow),
		"nothing in it":              sealed(),
		"another magic":              with(sealed(), func(h *stub.Header) { h.Magic++ }),
		"an older layout":            with(sealed(), func(h *stub.Header) { h.Version = stub.Version - 1 }),
		"a newer layout":             with(sealed(), func(h *stub.Header) { h.Version = stub.Version + 1 }),
		"more slots than it holds":   with(sealed(), func(h *stub.Header) { h.Slots = 2 }),
		"fewer":                      with(sealed(), func(h *stub.Header) { h.Slots = 0 }),
		"thousands of millions more": with(sealed(), func(h *stub.Header) { h.Slots = 1<<32 - 1 }),
	} {
		if r, err := Attach(f, stub.Load()); !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", name, err)
			if r != nil {
				r.Close()
			}
		}
	}
	r, err := Attach(with(sealed(), as), stub.Load())
	if err != nil {
		t.Fatalf("what nobody has spoilt: %v", err)
	}
	r.Close()
	r.Close() // twice is once
}

// TestRecord: it comes back as it went in, or is refused; a length that a hostile process writes reads nothing beyond.
func TestRecord(t *testing.T) {
	r := fresh(t, 0)
	for _, n := range []int{0, 1, 5000, stub.RecordSize} {
		b := bytes.Repeat([]byte{byte(n), 7}, n/2+1)[:n]
		if err := r.PutRecord(b); err != nil || !bytes.Equal(r.Record(), b) {
			t.Errorf("a record of %d bytes: %v", n, err)
		}
	}
	before := r.Record()
	if err := r.PutRecord(make([]byte, stub.RecordSize+1)); err == nil {
		t.Error("a record that does not fit was stored")
	}
	if !bytes.Equal(r.Record(), before) {
		t.Error("a record that does not fit has changed the one that was there")
	}
	for _, n := range []uint64{stub.RecordSize + 1, 1 << 40, 1<<64 - 1} {
		r.Header().Record = n
		if got := len(r.Record()); got != stub.RecordSize {
			t.Errorf("a record that says it has %d bytes gives %d", n, got)
		}
	}
	got := r.Record()
	got[0]++
	if r.Record()[0] == got[0] {
		t.Error("the record that was read is still the other side's")
	}
}

func TestCalls(t *testing.T) {
	r := fresh(t, 0)
	calls := make([]stub.Call, stub.TableCalls)
	for i := range calls {
		calls[i] = stub.Call{Nr: uint64(i), Args: [6]uint64{1, 2, 3, 4, 5, 6}, Ret: int64(-i)}
	}
	r.PutCalls(calls)
	for _, i := range []int{0, 1, stub.TableCalls - 1} {
		if got := r.Returned(i); got != int64(-i) {
			t.Errorf("call %d returned %d", i, got)
		}
		row := r.B[stub.TableOff+i*stub.CallSize:]
		if binary.LittleEndian.Uint64(row) != uint64(i) || binary.LittleEndian.Uint64(row[48:]) != 6 {
			t.Errorf("row %d is %x", i, row[:stub.CallSize])
		}
	}
}

func TestString(t *testing.T) {
	for in, want := range map[string]string{"": "", "\x00": "", "n1\x00\x00": "n1", "n1\x00n2": "n1", "full": "full"} {
		if got := String([]byte(in)); got != want {
			t.Errorf("%q reads %q, want %q", in, got, want)
		}
	}
}

// record does what the recorder in the stub does: it takes a ticket, waits for room, writes, and says that it is there.
func record(r *Region, tid uint32, signo byte) {
	write(r, ticket(r), tid, signo)
}

func ticket(r *Region) uint32 { return atomic.AddUint32(&r.Header().RingHead, 1) - 1 }

func write(r *Region, n, tid uint32, signo byte) {
	h := r.Header()
	for tail := atomic.LoadUint32(&h.RingTail); n-tail >= stub.RingEntries; tail = atomic.LoadUint32(&h.RingTail) {
		kern.FutexWait(&h.RingTail, tail, -1)
	}
	e := (*stub.Entry)(unsafe.Pointer(&r.B[stub.RingOff+int(n%stub.RingEntries)*stub.EntrySize]))
	e.TID = tid
	e.Info = abi.Siginfo{signo}
	atomic.StoreUint32(&e.Seq, n+1)
}

func expect(t *testing.T, got []Signal, tids ...uint32) {
	t.Helper()
	if len(got) != len(tids) {
		t.Fatalf("%d signals, want %d", len(got), len(tids))
	}
	for i, s := range got {
		if s.TID != int(tids[i]) || s.Info.Signo() != int(byte(tids[i])) {
			t.Fatalf("signal %d is %d of thread %d, want thread %d", i, s.Info.Signo(), s.TID, tids[i])
		}
	}
}

// TestSignalsInTheirOrder: once each, oldest first, also over the end of the ring and of the tickets' 32 bits.
func TestSignalsInTheirOrder(t *testing.T) {
	r := fresh(t, 1)
	expect(t, r.TakeSignals())
	h := r.Header()
	const start = 1<<32 - 2*stub.RingEntries + 5 // every entry is used once before the numbers begin again
	h.RingHead, h.RingTail = start, start
	next := uint32(1)
	for n := 0; n < 5*stub.RingEntries; n += 7 {
		var want []uint32
		for range 7 {
			record(r, next, byte(next))
			want = append(want, next)
			next++
		}
		expect(t, r.TakeSignals(), want...)
		expect(t, r.TakeSignals())
	}
}

// TestALateWriterHoldsTheRest: a signal whose ticket came first and which is not written yet is not overtaken.
func TestALateWriterHoldsTheRest(t *testing.T) {
	r := fresh(t, 1)
	late := ticket(r)
	record(r, 2, 2)
	record(r, 3, 3)
	expect(t, r.TakeSignals())
	write(r, late, 1, 1)
	expect(t, r.TakeSignals(), 1, 2, 3)
}

// TestFullRing: a recorder that finds no room waits until one was taken, and nothing is lost.
func TestFullRing(t *testing.T) {
	r := fresh(t, 1)
	const all = 3*stub.RingEntries + 9
	var written atomic.Uint32
	go func() {
		for i := uint32(1); i <= all; i++ {
			record(r, i, byte(i))
			written.Store(i)
		}
	}()
	for written.Load() < stub.RingEntries {
		time.Sleep(100 * time.Microsecond)
	}
	time.Sleep(2 * time.Millisecond)
	if n := written.Load(); n != stub.RingEntries {
		t.Fatalf("%d signals were written into a ring of %d", n, stub.RingEntries)
	}
	next := uint32(1)
	for next <= all {
		for _, s := range r.TakeSignals() {
			if s.TID != int(next) || s.Info.Signo() != int(byte(next)) {
				t.Fatalf("got signal %d of thread %d, want thread %d", s.Info.Signo(), s.TID, next)
			}
			next++
		}
	}
	expect(t, r.TakeSignals())
}

// TestEndlessSignals: a process that writes into its ring as fast as it can does not keep the agent for ever.
func TestEndlessSignals(t *testing.T) {
	r := fresh(t, 1)
	h := r.Header()
	var stop atomic.Bool
	done := make(chan struct{})
	go func() { // every entry always says that it is the next one
		defer close(done)
		for !stop.Load() {
			next := atomic.LoadUint32(&h.RingTail)
			for i := range uint32(stub.RingEntries) {
				n := next + i
				atomic.StoreUint32((*uint32)(unsafe.Pointer(&r.B[stub.RingOff+int(n%stub.RingEntries)*stub.EntrySize])), n+1)
			}
		}
	}()
	taken := 0
	for end := time.Now().Add(5 * time.Second); taken < 20*stub.RingEntries && time.Now().Before(end); {
		got := r.TakeSignals()
		if taken += len(got); len(got) > stub.RingEntries {
			t.Errorf("%d signals at once, the ring has %d", len(got), stub.RingEntries)
		}
	}
	stop.Store(true)
	<-done
	if taken < 20*stub.RingEntries {
		t.Errorf("only %d were taken: the test proves nothing", taken)
	}
}
