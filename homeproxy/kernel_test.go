package homeproxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"mosix/internal/mem"
)

// space is a sparse address space of whole areas, for tests: the guest's memory, and the shadow's.
type space struct{ areas []*area }

type area struct {
	at mem.Addr
	b  []byte
	ro bool
}

var errNoMemory = errors.New("not accessible")

func (s *space) add(at mem.Addr, n int) *area {
	a := &area{at: at, b: make([]byte, n)}
	s.areas = append(s.areas, a)
	return a
}

// from returns the accessible bytes from a on, n at most, of one area.
func (s *space) from(a mem.Addr, n int, write bool) []byte {
	for _, x := range s.areas {
		if a >= x.at && a < x.at+mem.Addr(len(x.b)) && !(write && x.ro) {
			rest := x.b[a-x.at:]
			return rest[:min(n, len(rest))]
		}
	}
	return nil
}

func (s *space) ReadMemory(a mem.Addr, b []byte) (int, error) {
	got := s.from(a, len(b), false)
	if len(got) == 0 && len(b) > 0 {
		return 0, errNoMemory
	}
	return copy(b, got), nil
}

func (s *space) WriteMemory(a mem.Addr, b []byte) (int, error) {
	to := s.from(a, len(b), true)
	if len(to) == 0 && len(b) > 0 {
		return 0, errNoMemory
	}
	return copy(to, b), nil
}

func (s *space) clone() *space {
	c := &space{}
	for _, a := range s.areas {
		c.areas = append(c.areas, &area{a.at, append([]byte(nil), a.b...), a.ro})
	}
	return c
}

func (s *space) equal(o *space) error {
	for i, a := range s.areas {
		if !bytes.Equal(a.b, o.areas[i].b) {
			for j := range a.b {
				if a.b[j] != o.areas[i].b[j] {
					return fmt.Errorf("byte %#x is %#x, want %#x", uint64(a.at)+uint64(j), o.areas[i].b[j], a.b[j])
				}
			}
		}
	}
	return nil
}

func (s *space) u64(a mem.Addr) uint64 {
	var b [8]byte
	s.ReadMemory(a, b[:])
	return binary.LittleEndian.Uint64(b[:])
}

func (s *space) put64(a mem.Addr, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	s.WriteMemory(a, b[:])
}

