package homeproxy

import (
	"encoding/binary"

	"mosix/internal/mem"
)

// Lay puts a request into a slot whose data area of size bytes lies at base in the shadow. The request is taken for hostile:
// every pointer in the registers and in the structures of the Plan is NULL, inside the slot, the address of an InPlace area, or
// nowhere; every length was checked against what the pointer has behind it. errno is not 0 for a request that no honest host
// sends, and for a class of call that the shadow does not make; nothing is executed then.
//
// InPlace areas lie anywhere in the program's half of the address space, outside the slot: the executor must still keep them
// away from the rest of its own region.
func Lay(req Request, base mem.Addr, size int) (Plan, int) {
	row := Lookup(req.Nr)
	if c := row.Classify(req.Args); c != Home && c != Both || row.ByHand {
		return Plan{}, enosys
	}
	src := &requestMemory{blobs: req.In}
	b := &builder{src: src, limit: size, args: req.Args, iovs: src.iovecs}
	b.describe(row)
	switch {
	case b.touched != 0:
		return Plan{}, b.touched
	case b.class == ComeHome || src.next != len(src.blobs):
		return Plan{}, einval
	}
	for _, p := range b.inPlace {
		area := mem.Range{Start: p.Addr, End: p.Addr + mem.Addr(len(p.Data))}
		if area.Overlaps(mem.Range{Start: base.Page(), End: (base + mem.Addr(size)).PageUp()}) {
			return Plan{}, efault
		}
	}
	for _, f := range b.fixups {
		binary.LittleEndian.PutUint64(b.writes[f.w].Data[f.at:], uint64(base)+uint64(f.to))
	}
	plan := Plan{Nr: req.Nr, Writes: b.writes, Outs: b.outs, InPlace: b.inPlace}
	for i, off := range b.argOff {
		switch {
		case off >= 0:
			plan.Args[i] = uint64(base) + uint64(off)
		case off == valueArg || off == ownArg:
			plan.Args[i] = b.args[i]
		}
	}
	return plan, 0
}

// Resume is the plan of restart_syscall after p ended with -516: the areas in place stand where the kernel's restart block
// knows them, nothing is written, and the same outputs are collected.
func (p Plan) Resume() Plan {
	r := Plan{Nr: nrRestart, Outs: p.Outs}
	for _, a := range p.InPlace {
		if a.Out {
			r.InPlace = append(r.InPlace, a)
		}
	}
	return r
}

// InPlacePages are the addresses of the pages in which the areas lie that stand at their own place.
func (p Plan) InPlacePages() (out []mem.Addr) {
	for _, ip := range p.InPlace {
		for a := ip.Addr.Page(); a < ip.Addr+mem.Addr(len(ip.Data)); a += mem.PageSize {
			out = append(out, a)
		}
	}
	return out
}

// Collect takes out what the call, which returned ret, has written: read gives n bytes at an offset of the slot, inPlace n
// bytes at an address of the shadow. What they cannot give is left out.
func (p Plan) Collect(ret int64, read func(off, n int) []byte, inPlace func(a mem.Addr, n int) []byte) []Blob {
	var out []Blob
	for _, o := range p.Outs {
		n := o.length(ret, read)
		if n == 0 {
			continue
		}
		if data := read(o.Off, n); len(data) == n {
			out = append(out, Blob{o.Addr, append([]byte(nil), data...)})
		}
	}
	for _, a := range p.InPlace {
		if !a.Out || !holds(a.When, ret) {
			continue
		}
		if data := inPlace(a.Addr, len(a.Data)); len(data) == len(a.Data) {
			out = append(out, Blob{a.Addr, append([]byte(nil), data...)})
		}
	}
	return out
}

// length is how many bytes of o the call has written.
func (o Out) length(ret int64, read func(off, n int) []byte) int {
	if !holds(o.When, ret) || ret >= 0 && ret < o.Min {
		return 0
	}
	n := int64(o.Len)
	switch o.When {
	case RetBytes:
		n = ret - int64(o.Skip)
	case RetElems:
		n = min(ret, int64(o.Len)) * int64(o.Elem)
	case LenBytes:
		cell := read(o.LenOff, 4)
		if len(cell) < 4 {
			return 0
		}
		n = int64(binary.LittleEndian.Uint32(cell)) - int64(o.Skip)
	}
	return int(max(0, min(n, int64(o.Len))))
}

// holds reports whether ret is one of the results for which w carries something back.
func holds(w When, ret int64) bool {
	switch w {
	case Always:
		return true
	case OnInterrupt:
		return ret >= 0 || ret == -eintr || ret <= -512 && ret >= -516
	}
	return ret >= 0
}

// requestMemory is home's source: the blobs of the request, in their order.
type requestMemory struct {
	blobs []Blob
	next  int
}

func (r *requestMemory) take(a mem.Addr, n int) []byte {
	if r.next >= len(r.blobs) || r.blobs[r.next].Addr != a || len(r.blobs[r.next].Data) > n {
		return nil
	}
	r.next++
	return r.blobs[r.next-1].Data
}

func (r *requestMemory) fixed(a mem.Addr, n int) ([]byte, bool) {
	data := r.take(a, n)
	return data, len(data) == n
}

func (r *requestMemory) upTo(a mem.Addr, n int) []byte { return r.take(a, n) }

func (r *requestMemory) text(a mem.Addr, limit, over int, cut bool) ([]byte, int) {
	data := r.take(a, limit)
	if len(data) == 0 {
		return nil, einval
	}
	for i, c := range data {
		if (c == 0) != (i == len(data)-1) {
			return nil, einval
		}
	}
	return data, 0
}

func (r *requestMemory) reserve() int                 { return 0 }
func (r *requestMemory) record(int, mem.Addr, []byte) {}
func (r *requestMemory) mark() int                    { return r.next }
func (r *requestMemory) rewind(n int)                 { r.next = n }

func (r *requestMemory) iovecs(a mem.Addr, n int) ([]iovec, int) {
	raw, ok := r.fixed(a, n*sizeIOVec)
	if !ok {
		return nil, einval
	}
	iov := make([]iovec, n)
	for i := range iov {
		iov[i] = iovec{mem.Addr(binary.LittleEndian.Uint64(raw[i*sizeIOVec:])), binary.LittleEndian.Uint64(raw[i*sizeIOVec+8:])}
	}
	return iov, 0
}
