package homeproxy

import (
	"encoding/binary"

	"mosix/internal/mem"
)

// Structures that contain their own size, or pointers.

const maxHandle = 128 // bytes of a file handle, after which the kernel says EINVAL

// handle places a struct file_handle. name_to_handle_at writes the size that it would need also where it fails.
func (b *builder) handle(i int, a Arg, at mem.Addr) bool {
	const head = 8
	first, ok := b.src.fixed(at, head)
	if !ok {
		return b.fail(efault)
	}
	n := head
	size := binary.LittleEndian.Uint32(first)
	if size > maxHandle {
		return b.fail(einval)
	}
	n += int(size)
	if a.Kind == HandleOut {
		b.src.record(-1, at, first)
		off, ok := b.alloc(n, 8)
		if !ok {
			return b.overflow()
		}
		b.put(off, first)
		b.argOff[i] = off
		b.outs = append(b.outs, Out{Addr: at, Off: off, Len: head, When: Always})
		if n > head {
			b.outs = append(b.outs, Out{Addr: at + head, Off: off + head, Len: n - head})
		}
		return true
	}
	b.src.record(-1, at, first)
	data := append([]byte(nil), first...)
	if n > head {
		rest, ok := b.read(at+head, n-head)
		if !ok {
			return false
		}
		data = append(data, rest...)
	}
	_, ok = b.span(i, n, data)
	return ok
}

// sized places a structure whose first word is its size. The kernel takes 0 there for the smallest that it knows, refuses what
// is larger than a page, and may say in the word what it would take.
func (b *builder) sized(i int, at mem.Addr) bool {
	const smallest = 48 // of sched_attr, the one structure for which 0 is allowed
	word, ok := b.read(at, 4)
	if !ok {
		return false
	}
	n := binary.LittleEndian.Uint32(word)
	switch {
	case n == 0:
		n = smallest
	case n > mem.PageSize:
		return b.fail(e2big)
	}
	data := append([]byte(nil), word...)
	if n > 4 {
		rest, ok := b.read(at+4, int(n)-4)
		if !ok {
			return false
		}
		data = append(data, rest...)
	}
	off, ok := b.span(i, max(int(n), 4), data)
	b.outs = append(b.outs, Out{Addr: at, Off: off, Len: 4, When: Always})
	return ok
}

// mqEvent places the sigevent of mq_notify: with SIGEV_THREAD its value points to a cookie, which the kernel sends to a socket.
func (b *builder) mqEvent(i int, at mem.Addr) bool {
	const notify, thread, cookie = 12, 2, 32
	ev, ok := b.read(at, sizeSigevent)
	if !ok {
		return false
	}
	ev = append([]byte(nil), ev...)
	p := mem.Addr(binary.LittleEndian.Uint64(ev))
	follows := binary.LittleEndian.Uint32(ev[notify:]) == thread && p != 0
	if follows {
		binary.LittleEndian.PutUint64(ev, 0)
	}
	off, ok := b.alloc(sizeSigevent, 8)
	if !ok {
		return b.overflow()
	}
	b.argOff[i] = off
	w := b.put(off, ev)
	if !follows {
		return true
	}
	data, ok := b.read(p, cookie)
	if !ok {
		return false
	}
	to, ok := b.span(-1, cookie, data)
	b.fixups = append(b.fixups, fixup{w, 0, to})
	return ok
}

// xattr places the xattr_args of setxattrat and getxattrat.
func (b *builder) xattr(i int, a Arg, at mem.Addr) bool {
	const size = 16
	switch n := b.args[a.Len]; {
	case n < size:
		return b.fail(einval)
	case n > size: // newer than this program
		return b.overflow()
	}
	args, ok := b.read(at, size)
	if !ok {
		return false
	}
	args = append([]byte(nil), args...)
	p, n := mem.Addr(binary.LittleEndian.Uint64(args)), binary.LittleEndian.Uint32(args[8:])
	if n > maxXattr {
		if a.Kind == XattrIn {
			return b.fail(e2big)
		}
		n = maxXattr
		binary.LittleEndian.PutUint32(args[8:], n)
	}
	binary.LittleEndian.PutUint64(args, 0)
	off, ok := b.alloc(size, 8)
	if !ok {
		return b.overflow()
	}
	b.argOff[i] = off
	w := b.put(off, args)
	if p == 0 {
		return true
	}
	var data []byte
	if a.Kind == XattrIn {
		if data, ok = b.read(p, int(n)); !ok {
			return false
		}
	}
	to, ok := b.span(-1, int(n), data)
	b.fixups = append(b.fixups, fixup{w, 0, to})
	if ok && a.Kind == XattrOut && n > 0 {
		b.outs = append(b.outs, Out{Addr: p, Off: to, Len: int(n), When: RetBytes})
	}
	return ok
}

// ifConf places the struct ifconf of SIOCGIFCONF.
func (b *builder) ifConf(i int, at mem.Addr) bool {
	const size, most = 16, 64 << 10
	conf, ok := b.read(at, size)
	if !ok {
		return false
	}
	conf = append([]byte(nil), conf...)
	p, n := mem.Addr(binary.LittleEndian.Uint64(conf[8:])), int32(binary.LittleEndian.Uint32(conf))
	if n < 0 {
		return b.fail(einval)
	}
	n = min(n, most)
	binary.LittleEndian.PutUint32(conf, uint32(n))
	binary.LittleEndian.PutUint64(conf[8:], 0)
	off, ok := b.alloc(size, 8)
	if !ok {
		return b.overflow()
	}
	b.argOff[i] = off
	w := b.put(off, conf)
	b.outs = append(b.outs, Out{Addr: at, Off: off, Len: 4})
	if p == 0 { // how large it would have to be
		return true
	}
	to, ok := b.span(-1, int(n), nil)
	b.fixups = append(b.fixups, fixup{w, 8, to})
	if ok && n > 0 {
		b.outs = append(b.outs, Out{Addr: p, Off: to, Len: int(n), When: LenBytes, LenOff: off})
	}
	return ok
}
