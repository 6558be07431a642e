package homeproxy

import (
	"time"

	"mosix/internal/mem"
)

// Memory is the memory of a process whose call is served: the guest's on the host, a plain buffer in tests. Both methods
// move as many bytes as are accessible and return an error only when none of them was.
type Memory interface {
	ReadMemory(a mem.Addr, b []byte) (int, error)
	WriteMemory(a mem.Addr, b []byte) (int, error)
}

// Prober is a Memory that can tell without writing how many of the n bytes at a may be written, from a on.
type Prober interface {
	Writable(a mem.Addr, n int) int
}

// Blob is a piece of guest memory, by its address in the guest.
type Blob struct {
	Addr mem.Addr
	Data []byte
}

// Request is a forwarded call as it travels from host to home: the registers, and a copy of everything that the call will
// read through them. It is made once, from one reading of guest memory, so that a guest which changes its memory meanwhile
// changes nothing that was checked.
type Request struct {
	Nr   uint32
	Args [6]uint64
	Mask uint64 // the thread's signal mask, where the row wants it (Row.NeedsMask)
	In   []Blob

	// Heard is the number of the last signal that had come from home when the call was made: of rt_sigtimedwait, which must not
	// overtake one that is on its way.
	Heard uint64

	// Device asks whether the descriptor is one of the devices that the host can be for the program.
	Device bool

	// More says that this is a piece of a larger transfer, which goes on if the descriptor is a regular file: only then does
	// Result.Regular matter, and only if the piece came back whole.
	More bool
}

// Result is what travels back: the value of the register and everything that the call has written.
type Result struct {
	Ret     int64 // as the kernel gives it: a value, or -errno, or -512 … -516 for a call that was cancelled
	Out     []Blob
	Regular bool // the descriptor is a regular file: a transfer cut by the slot's size goes on
	AtHome  bool // the call was not made: the process must make it at home
	// Homeward: the thread must learn this at home only, where files that it has mapped are as they are by now.
	Homeward bool
	Device   Device
	View     View // what was read shows how much memory the process uses

	Left time.Duration // of a call on a socket with a timeout that was cut: what remained of it
}

// Plan is a Request laid out in a slot of the shadow: what to write where before the call, the registers of the call, and
// what to read afterwards. Offsets count from the start of the slot's data area.
type Plan struct {
	Nr     uint32
	Args   [6]uint64
	Writes []Write
	Outs   []Out

	// InPlace areas are mapped at their own addresses in the shadow for this call, because the kernel keeps pointers to them
	// in a restart block (poll, nanosleep, clock_nanosleep). Their pointers in Args are the program's own. Data holds the
	// content before the call; the whole area is read back after it where Out is set.
	InPlace []InPlace
}

// Write is data to put at an offset of the slot before the call.
type Write struct {
	Off  int
	Data []byte
}

// Out is a part of the slot to carry back after the call.
type Out struct {
	Addr mem.Addr // in the guest
	Off  int      // in the slot
	Len  int      // at most this much
	When When
	Min  int64 // and only if ret is at least this

	Skip   int // RetBytes, LenBytes: bytes of the concatenation that lie before this part
	Elem   int // RetElems: bytes of an element
	LenOff int // LenBytes: where in the slot the count stands, 32 bits
}

// InPlace is a piece of memory that must exist at the program's own address for the call.
type InPlace struct {
	Addr mem.Addr
	Data []byte
	Out  bool
	When When
}

// When says for which results an Out is carried back.
type When uint8

// The conditions under which the kernel has written an output.
const (
	OnSuccess   When = iota // ret >= 0, the whole of Len
	RetBytes                // ret >= 0, the first ret bytes (of the concatenation, for scattered buffers)
	RetElems                // ret >= 0, ret elements of Elem bytes
	LenBytes                // ret >= 0, as many bytes (of the concatenation) as the number at LenOff says
	OnInterrupt             // ret >= 0, or ret is -EINTR or -512 … -516 (the timespec of select and nanosleep)
	Always                  // whatever ret is
)
