package homeproxy

import (
	"pgregory.net/rapid"

	"mosix/internal/mem"
)

// structure fills argument i, which is a structure that contains its size or pointers, and returns the largest result of the call.
func (p *program) structure(a Arg, i int, args *[6]uint64) (limit int64, ok bool) {
	t := p.t
	limit = 3
	switch a.Kind {
	case HandleIn, HandleOut:
		n := rapid.IntRange(0, 128).Draw(t, "handle")
		args[i] = uint64(p.room(8 + n))
		p.s.put32(mem.Addr(args[i]), uint32(n))
	case SizedIn:
		n := rapid.IntRange(4, 120).Draw(t, "size")
		args[i] = uint64(p.room(n))
		p.s.put32(mem.Addr(args[i]), uint32(n))
	case MqEvent:
		args[i] = uint64(p.room(64))
		p.s.put64(mem.Addr(args[i]), uint64(p.room(32)))
		p.s.put32(mem.Addr(args[i]+12), uint32(rapid.IntRange(0, 2).Draw(t, "notify")))
	case XattrIn, XattrOut:
		n := rapid.IntRange(0, 60).Draw(t, "value")
		args[i], args[a.Len] = uint64(p.room(16)), 16
		p.s.put64(mem.Addr(args[i]), uint64(p.room(n)))
		p.s.put32(mem.Addr(args[i]+8), uint32(n))
		limit = int64(n)
	case IfConf:
		n := rapid.IntRange(0, 400).Draw(t, "interfaces")
		args[i] = uint64(p.room(16))
		p.s.put32(mem.Addr(args[i]), uint32(n))
		p.s.put64(mem.Addr(args[i]+8), uint64(p.room(n)))
	default:
		return 0, false
	}
	return limit, true
}
