package homeproxy

import (
	"encoding/binary"

	"mosix/internal/mem"
)

// MaxData is how much a slot holds, in bytes: everything that one call reads and writes, with the structures around it.
const MaxData = 1 << 20

// userTop is the end of the addresses that a program can have.
const userTop = 1 << 47

// source is where describe takes from what a call reads: guest memory on the host, the request at home. Reads come in the
// same order on both sides, so that home needs no search and trusts no length but its own.
type source interface {
	// fixed returns the n bytes at a, or false.
	fixed(a mem.Addr, n int) ([]byte, bool)
	// upTo returns what is accessible of the n bytes at a.
	upTo(a mem.Addr, n int) []byte
	// text returns the string at a with its NUL, which lies within limit bytes. Where there is none the result is nil and an
	// errno, or with cut the beginning of the string.
	text(a mem.Addr, limit, over int, cut bool) ([]byte, int)
	// reserve keeps a place in the order for a structure that changes before it is recorded.
	reserve() int
	// record says what travels: at the place given, or next where that is negative.
	record(place int, a mem.Addr, data []byte)
	// mark and rewind undo the records of a message that did not fit.
	mark() int
	rewind(int)
}

// nowhere is the address that a request names for an output which the guest may not write, or data that it may not read. It lies
// below the least address that an ordinary program can map. Home passes it on, so that its kernel fails as it would with the
// program's own: a pipe is not made, nothing is read.
const nowhere = mem.PageSize

// What an argument is that points to nothing in the slot.
const (
	valueArg = -1 - iota // a value, passed as it is
	nullArg              // a pointer that is NULL, or that the call does not follow
	ownArg               // the program's own address, of an area in place
)

// fixup is a pointer to be written once the address of the slot is known: at byte at of write w, the address of offset to.
type fixup struct{ w, at, to int }

// builder lays a call out. It runs on both sides; cut says that it may shorten what does not fit, which only the host may.
type builder struct {
	src   source
	limit int
	cut   bool
	pid   int                         // of the process, for paths in /proc; 0 where it is not known
	done  int64                       // bytes moved by earlier pieces
	may   func(a mem.Addr, n int) int // how much may be written there; nil where nobody knows
	iovs  func(a mem.Addr, n int) ([]iovec, int)

	off     int
	args    [6]uint64
	argOff  [6]int // offset of what the argument points to, or valueArg, nullArg, ownArg
	writes  []Write
	fixups  []fixup
	outs    []Out
	inPlace []InPlace

	piece   int64 // bytes asked of a transfer
	more    bool  // the transfer was cut to fit
	touched int   // errno
	class   Class // ComeHome where the call cannot be described
}

type iovec struct {
	base mem.Addr
	n    uint64
}

// comeHome and fail end a description; both are sticky.
func (b *builder) comeHome() bool {
	if b.touched == 0 {
		b.class = ComeHome
	}
	return false
}

func (b *builder) fail(errno int) bool {
	if b.touched == 0 {
		b.touched = errno
	}
	return false
}

// describe walks the arguments of row: structures first, transfers after them, because those take the room that remains.
func (b *builder) describe(row *Row) {
	b.class = Home
	as := row.argsOf(b.args)
	for i, a := range as {
		b.argOff[i] = nullArg
		switch a.Kind {
		case Val, Int, FD:
			b.argOff[i] = valueArg
		}
	}
	for _, elastic := range []bool{false, true} {
		for i, a := range as {
			if a.Kind.elastic() == elastic && !b.argument(row, &as, i, a) {
				return
			}
		}
	}
}

func (k Kind) elastic() bool {
	switch k {
	case DataIn, DataOut, IOVecIn, IOVecOut, MsgIn, MsgOut, MMsgIn, MMsgOut:
		return true
	}
	return false
}

// onlyWritten: the argument is an address at which the kernel writes, and reads nothing.
func (k Kind) onlyWritten() bool { return k == StructOut || k == OutArr || k == DataOut }

func (k Kind) array() bool { return k == InArr || k == OutArr || k == InOutArr }

