package homeproxy

import (
	"bytes"
	"encoding/binary"

	"mosix/internal/mem"
)

// Call is one system call of a guest on its way: it remembers what the program asked for and how much of it is done. The
// host's side of the marshalling; use from one goroutine.
//
//	for {
//		req, errno, class := c.Gather(m)     // errno: the call ends with it; class ComeHome: the process goes home
//		res := …                             // from home
//		ret, again := c.Scatter(res, m)      // again: the next piece
//	}
type Call struct {
	Row  *Row
	Args [6]uint64 // as the program gave them

	// PID of the process, so that a path in /proc that names it is known to show its memory. With 0 every PID is taken for it.
	PID int

	before int64 // what was moved of it elsewhere, where it has gone on with the arguments for the rest
	done   int64
	more   bool // the piece under way was cut, more is to come
	piece  int64
	outs   []Out // what the piece under way may write; Off has no meaning here
	device Device
	lost   bool // the program's buffer ended early
	any    bool // the outputs are not known: a restarted call whose beginning this host has not seen
	once   map[mem.Addr][]byte
}

// NewCall begins a call with the registers of the guest.
func NewCall(nr uint32, args [6]uint64) *Call {
	return &Call{Row: Lookup(nr), Args: args, once: map[mem.Addr][]byte{}}
}

// NewRestart begins restart_syscall, which continues prev, the thread's last forwarded call, that ended with -516: the
// outputs of prev are its outputs. prev is nil on a host to which the process moved meanwhile; then home's word is taken for
// where they are, which gives it nothing that it does not have: the process is home's.
func NewRestart(prev *Call) *Call {
	c := NewCall(nrRestart, [6]uint64{})
	if prev == nil {
		c.any = true
		return c
	}
	c.outs, c.any = prev.outs, prev.any
	return c
}

// Class is that of the call as far as registers show it.
func (c *Call) Class() Class { return c.Row.Classify(c.Args) }

// Total is how many bytes the earlier pieces of a transfer have moved. Where a later Gather fails, the call ends with Total
// and not with the errno, as the kernel ends a transfer that fails in the middle.
func (c *Call) Total() int64 { return c.done + c.before }

// Gather reads what the call will read from guest memory, once, and returns the request for home. errno is not 0 where the
// kernel would refuse the call before it did anything. class is Home (or Both, for the half that home answers), or ComeHome
// where memory shows that the call cannot be made at a distance; any other class is the row's, and nothing was read.
func (c *Call) Gather(m Memory) (req Request, errno int, class Class) {
	class = c.Class()
	if class != Home && class != Both {
		return Request{}, c.Row.Errno, class
	}
	if c.Row.Nr == nrRestart {
		return Request{Nr: nrRestart}, 0, class
	}
	args := c.Args
	if c.done > 0 {
		c.advance(&args)
	}
	b, src := c.describe(m, args)
	if p, ok := m.(Prober); ok && b.touched == 0 && b.class != ComeHome && c.withhold(p, b.outs, &args) {
		b, src = c.describe(m, args)
	}
	switch {
	case b.touched != 0:
		return Request{}, b.touched, class
	case b.class == ComeHome:
		return Request{}, 0, ComeHome
	}
	c.piece, c.more = b.piece, b.more
	c.outs = append(c.outs[:0], b.outs...)
	for _, p := range b.inPlace {
		if p.Out {
			n := len(p.Data)
			c.outs = append(c.outs, Out{Addr: p.Addr, Len: n})
		}
	}
	return Request{Nr: c.Row.Nr, Args: b.args, In: src.blobs, More: b.more && c.Row.Transfer == TransferRead}, 0, class
}

func (c *Call) describe(m Memory, args [6]uint64) (*builder, *guestMemory) {
	src := &guestMemory{m: m, call: c}
	b := &builder{src: src, limit: MaxData, cut: true, pid: c.PID, done: c.done, iovs: src.iovecs, args: args}
	if p, ok := m.(Prober); ok {
		b.may = p.Writable
	}
	b.describe(c.Row)
	return b, src
}

// withhold changes the arguments of a call that would write where the guest may not: home must find that out before it has made
// what it cannot tell, or taken what it cannot give. A transfer is shortened to what may be written.
func (c *Call) withhold(m Prober, outs []Out, args *[6]uint64) (changed bool) {
	for i, a := range c.Row.argsOf(*args) {
		if !a.Kind.onlyWritten() || a.InPlace || args[i] == 0 {
			continue
		}
		for _, o := range outs {
			if o.Addr != mem.Addr(args[i]) {
				continue
			}
			may := m.Writable(o.Addr, o.Len)
			switch {
			case may >= o.Len, may > 0 && a.Kind == OutArr: // an array is seldom filled
			case may > 0 && a.Kind == DataOut:
				args[a.Len], changed = uint64(may), true
			default:
				args[i], changed = nowhere, true
			}
			break
		}
	}
	return changed
}

