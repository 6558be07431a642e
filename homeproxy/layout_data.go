package homeproxy

import (
	"encoding/binary"

	"mosix/internal/mem"
)

// dataAlign is the alignment that a buffer gets in the slot: that of a sector where the program's has it, because direct
// input and output ask for it.
func dataAlign(at mem.Addr) int {
	if at%512 == 0 {
		return 512
	}
	return 8
}

// room is what remains for a buffer of that alignment.
func (b *builder) room(align int) int { return b.limit - (b.off+align-1)&^(align-1) }

// data places the buffer of a transfer.
func (b *builder) data(as *[6]Arg, i int, a Arg, at mem.Addr) bool {
	n := b.number(as, a.Len)
	if n >= 1<<63 && b.cut { // no buffer is so long, and that is looked at first
		b.args[i], b.argOff[i] = nowhere, ownArg
		return true
	}
	if n >= 1<<63 {
		return b.fail(einval)
	}
	align := dataAlign(at)
	if room := uint64(max(b.room(align), 0)); n > room {
		if !b.cut || room == 0 {
			return b.overflow()
		}
		n, b.more = room, true
	}
	if uint64(at)+n > userTop {
		if uint64(at) >= userTop {
			return b.fail(efault)
		}
		n, b.more = userTop-uint64(at), false
	}
	var data []byte
	if a.Kind == DataIn && n > 0 {
		data = b.src.upTo(at, int(n))
		if len(data) == 0 && b.cut && b.done == 0 { // home finds out, or that the call fails for something else before
			b.args[i], b.argOff[i], b.more = nowhere, ownArg, false
			return true
		}
		if len(data) == 0 {
			return b.fail(efault)
		}
		if uint64(len(data)) < n { // what lies behind is not accessible: the kernel would stop there too
			n, b.more = uint64(len(data)), false
		}
		b.src.record(-1, at, data)
	}
	b.args[a.Len] = n
	b.piece = int64(n)
	off, ok := b.alloc(int(n), align)
	if !ok {
		return b.overflow()
	}
	b.argOff[i] = off
	if len(data) > 0 {
		b.put(off, data)
	}
	if a.Kind == DataOut && n > 0 {
		b.outs = append(b.outs, Out{Addr: at, Off: off, Len: int(n), When: RetBytes})
	}
	return true
}

// list places the array of iovecs at at and the buffers that it names, as many as fit. It returns the offset of the array
// and the number of its elements. Outputs are declared by out.
func (b *builder) list(at mem.Addr, count int, reads bool, out func(a mem.Addr, off, n, skip int)) (off, n int, ok bool) {
	if count == 0 {
		off, ok = b.alloc(0, 8)
		return off, 0, ok
	}
	iov, errno := b.iovs(at, count)
	if errno != 0 {
		return 0, 0, b.fail(errno)
	}
	if len(iov) == 0 {
		off, ok = b.alloc(0, 8)
		return off, 0, ok
	}
	place := b.src.reserve()
	off, ok = b.alloc(len(iov)*sizeIOVec, 8)
	if !ok {
		return 0, 0, b.overflow()
	}
	table := make([]byte, len(iov)*sizeIOVec)
	home := make([]byte, len(iov)*sizeIOVec)
	w := b.put(off, home)
	skip := 0
	for _, v := range iov {
		if v.n >= 1<<63 {
			return 0, 0, b.fail(einval)
		}
		align := dataAlign(v.base)
		if room := uint64(max(b.room(align), 0)); v.n > room {
			if !b.cut {
				return 0, 0, b.fail(einval)
			}
			b.more = true
			if v.n = room; v.n == 0 {
				break
			}
		}
		if v.n > 0 && (uint64(v.base) >= userTop || uint64(v.base)+v.n > userTop) {
			if n == 0 {
				return 0, 0, b.fail(efault)
			}
			b.more = false
			break
		}
		var data []byte
		short := false
		if !reads && v.n > 0 && b.may != nil {
			if may := uint64(b.may(v.base, int(v.n))); may < v.n {
				b.more, short = false, true
				if v.n = may; may == 0 {
					if n == 0 {
						return 0, 0, b.fail(efault)
					}
					break
				}
			}
		}
		if reads && v.n > 0 {
			data = b.src.upTo(v.base, int(v.n))
			if short = uint64(len(data)) < v.n; short {
				b.more = false
				if len(data) == 0 {
					if skip == 0 {
						return 0, 0, b.fail(efault)
					}
					break
				}
				v.n = uint64(len(data))
			}
			b.src.record(-1, v.base, data)
		}
		to, ok := b.alloc(int(v.n), align)
		if !ok {
			return 0, 0, b.overflow()
		}
		binary.LittleEndian.PutUint64(table[n*sizeIOVec:], uint64(v.base))
		binary.LittleEndian.PutUint64(table[n*sizeIOVec+8:], v.n)
		binary.LittleEndian.PutUint64(home[n*sizeIOVec+8:], v.n)
		b.fixups = append(b.fixups, fixup{w, n * sizeIOVec, to})
		if len(data) > 0 {
			b.put(to, data)
		}
		if !reads && v.n > 0 {
			out(v.base, to, int(v.n), skip)
		}
		skip += int(v.n)
		n++
		if short || b.more {
			break
		}
	}
	if n == 0 {
		return 0, 0, b.overflow()
	}
	b.writes[w].Data = home[:n*sizeIOVec]
	b.src.record(place, at, table[:n*sizeIOVec])
	b.piece = int64(skip)
	return off, n, true
}