// argument describes one argument. It returns false when the description ends there.
func (b *builder) argument(row *Row, as *[6]Arg, i int, a Arg) bool {
	at := mem.Addr(b.args[i])
	switch a.Kind {
	case None, Ptr, Val, Int, FD, LenPtr:
		return true
	}
	if at == 0 { // NULL means something, or EFAULT: the kernel knows
		return true
	}
	if at >= userTop && a.Kind != StructIn { // StructIn may be optional, and reading it tells
		if a.Kind.array() && b.number(as, a.Len) == 0 { // the kernel does not look where there is nothing
			_, ok := b.span(i, 0, nil)
			return ok
		}
		if a.Kind == Sigset && b.args[a.Len] != 8 { // the size is looked at first
			return b.fail(einval)
		}
		return b.fail(efault)
	}
	if at == nowhere && (a.Kind.onlyWritten() || a.Kind == DataIn) {
		b.argOff[i] = ownArg
		return true
	}
	switch a.Kind {
	case Path:
		return b.path(row, i, a, at)
	case StructIn, StructOut, StructInOut:
		return b.block(row, i, a, at, int(a.Size))
	case InArr, OutArr, InOutArr:
		n, ok := b.count(as, a)
		if !ok {
			return false
		}
		return b.block(row, i, a, at, n*int(a.Size))
	case SockIn:
		return b.sockIn(i, at, b.args[a.Len])
	case SockOut:
		return b.sockOut(i, a, at)
	case OptIn, OptOut:
		return b.option(i, a, at)
	case FDSet:
		return b.fdSet(i, a, at)
	case SigmaskArg:
		return b.sigmaskArg(i, at)
	case Sigset:
		return b.sigset(i, at, b.args[a.Len])
	case MsgBufIn, MsgBufOut:
		return b.msgbuf(as, i, a, at)
	case CapHeader, CapData, CapDataIn:
		return b.capability(i, a, at)
	case HandleIn, HandleOut:
		return b.handle(i, a, at)
	case SizedIn:
		return b.sized(i, at)
	case MqEvent:
		return b.mqEvent(i, at)
	case XattrIn, XattrOut:
		return b.xattr(i, a, at)
	case IfConf:
		return b.ifConf(i, at)
	case DataIn, DataOut:
		return b.data(as, i, a, at)
	case IOVecIn, IOVecOut:
		return b.vector(i, a, at)
	case MsgIn, MsgOut:
		return b.message(i, a, at)
	case MMsgIn, MMsgOut:
		return b.messages(i, a, at)
	}
	return b.comeHome()
}

// number is the value of argument i as the kernel reads it.
func (b *builder) number(as *[6]Arg, i uint8) uint64 {
	if as[i].Kind == Int {
		return uint64(uint32(b.args[i]))
	}
	return b.args[i]
}

// count returns how many elements an array has, after lowering the argument where the row says so.
func (b *builder) count(as *[6]Arg, a Arg) (int, bool) {
	n := b.number(as, a.Len)
	limit := uint64(a.Max)
	if limit == 0 {
		limit = MaxData / uint64(a.Size)
	}
	if n <= limit {
		return int(n), true
	}
	negative := n >= 1<<63 || as[a.Len].Kind == Int && n >= 1<<31
	switch {
	case a.Cap && !negative:
		b.args[a.Len] = limit
		return int(limit), true
	case a.Cap:
		return 0, b.fail(einval)
	case a.Over != 0:
		return 0, b.fail(a.Over)
	}
	return 0, b.comeHome()
}

// alloc takes n bytes of the slot.
func (b *builder) alloc(n, align int) (int, bool) {
	off := (b.off + align - 1) &^ (align - 1)
	if n < 0 || off > b.limit || n > b.limit-off {
		return 0, false
	}
	b.off = off + n
	if n == 0 {
		off = 0 // nothing is there, but the pointer is valid
	}
	return off, true
}

// overflow is what a structure does that finds no room: a call that big is made at home, and a request that claims it is
// malformed.
func (b *builder) overflow() bool {
	if b.cut {
		return b.comeHome()
	}
	return b.fail(einval)
}

func (b *builder) put(off int, data []byte) int {
	b.writes = append(b.writes, Write{off, data})
	return len(b.writes) - 1
}

// span places n bytes for argument i, with data in them where it is not nil.
func (b *builder) span(i, n int, data []byte) (int, bool) {
	off, ok := b.alloc(n, 8)
	if !ok {
		return 0, b.overflow()
	}
	if len(data) > 0 {
		b.put(off, data)
	}
	if i >= 0 {
		b.argOff[i] = off
	}
	return off, true
}

// read takes n bytes that the kernel will read, and records them.
func (b *builder) read(at mem.Addr, n int) ([]byte, bool) {
	if n == 0 {
		return nil, true
	}
	data, ok := b.src.fixed(at, n)
	if !ok {
		return nil, b.fail(efault)
	}
	b.src.record(-1, at, data)
	return data, true
}

func (b *builder) path(row *Row, i int, a Arg, at mem.Addr) bool {
	text, errno := b.src.text(at, int(a.Max), a.Over, a.Cap)
	if errno != 0 {
		return b.fail(errno)
	}
	if row.TouchesProc && b.cut && ShowsMemory(text[:len(text)-1], b.pid) {
		return b.comeHome()
	}
	b.src.record(-1, at, text)
	_, ok := b.span(i, len(text), text)
	return ok
}

