package ferry

import (
	"bytes"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"mosix/internal/id"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/pack"
	"mosix/internal/region"
)

// A page that a call of the guest uses at home, at its own address, is not overwritten while the guest runs: the answer would be that of
// a moment before the call.
func TestPagesOfCallsWaitForTheEnd(t *testing.T) {
	b, err := syscall.Mmap(-1, 0, 3*mem.PageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(b) }()
	at := mem.Addr(uintptr(unsafe.Pointer(&b[0])))
	page := func(i int) mem.Range {
		return mem.Range{Start: at + mem.Addr(i)*mem.PageSize, End: at + mem.Addr(i+1)*mem.PageSize}
	}
	m, err := kern.OpenMem(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	locked := 0
	h := &expected{mem: m, Returning: Returning{Process: id.Process{PID: id.HomePID(os.Getpid())}, Region: &region.Region{},
		Beside: func(f func([]mem.Range)) { locked++; f([]mem.Range{page(1)}) }}}
	copy(b[mem.PageSize:], "what the kernel has put there")
	w := &pack.Writer{}
	w.U32(1)
	w.U64(uint64(at))
	w.U64(uint64(at) + 3*mem.PageSize)
	w.B = append(w.B, bytes.Repeat([]byte{7}, 3*mem.PageSize)...)
	if err := h.page(w.B); err != nil {
		t.Fatal(err)
	}
	for i, want := range []byte{7, 'w', 7} {
		if got := b[i*mem.PageSize]; got != want {
			t.Errorf("page %d begins with %q, want %q", i, got, want)
		}
	}
	if locked != 1 || h.shelf.Bytes() != mem.PageSize {
		t.Errorf("pages put in %d times beside the calls, %d bytes wait; want 1 and %d", locked, h.shelf.Bytes(), mem.PageSize)
	}
	if lost, err := h.shelf.Write(os.Getpid(), m); err != nil || len(lost) > 0 || b[mem.PageSize] != 7 {
		t.Errorf("at the end: %v, %v, and the page begins with %q", lost, err, b[mem.PageSize])
	}
}