// vector places the iovecs of readv and writev.
func (b *builder) vector(i int, a Arg, at mem.Addr) bool {
	count := b.args[a.Len]
	if count > maxIOVecs {
		return b.fail(einval)
	}
	off, n, ok := b.list(at, int(count), a.Kind == IOVecIn, func(addr mem.Addr, off, n, skip int) {
		b.outs = append(b.outs, Out{Addr: addr, Off: off, Len: n, When: RetBytes, Skip: skip})
	})
	if !ok {
		return false
	}
	b.argOff[i] = off
	b.args[a.Len] = uint64(n)
	return true
}

// Offsets in struct msghdr and struct mmsghdr.
const (
	msgName       = 0
	msgNamelen    = 8
	msgIov        = 16
	msgIovlen     = 24
	msgControl    = 32
	msgControllen = 40
	msgFlags      = 48
	mmsgLen       = 56

	maxControl = 128 << 10
)

// message places the msghdr of sendmsg and recvmsg.
func (b *builder) message(i int, a Arg, at mem.Addr) bool {
	hdr, ok := b.src.fixed(at, sizeMsghdr)
	if !ok {
		return b.fail(efault)
	}
	hdr = append([]byte(nil), hdr...)
	place := b.src.reserve()
	off, ok := b.alloc(sizeMsghdr, 8)
	if !ok {
		return b.overflow()
	}
	b.argOff[i] = off
	if !b.header(hdr, at, off, a.Kind == MsgIn, 0, -1) {
		return false
	}
	b.src.record(place, at, hdr)
	return true
}