func (s *space) u32(a mem.Addr) uint32 {
	var b [4]byte
	s.ReadMemory(a, b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (s *space) put32(a mem.Addr, v uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	s.WriteMemory(a, b[:])
}

// kernel is a model of a kernel that follows pointers: it reads everything that a call reads into a digest and writes a
// pattern to everything that it writes. It knows nothing of slots, so that run over the program's memory it tells what a
// native call would have done, and run over the shadow's it must do the same.
type kernel struct {
	s     *space
	ret   int64
	seen  bytes.Buffer
	fault bool
	fill  byte
}

func (k *kernel) read(a mem.Addr, n int) []byte {
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	if got, _ := k.s.ReadMemory(a, b); got < n {
		k.fault = true
	}
	return b
}

func (k *kernel) look(a mem.Addr, n int) { k.seen.Write(k.read(a, n)) }

func (k *kernel) write(a mem.Addr, n int) {
	if n <= 0 {
		return
	}
	b := make([]byte, n)
	for i := range b {
		k.fill += 7
		b[i] = k.fill
	}
	if got, _ := k.s.WriteMemory(a, b); got < n {
		k.fault = true
	}
}

// greedy is a result with which the model writes as much as a kernel ever may.
const greedy = 1 << 40

// lists reads the iovecs at a.
func (k *kernel) lists(a mem.Addr, n int) (out []Blob, total int) {
	for i := 0; i < n; i++ {
		base, size := mem.Addr(k.s.u64(a+mem.Addr(16*i))), int(k.s.u64(a+mem.Addr(16*i+8)))
		out = append(out, Blob{base, make([]byte, size)})
		total += size
	}
	return out, total
}

func (k *kernel) scatter(list []Blob, n int) {
	for _, v := range list {
		m := min(n, len(v.Data))
		k.write(v.Addr, m)
		n -= m
	}
}

func (k *kernel) header(a mem.Addr, reads bool, data int) {
	name, namelen := mem.Addr(k.s.u64(a)), int(k.s.u32(a+8))
	control, controllen := mem.Addr(k.s.u64(a+32)), int(k.s.u64(a+40))
	list, _ := k.lists(mem.Addr(k.s.u64(a+16)), int(k.s.u64(a+24)))
	if reads {
		if name != 0 {
			k.look(name, min(namelen, 128))
		}
		if control != 0 {
			k.look(control, controllen)
		}
		for _, v := range list {
			k.seen.Write(k.read(v.Addr, len(v.Data)))
		}
		return
	}
	if k.ret < 0 {
		return
	}
	if name != 0 {
		size := 16
		if k.ret == greedy {
			size = maxSockaddr
		}
		k.write(name, min(size, namelen))
		k.s.put32(a+8, uint32(size))
	}
	if control != 0 {
		if k.ret != greedy {
			controllen /= 2
		}
		k.write(control, controllen)
		k.s.put64(a+40, uint64(controllen))
	}
	k.s.put32(a+48, 0x5a)
	k.scatter(list, data)
}

// call makes the call of row with args and returns what the register gets.
func (k *kernel) call(row *Row, args [6]uint64) int64 {
	as := row.argsOf(args)
	num := func(i uint8) int {
		if as[i].Kind == Int {
			return int(uint32(args[i]))
		}
		return int(args[i])
	}
	for i, a := range as {
		at := mem.Addr(args[i])
		switch a.Kind {
		case Val, Int, FD:
			if i != int(transferLen(row)) {
				fmt.Fprintf(&k.seen, "%d=%#x|", i, args[i])
			}
			continue
		}
		if at == 0 || row.Nr == nrClockNanosleep && i == 3 && args[1]&timerAbstime != 0 {
			continue
		}
		switch a.Kind {
		case Path:
			for limit := int(a.Max); limit > 0; limit-- {
				b := k.read(at, 1)
				k.seen.Write(b)
				if b[0] == 0 || k.fault {
					break
				}
				at++
			}
		case StructIn:
			k.look(at, int(a.Size))
		case StructOut, StructInOut:
			if a.Kind == StructInOut {
				k.look(at, int(a.Size))
			}
			k.output(row, i, a, at, int(a.Size))
		case InArr:
			k.look(at, num(a.Len)*int(a.Size))
		case OutArr, InOutArr:
			n := num(a.Len) * int(a.Size)
			if a.Kind == InOutArr {
				k.look(at, n)
			}
			k.output(row, i, a, at, n)
		case DataIn:
			k.seen.Write(k.read(at, num(a.Len)))
		case DataOut:
			k.write(at, int(min(k.ret, int64(num(a.Len)))))
		case IOVecIn:
			list, _ := k.lists(at, num(a.Len))
			for _, v := range list {
				k.seen.Write(k.read(v.Addr, len(v.Data)))
			}
		case IOVecOut:
			list, _ := k.lists(at, num(a.Len))
			k.scatter(list, int(k.ret))
		case MsgIn, MsgOut:
			k.header(at, a.Kind == MsgIn, int(k.ret))
		case MMsgIn, MMsgOut:
			for m := 0; m < num(a.Len); m++ {
				el := at + mem.Addr(64*m)
				if a.Kind == MMsgOut && int64(m) >= k.ret {
					break
				}
				list, total := k.lists(mem.Addr(k.s.u64(el+16)), int(k.s.u64(el+24)))
				_ = list
				k.header(el, a.Kind == MMsgIn, total/2)
				if int64(m) < k.ret {
					k.s.put32(el+56, uint32(total/2))
				}
			}
		case SockIn:
			if n := num(a.Len); n <= maxSockaddr {
				k.look(at, n)
			}
		case SockOut, OptOut:
			p := mem.Addr(args[a.Len])
			n := int(k.s.u32(p))
			k.seen.WriteString(fmt.Sprint(n))
			if k.ret >= 0 {
				size := 12
				if k.ret == greedy {
					if size = maxSockaddr; a.Kind == OptOut {
						size = n
					}
				}
				k.write(at, min(n, size))
				k.s.put32(p, uint32(size))
			}
		case OptIn:
			k.look(at, num(a.Len))
		case FDSet:
			n := (int(int32(uint32(args[a.Len]))) + 63) / 64 * 8
			if n <= 0 {
				continue
			}
			k.look(at, n)
			if k.ret >= 0 {
				k.write(at, n)
			}
		case SigmaskArg:
			if p := mem.Addr(k.s.u64(at)); p != 0 {
				k.look(p, 8)
			}
		case Sigset:
			k.look(at, 8)
		case MsgBufIn:
			k.look(at, 8+num(a.Len))
		case MsgBufOut:
			if k.ret >= 0 {
				k.write(at, 8+int(min(k.ret, int64(num(a.Len)))))
			}
		case CapHeader:
			k.look(at, 8)
		case CapData:
			if k.ret >= 0 {
				n := 24
				if k.s.u32(mem.Addr(args[0])) == 0x19980330 {
					n = 12
				}
				k.write(at, n)
			}
		case CapDataIn:
			n := 24
			if k.s.u32(mem.Addr(args[0])) == 0x19980330 {
				n = 12
			}
			k.look(at, n)
		case HandleIn:
			k.look(at, 8+int(k.s.u32(at)))
		case HandleOut:
			n := int(k.s.u32(at))
			k.look(at, 4)
			k.write(at, 8)
			k.s.put32(at, uint32(n))
			if k.ret >= 0 {
				k.write(at+8, n)
			}
		case SizedIn:
			k.look(at, int(k.s.u32(at)))
			k.write(at, 4)
		case MqEvent:
			k.look(at+8, 56)
			if p := mem.Addr(k.s.u64(at)); k.s.u32(at+12) == 2 && p != 0 {
				k.look(p, 32)
			} else {
				k.look(at, 8)
			}
		case XattrIn, XattrOut:
			p, n := mem.Addr(k.s.u64(at)), int(k.s.u32(at+8))
			k.look(at+8, 8)
			if p != 0 && a.Kind == XattrIn {
				k.look(p, n)
			} else if p != 0 {
				k.write(p, int(min(k.ret, int64(n))))
			}
		case IfConf:
			n, p := int(k.s.u32(at)), mem.Addr(k.s.u64(at+8))
			fmt.Fprintf(&k.seen, "%d|", n)
			if k.ret >= 0 {
				if p != 0 {
					n /= 2
					k.write(p, n)
				}
				k.s.put32(at, uint32(n))
			}
		}
	}
	return k.ret
}

func (k *kernel) output(row *Row, i int, a Arg, at mem.Addr, n int) {
	switch {
	case row.Nr == nrWaitid && i == 2:
		k.write(at, 12)
		k.write(at+16, 12)
		return
	case a.When == Always:
	case a.When == OnInterrupt && (k.ret == -eintr || k.ret <= -512 && k.ret >= -516):
	case k.ret < 0 || k.ret < a.Min:
		return
	}
	switch a.When {
	case RetBytes:
		n = min(n, int(k.ret))
	case RetElems:
		n = min(n, int(k.ret)*int(a.Elem))
	}
	k.write(at, n)
}

// transferLen is the argument with the length of a transfer, which the host lowers; 255 for none.
func transferLen(row *Row) uint8 {
	for _, a := range row.Args {
		if a.Kind.elastic() || a.Cap || a.Kind == FDSet {
			return a.Len
		}
	}
	return 255
}