// advance moves the arguments of a simple transfer behind what is done. Those of scattered ones are advanced as their
// iovecs are read.
func (c *Call) advance(args *[6]uint64) {
	done := uint64(c.done)
	for i, a := range c.Row.Args {
		if a.Kind == DataIn || a.Kind == DataOut {
			args[i] += done
			args[a.Len] -= done
		}
	}
	if p := c.Row.PosArg; p != 0 && int64(args[p]) != -1 {
		args[p] += done
	}
}

// Scatter writes what home answered into guest memory, and only where the call asked for it. It returns the value of the
// register, and again for a transfer of which the next piece is to be gathered; ret is then what the call returns if that
// cannot be done. A transfer that fails after its first piece ends with what was moved, as it does in the kernel.
func (c *Call) Scatter(res Result, m Memory) (ret int64, again bool) {
	if ret, again = c.scatter(res, m); c.before > 0 && !again {
		ret = c.before + max(ret, 0)
	}
	return ret, again
}

func (c *Call) scatter(res Result, m Memory) (ret int64, again bool) {
	moved, cut, failed := int64(0), false, false
	at := 0
	for _, blob := range res.Out {
		if len(blob.Data) == 0 {
			continue
		}
		out, ok := c.allowed(blob, &at)
		if !ok {
			continue // home answers what was not asked
		}
		n, err := m.WriteMemory(blob.Addr, blob.Data)
		if err != nil {
			n = 0
		}
		switch short := n < len(blob.Data); {
		case out.When != RetBytes || c.Row.Transfer == NoTransfer:
			failed = failed || short
		case !cut:
			moved += int64(n)
			cut = short
		}
	}
	c.lost = cut || failed
	if res.Device != NoDevice { // home is asked for the first piece only
		c.device = res.Device
	}
	switch ret = res.Ret; {
	case ret < 0 && c.done > 0:
		return c.done, false
	case ret < 0:
		return ret, false
	case cut && c.done+moved > 0: // the program's buffer ends early, and so does the call
		return c.done + moved, false
	case cut || failed:
		return -efault, false
	}
	if c.Row.Transfer == NoTransfer || c.piece == 0 {
		return ret, false
	}
	if c.goesOn(ret, res.Regular || c.device == ZeroDevice || c.device == RandomDevice) {
		c.done += ret
		return c.done, true
	}
	return c.done + ret, false
}

// goesOn decides whether a piece that ended with ret has a successor.
func (c *Call) goesOn(ret int64, regular bool) bool {
	if !c.more || ret != c.piece {
		return false
	}
	switch c.Row.Transfer {
	case TransferRead:
		return regular
	case TransferSend:
		return true
	case TransferRecv:
		return c.Args[c.Row.FlagArg]&msgWaitall != 0
	}
	return false
}

// AsksRegular reports whether the host of a call that came to ret must know if its descriptor is a regular file; more: it is a piece.
func (r *Row) AsksRegular(args [6]uint64, ret int64, more bool) bool {
	switch {
	case r.Transfer == NoTransfer:
		return false
	case ret <= -512 && ret >= -516:
		return true
	case r.Transfer == TransferSend && ret > 0:
		for _, a := range r.Args {
			if a.Kind == DataIn {
				return more || uint64(ret) < args[a.Len]
			}
		}
		return true
	}
	return more && ret > 0
}

// GoOn begins a transfer of which done bytes, or messages, were moved before it came here.
func (c *Call) GoOn(done int64) {
	switch c.Row.Nr {
	case nrRecvmmsg, nrSendmmsg:
		c.Args[1] += uint64(done) * sizeMMsghdr
		c.Args[2] -= uint64(done)
		c.before = done
	case nrSendfile:
		c.Args[3] -= uint64(done)
		c.before = done
	default:
		if c.Row.Transfer != NoTransfer {
			c.done = done
		}
	}
}

// Short reports, after Scatter, whether the transfer ended before its time, as a wait that was cut ends it, and can go on with another
// Gather: one that a program may rely on to come whole. Where what it leads to can take no more, that tells.
func (c *Call) Short(res Result) bool {
	if res.Ret <= 0 || res.Ret >= c.piece || c.lost {
		return false
	}
	switch c.Row.Transfer {
	case TransferSend:
		if res.Regular {
			return false
		}
	case TransferRecv:
		if c.Args[c.Row.FlagArg]&msgWaitall == 0 {
			return false
		}
	default:
		return false
	}
	c.done += res.Ret
	return true
}