// header places what the msghdr hdr, which lies at at in the guest and at off in the slot, points to. It lowers the lengths
// in hdr to what fits. least and lenOff are for the arrays of recvmmsg: the result that says that this message was used, and
// where its length will stand; lenOff is -1 where the result itself is the length.
func (b *builder) header(hdr []byte, at mem.Addr, off int, reads bool, least int64, lenOff int) bool {
	le := binary.LittleEndian
	name, iov, control := mem.Addr(le.Uint64(hdr[msgName:])), mem.Addr(le.Uint64(hdr[msgIov:])), mem.Addr(le.Uint64(hdr[msgControl:]))
	namelen, controllen := int32(le.Uint32(hdr[msgNamelen:])), le.Uint64(hdr[msgControllen:])
	if namelen < 0 || controllen > 1<<31-1 || le.Uint64(hdr[msgIovlen:]) > maxIOVecs {
		switch {
		case namelen < 0:
			return b.fail(einval)
		case controllen > 1<<31-1:
			return b.fail(enobufs)
		}
		return b.fail(emsgsize)
	}
	if b.done > 0 && reads { // control messages went with the first piece
		control, controllen = 0, 0
	}
	if controllen > maxControl {
		if reads {
			return b.overflow()
		}
		controllen = maxControl
	}
	if control == 0 && controllen > 0 && !reads {
		controllen = 0
	}
	le.PutUint64(hdr[msgControl:], uint64(control))
	le.PutUint64(hdr[msgControllen:], controllen)

	mine := append([]byte(nil), hdr...)
	for _, p := range []int{msgName, msgIov, msgControl} {
		le.PutUint64(mine[p:], 0)
	}
	w := b.put(off, mine)
	if !reads {
		for _, f := range [][2]int{{msgNamelen, 4}, {msgControllen, 8}, {msgFlags, 4}} {
			b.outs = append(b.outs, Out{Addr: at + mem.Addr(f[0]), Off: off + f[0], Len: f[1], Min: least})
		}
	}
	area := func(at mem.Addr, n, field, lengthAt int) bool {
		var data []byte
		if reads {
			var ok bool
			if data, ok = b.read(at, n); !ok {
				return false
			}
		}
		to, ok := b.span(-1, n, data)
		if !ok {
			return false
		}
		b.fixups = append(b.fixups, fixup{w, field, to})
		if !reads && n > 0 {
			b.outs = append(b.outs, Out{Addr: at, Off: to, Len: n, When: LenBytes, LenOff: off + lengthAt, Min: least})
		}
		return true
	}
	if name != 0 && !area(name, int(min(namelen, maxSockaddr)), msgName, msgNamelen) {
		return false
	}
	if control != 0 && !area(control, int(controllen), msgControl, msgControllen) {
		return false
	}
	to, n, ok := b.list(iov, int(le.Uint64(hdr[msgIovlen:])), reads, func(a mem.Addr, o, n, skip int) {
		out := Out{Addr: a, Off: o, Len: n, When: RetBytes, Skip: skip, Min: least}
		if lenOff >= 0 {
			out.When, out.LenOff = LenBytes, lenOff
		}
		b.outs = append(b.outs, out)
	})
	if !ok {
		return false
	}
	b.fixups = append(b.fixups, fixup{w, msgIov, to})
	le.PutUint64(hdr[msgIovlen:], uint64(n))
	le.PutUint64(b.writes[w].Data[msgIovlen:], uint64(n))
	return true
}

// messages places the array of sendmmsg and recvmmsg: as many messages as fit, at least one, which is cut if it must be.
func (b *builder) messages(i int, a Arg, at mem.Addr) bool {
	count := int(min(uint32(b.args[a.Len]), maxIOVecs))
	if count == 0 {
		_, ok := b.span(i, 0, nil)
		return ok
	}
	all, ok := b.src.fixed(at, count*sizeMMsghdr)
	if !ok {
		return b.fail(efault)
	}
	all = append([]byte(nil), all...)
	place := b.src.reserve()
	off, ok := b.alloc(count*sizeMMsghdr, 8)
	if !ok {
		return b.overflow()
	}
	b.argOff[i] = off
	reads := a.Kind == MMsgIn
	k := 0
	for ; k < count; k++ {
		before, mark := *b, b.src.mark()
		el := all[k*sizeMMsghdr:]
		elAt, elOff := at+mem.Addr(k*sizeMMsghdr), off+k*sizeMMsghdr
		ok := b.header(el[:sizeMsghdr], elAt, elOff, reads, int64(k+1), elOff+mmsgLen)
		if (!ok || b.more) && k > 0 && b.cut { // this one waits for the next call, which finds out what is wrong with it
			*b = before
			b.src.rewind(mark)
			break
		}
		if !ok {
			return false
		}
		b.put(elOff+mmsgLen, append([]byte(nil), el[mmsgLen:sizeMMsghdr]...))
		b.outs = append(b.outs, Out{Addr: elAt + mmsgLen, Off: elOff + mmsgLen, Len: 4, Min: int64(k + 1)})
	}
	b.more, b.piece = false, 0
	b.args[a.Len] = uint64(k)
	b.src.record(place, at, all[:k*sizeMMsghdr])
	return true
}