// block places a structure or an array of n bytes.
func (b *builder) block(row *Row, i int, a Arg, at mem.Addr, n int) bool {
	reads := a.Kind == StructIn || a.Kind == StructInOut || a.Kind == InArr || a.Kind == InOutArr
	writes := a.Kind != StructIn && a.Kind != InArr
	if row.Nr == nrClockNanosleep && a.InPlace && b.args[1]&timerAbstime != 0 {
		return true // an absolute sleep does not look at what remains
	}
	var data []byte
	if reads && n > 0 {
		var ok bool
		if data, ok = b.src.fixed(at, n); !ok {
			if a.Opt {
				b.args[i] = 0 // so that home sees NULL too
				return true
			}
			return b.fail(efault)
		}
		b.src.record(-1, at, data)
	}
	if a.InPlace {
		if n == 0 {
			return true
		}
		if at+mem.Addr(n) > userTop || n > MaxData {
			return b.fail(efault)
		}
		b.argOff[i] = ownArg
		b.inPlace = append(b.inPlace, InPlace{Addr: at, Data: data, Out: writes, When: a.When})
		return true
	}
	off, ok := b.span(i, n, data)
	if ok && writes && n > 0 {
		b.outs = append(b.outs, Out{Addr: at, Off: off, Len: n, When: a.When, Min: a.Min, Elem: int(a.Elem), LenOff: off})
		if row.Nr == nrWaitid && a.Kind == StructInOut && i == 2 {
			b.waitidInfo(at, off)
		}
	}
	return ok
}

// waitidInfo replaces the output of the whole siginfo by the fields that waitid writes.
func (b *builder) waitidInfo(at mem.Addr, off int) {
	b.outs = append(b.outs[:len(b.outs)-1],
		Out{Addr: at, Off: off, Len: 12, When: Always}, Out{Addr: at + 16, Off: off + 16, Len: 12, When: Always})
}

func (b *builder) fdSet(i int, a Arg, at mem.Addr) bool {
	n := int64(int32(uint32(b.args[a.Len])))
	if n > maxSelectBits {
		n = maxSelectBits
		b.args[a.Len] = maxSelectBits
	}
	size := 0
	if n > 0 {
		size = int((n+63)/64) * 8
	}
	if size == 0 {
		_, ok := b.span(i, 0, nil)
		return ok
	}
	// A program may name more descriptors than its set holds: the kernel looks only as far as its own table goes.
	got := b.src.upTo(at, size)
	if len(got) == 0 {
		return b.fail(efault)
	}
	b.src.record(-1, at, got)
	data := make([]byte, size)
	copy(data, got)
	off, ok := b.span(i, size, data)
	if ok {
		b.outs = append(b.outs, Out{Addr: at, Off: off, Len: len(got)})
	}
	return ok
}

func (b *builder) sigset(i int, at mem.Addr, size uint64) bool {
	if size != 8 {
		return b.fail(einval)
	}
	data, ok := b.read(at, 8)
	if !ok {
		return false
	}
	_, ok = b.span(i, 8, data)
	return ok
}

// sigmaskArg places the pair of pselect6 and the mask that it points to.
func (b *builder) sigmaskArg(i int, at mem.Addr) bool {
	pair, ok := b.read(at, 16)
	if !ok {
		return false
	}
	pair = append([]byte(nil), pair...)
	p := mem.Addr(binary.LittleEndian.Uint64(pair))
	binary.LittleEndian.PutUint64(pair, 0)
	off, ok := b.alloc(16, 8)
	if !ok {
		return b.overflow()
	}
	w := b.put(off, pair)
	b.argOff[i] = off
	if p == 0 {
		return true
	}
	if binary.LittleEndian.Uint64(pair[8:]) != 8 {
		return b.fail(einval)
	}
	mask, ok := b.read(p, 8)
	if !ok {
		return false
	}
	to, ok := b.span(-1, 8, mask)
	b.fixups = append(b.fixups, fixup{w, 0, to})
	return ok
}

// msgbuf places a System V message: a type and a text.
func (b *builder) msgbuf(as *[6]Arg, i int, a Arg, at mem.Addr) bool {
	n := b.args[a.Len]
	if n > uint64(a.Max) {
		if !a.Cap || n >= 1<<63 {
			return b.fail(einval)
		}
		n = uint64(a.Max)
		b.args[a.Len] = n
	}
	var data []byte
	if a.Kind == MsgBufIn {
		var ok bool
		if data, ok = b.read(at, 8+int(n)); !ok {
			return false
		}
	}
	off, ok := b.span(i, 8+int(n), data)
	if ok && a.Kind == MsgBufOut {
		b.outs = append(b.outs, Out{Addr: at, Off: off, Len: 8})
		if n > 0 {
			b.outs = append(b.outs, Out{Addr: at + 8, Off: off + 8, Len: int(n), When: RetBytes})
		}
	}
	return ok
}

// capability places the header or the data of capget. The data has one element in the first version and two in the others.
func (b *builder) capability(i int, a Arg, at mem.Addr) bool {
	if a.Kind == CapHeader {
		data, ok := b.read(at, 8)
		if !ok {
			return false
		}
		off, ok := b.span(i, 8, data)
		b.outs = append(b.outs, Out{Addr: at, Off: off, Len: 8, When: Always})
		return ok
	}
	n := 24
	if len(b.writes) > 0 && binary.LittleEndian.Uint32(b.writes[0].Data) == 0x19980330 {
		n = 12
	}
	if a.Kind == CapDataIn {
		data, ok := b.read(at, n)
		if !ok {
			return false
		}
		_, ok = b.span(i, n, data)
		return ok
	}
	off, ok := b.span(i, n, nil)
	b.outs = append(b.outs, Out{Addr: at, Off: off, Len: n})
	return ok
}

const nrWaitid = 247