// allowed finds the declared output that holds blob. Outputs arrive in the order in which they were declared, so that the
// search goes on where it ended.
func (c *Call) allowed(blob Blob, at *int) (Out, bool) {
	end := blob.Addr + mem.Addr(len(blob.Data))
	if c.any {
		return Out{}, end > blob.Addr && end <= userTop
	}
	for k := 0; k < len(c.outs); k++ {
		i := (*at + k) % len(c.outs)
		o := c.outs[i]
		if blob.Addr >= o.Addr && len(blob.Data) <= o.Len && blob.Addr-o.Addr <= mem.Addr(o.Len-len(blob.Data)) {
			*at = i
			return o, true
		}
	}
	return Out{}, false
}

// guestMemory is the host's source. Structures are read once, by the first piece of a transfer, and remembered for the
// others.
type guestMemory struct {
	m     Memory
	call  *Call
	blobs []Blob
}

func (g *guestMemory) fixed(a mem.Addr, n int) ([]byte, bool) {
	if old, ok := g.call.once[a]; ok && g.call.done > 0 && len(old) == n {
		return old, true
	}
	if a >= userTop || uint64(a)+uint64(n) > userTop {
		return nil, false
	}
	data := make([]byte, n)
	if got, err := g.m.ReadMemory(a, data); err != nil || got < n {
		return nil, false
	}
	if g.call.Row.Transfer != NoTransfer {
		g.call.once[a] = data
	}
	return data, true
}

func (g *guestMemory) upTo(a mem.Addr, n int) []byte {
	if a >= userTop {
		return nil
	}
	data := make([]byte, min(uint64(n), userTop-uint64(a)))
	got, err := g.m.ReadMemory(a, data)
	if err != nil {
		return nil
	}
	return data[:got]
}

func (g *guestMemory) text(a mem.Addr, limit, over int, cut bool) ([]byte, int) {
	// Most strings end in their first page: the next one is touched only where this one holds no end.
	data := g.upTo(a, int(min(uint64(limit), mem.PageSize-uint64(a)%mem.PageSize)))
	end := bytes.IndexByte(data, 0)
	if end < 0 && len(data) > 0 && len(data) < limit && (a+mem.Addr(len(data)))%mem.PageSize == 0 {
		data = append(data, g.upTo(a+mem.Addr(len(data)), limit-len(data))...)
		end = bytes.IndexByte(data, 0)
	}
	switch {
	case end >= 0:
		return data[:end+1], 0
	case len(data) < limit:
		return nil, efault
	case cut:
		data[limit-1] = 0
		return data, 0
	}
	return nil, over
}

func (g *guestMemory) reserve() int {
	g.blobs = append(g.blobs, Blob{})
	return len(g.blobs) - 1
}

func (g *guestMemory) record(place int, a mem.Addr, data []byte) {
	if place < 0 {
		if len(data) > 0 {
			g.blobs = append(g.blobs, Blob{a, data})
		}
		return
	}
	g.blobs[place] = Blob{a, data}
}

func (g *guestMemory) mark() int    { return len(g.blobs) }
func (g *guestMemory) rewind(n int) { g.blobs = g.blobs[:n] }

// iovecs reads an array of struct iovec and leaves out what earlier pieces have moved.
func (g *guestMemory) iovecs(a mem.Addr, n int) ([]iovec, int) {
	raw, ok := g.fixed(a, n*sizeIOVec)
	if !ok {
		return nil, efault
	}
	iov := make([]iovec, 0, n)
	skip := uint64(g.call.done)
	for i := 0; i < n; i++ {
		v := iovec{mem.Addr(binary.LittleEndian.Uint64(raw[i*sizeIOVec:])), binary.LittleEndian.Uint64(raw[i*sizeIOVec+8:])}
		if v.n >= 1<<63 {
			return nil, einval
		}
		k := min(skip, v.n)
		skip -= k
		if v.n -= k; v.n == 0 {
			continue
		}
		v.base += mem.Addr(k)
		iov = append(iov, v)
	}
	return iov, 0
}

// ShowsMemory reports whether a path names one of the files of /proc that show, or change, the memory of the process pid, or in which
// call it is: the shadow's is empty, and its calls are others. With pid 0 any process counts.
func ShowsMemory(path []byte, pid int) bool {
	parts := bytes.Split(path, []byte("/"))
	var p []string
	for _, x := range parts {
		if len(x) > 0 && string(x) != "." {
			p = append(p, string(x))
		}
	}
	if len(path) == 0 || path[0] != '/' || len(p) < 3 || p[0] != "proc" {
		return false
	}
	if p[1] != "self" && p[1] != "thread-self" {
		n := 0
		for _, d := range p[1] {
			if d < '0' || d > '9' || n > 1<<24 {
				return false
			}
			n = n*10 + int(d-'0')
		}
		if pid != 0 && n != pid {
			return false
		}
	}
	p = p[2:]
	if p[0] == "task" && len(p) >= 3 {
		p = p[2:]
	}
	switch p[0] {
	case "maps", "smaps", "smaps_rollup", "numa_maps", "pagemap", "mem", "map_files", "clear_refs", "syscall":
		return true
	}
	return false
}