// sockIn places a socket address. One that is too long is not read: the kernel refuses it by its length.
func (b *builder) sockIn(i int, at mem.Addr, length uint64) bool {
	n := int32(uint32(length))
	if n < 0 || n > maxSockaddr {
		_, ok := b.span(i, 0, nil)
		return ok
	}
	data, ok := b.read(at, int(n))
	if !ok {
		return false
	}
	_, ok = b.span(i, int(n), data)
	return ok
}

// lengthCell places the integer that says how long a buffer is and how much of it was used.
func (b *builder) lengthCell(arg uint8, when When, limit int32) (n int32, off int, ok bool) {
	p := mem.Addr(b.args[arg])
	if p == 0 {
		return 0, 0, true // EFAULT by the kernel, in its own order
	}
	data, ok := b.read(p, 4)
	if !ok {
		return 0, 0, false
	}
	if n = int32(binary.LittleEndian.Uint32(data)); n < 0 {
		return 0, 0, b.fail(einval)
	}
	if n > limit {
		n = limit
	}
	cell := make([]byte, 4)
	binary.LittleEndian.PutUint32(cell, uint32(n))
	off, ok = b.span(int(arg), 4, cell)
	b.outs = append(b.outs, Out{Addr: p, Off: off, Len: 4, When: when})
	return n, off, ok
}

func (b *builder) sockOut(i int, a Arg, at mem.Addr) bool {
	n, cell, ok := b.lengthCell(a.Len, OnSuccess, maxSockaddr)
	if !ok {
		return false
	}
	off, ok := b.span(i, int(n), nil)
	if ok && n > 0 {
		b.outs = append(b.outs, Out{Addr: at, Off: off, Len: int(n), When: LenBytes, LenOff: cell})
	}
	return ok
}

func (b *builder) option(i int, a Arg, at mem.Addr) bool {
	level, opt := uint32(b.args[1]), uint32(b.args[2])
	if !plainOption(level, opt, a.Kind == OptOut) {
		return b.overflow()
	}
	if a.Kind == OptOut {
		n, cell, ok := b.lengthCell(a.Len, Always, maxSockopt)
		if !ok {
			return false
		}
		off, ok := b.span(i, int(n), nil)
		if ok && n > 0 {
			b.outs = append(b.outs, Out{Addr: at, Off: off, Len: int(n), When: LenBytes, LenOff: cell})
		}
		return ok
	}
	n := int32(uint32(b.args[a.Len]))
	if n < 0 {
		return b.fail(einval)
	}
	if n > maxSockopt {
		return b.overflow()
	}
	data, ok := b.read(at, int(n))
	if !ok {
		return false
	}
	_, ok = b.span(i, int(n), data)
	return ok
}

// plainOption reports whether a socket option is a plain value: without pointers, and only written where it is asked for.
func plainOption(level, opt uint32, get bool) bool {
	switch level {
	case 1: // SOL_SOCKET: SO_ATTACH_FILTER (SO_GET_FILTER) and SO_ATTACH_REUSEPORT_CBPF hold pointers
		return opt != 26 && opt != 51
	case 0: // IPPROTO_IP: from 64 on come the tables of netfilter; the source filters are read where they are asked for
		return opt < 64 && !(get && (opt == 41 || opt == 48))
	case 41: // IPPROTO_IPV6
		return opt != 64 && opt != 65 && opt != 68 && opt != 69 && opt < 128 && !(get && opt == 48)
	case 6: // IPPROTO_TCP: TCP_ZEROCOPY_RECEIVE and the keys of TCP-AO
		return opt != 35 && (opt < 38 || opt > 41) && !(get && opt == 36)
	case 17, 58, 136, 255, 270, 279: // UDP, ICMPv6, UDP-Lite, raw, netlink, crypto
		return true
	}
	return false
}
