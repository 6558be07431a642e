package homeproxy

import (
	"bytes"

	"testing"
	"time"

	"pgregory.net/rapid"

	"mosix/internal/mem"
)

const (
	guestBase = mem.Addr(0x7f0000000000)
	guestSize = 1 << 14
	slotBase  = mem.Addr(0x10000020000)
)

// shadow is a slot with its areas in place, as the executor has them.
type shadow struct {
	slot []byte
	s    *space
}

// serve lays req out, makes the call with the model kernel and collects. It fails where a pointer leaves the slot.
func serve(t failer, req Request, size int, ret int64) (Result, *kernel) {
	plan, errno := Lay(req, slotBase, size)
	if errno != 0 {
		t.Fatalf("%s: Lay refuses what Gather made: errno %d (%#x)", Lookup(req.Nr).Name, errno, req.Args)
	}
	sh := newShadow(plan, size)
	k := &kernel{s: sh.s, ret: ret}
	got := k.call(Lookup(req.Nr), plan.Args)
	if k.fault {
		t.Fatalf("%s: a pointer of the plan leads out of the slot: %#x", Lookup(req.Nr).Name, plan.Args)
	}
	return Result{Ret: got, Out: plan.Collect(got, sh.read, sh.inPlace)}, k
}

type failer interface {
	Fatalf(string, ...any)
	Helper()
}

func newShadow(plan Plan, size int) *shadow {
	sh := &shadow{s: &space{}}
	sh.slot = sh.s.add(slotBase, size).b
	for i := range sh.slot {
		sh.slot[i] = 0xee // what an earlier call left
	}
	for _, w := range plan.Writes {
		copy(sh.slot[w.Off:w.Off+len(w.Data)], w.Data)
	}
	for _, p := range plan.InPlace {
		copy(sh.s.add(p.Addr, len(p.Data)).b, p.Data)
	}
	return sh
}

func (sh *shadow) read(off, n int) []byte { return sh.slot[off : off+n] }

func (sh *shadow) inPlace(a mem.Addr, n int) []byte { return sh.s.from(a, n, false) }

// program draws a call of row with valid arguments, and the memory that it points to.
type program struct {
	t    *rapid.T
	s    *space
	next mem.Addr
}

func newProgram(t *rapid.T) *program {
	p := &program{t: t, s: &space{}, next: guestBase + 64}
	b := p.s.add(guestBase, guestSize).b
	for i := range b {
		b[i] = byte(i*31 + i>>8)
	}
	return p
}

func (p *program) room(n int) mem.Addr {
	at := p.next
	p.next += mem.Addr(n + rapid.IntRange(1, 24).Draw(p.t, "gap"))
	if p.next > guestBase+guestSize {
		p.t.Fatalf("the test's memory is too small")
	}
	return at
}

func (p *program) header(at mem.Addr) int {
	p.s.put64(at, 0)
	p.s.put32(at+8, 0)
	p.s.put64(at+32, 0)
	p.s.put64(at+40, 0)
	if rapid.Bool().Draw(p.t, "name") {
		n := rapid.SampledFrom([]int{16, 28, 110, 128}).Draw(p.t, "namelen")
		p.s.put64(at, uint64(p.room(n)))
		p.s.put32(at+8, uint32(n))
	}
	if rapid.Bool().Draw(p.t, "control") {
		n := rapid.SampledFrom([]int{24, 64}).Draw(p.t, "controllen")
		p.s.put64(at+32, uint64(p.room(n)))
		p.s.put64(at+40, uint64(n))
	}
	iov, n, total := p.vector()
	p.s.put64(at+16, uint64(iov))
	p.s.put64(at+24, uint64(n))
	return total
}

func (p *program) vector() (at mem.Addr, n, total int) {
	n = rapid.IntRange(0, 4).Draw(p.t, "iovcnt")
	at = p.room(16 * n)
	for i := 0; i < n; i++ {
		size := rapid.IntRange(0, 100).Draw(p.t, "iovlen")
		p.s.put64(at+mem.Addr(16*i), uint64(p.room(size)))
		p.s.put64(at+mem.Addr(16*i+8), uint64(size))
		total += size
	}
	return at, n, total
}

// arguments fills args for row and returns the largest result that the call can have.
func (p *program) arguments(row *Row, args *[6]uint64) (limit int64) {
	t := p.t
	limit = 3
	as := row.argsOf(*args)
	for i, a := range as {
		if int8(i) == row.By {
			continue
		}
		switch a.Kind {
		case Val, Int, FD:
			if args[i] == 0 {
				args[i] = uint64(rapid.IntRange(0, 7).Draw(t, a.Name))
			}
		}
	}
	for i, a := range as {
		count := func(n int) int { args[a.Len] = uint64(n); return n }
		switch a.Kind {
		case None, Ptr, Val, Int, FD, LenPtr:
			continue
		}
		if rapid.IntRange(0, 9).Draw(t, "null") == 0 && row.Nr != 125 && row.Nr != 126 {
			args[i] = 0
			switch a.Kind {
			case DataOut, IOVecOut, OutArr, MsgOut, MMsgOut, MsgBufOut:
				limit = 0
			}
			continue
		}
		switch a.Kind {
		case Path:
			n := rapid.IntRange(0, 14).Draw(t, "length")
			at := p.room(n + 1)
			p.s.WriteMemory(at, append(bytes.Repeat([]byte{'x'}, n), 0))
			args[i] = uint64(at)
		case StructIn, StructOut, StructInOut:
			args[i] = uint64(p.room(int(a.Size)))
		case InArr, OutArr, InOutArr:
			n := count(rapid.IntRange(0, 5).Draw(t, "count"))
			args[i] = uint64(p.room(n * int(a.Size)))
			limit = int64(n)
		case DataIn, DataOut:
			n := count(rapid.IntRange(0, 300).Draw(t, "count"))
			args[i] = uint64(p.room(n))
			limit = int64(n)
		case IOVecIn, IOVecOut:
			at, n, total := p.vector()
			args[i], limit = uint64(at), int64(total)
			count(n)
		case MsgIn, MsgOut:
			at := p.room(56)
			args[i], limit = uint64(at), int64(p.header(at))
		case MMsgIn, MMsgOut:
			n := count(rapid.IntRange(0, 4).Draw(t, "vlen"))
			at := p.room(64 * n)
			for m := 0; m < n; m++ {
				p.header(at + mem.Addr(64*m))
			}
			args[i], limit = uint64(at), int64(n)
		case SockIn:
			n := count(rapid.IntRange(0, 128).Draw(t, "addrlen"))
			args[i] = uint64(p.room(n))
		case OptIn:
			n := count(rapid.IntRange(0, 40).Draw(t, "optlen"))
			args[1], args[2] = 1, 2
			args[i] = uint64(p.room(n))
		case SockOut, OptOut:
			if a.Kind == OptOut {
				args[1], args[2] = 6, 11
			}
			n := rapid.IntRange(0, 128).Draw(t, "addrlen")
			args[i], args[a.Len] = uint64(p.room(n)), uint64(p.room(4))
			p.s.put32(mem.Addr(args[a.Len]), uint32(n))
		case FDSet:
			n := count(64)
			args[i] = uint64(p.room(n / 8))
		case SigmaskArg:
			at := p.room(16)
			p.s.put64(at, uint64(p.room(8)))
			p.s.put64(at+8, 8)
			args[i] = uint64(at)
		case Sigset:
			count(8)
			args[i] = uint64(p.room(8))
		case MsgBufIn, MsgBufOut:
			n := count(rapid.IntRange(0, 60).Draw(t, "msgsz"))
			args[i], limit = uint64(p.room(8+n)), int64(n)
		case CapHeader:
			args[i] = uint64(p.room(8))
			p.s.put32(mem.Addr(args[i]), rapid.SampledFrom([]uint32{0x19980330, 0x20080522}).Draw(t, "version"))
		case CapData, CapDataIn:
			args[i] = uint64(p.room(24))
		default:
			n, ok := p.structure(a, i, args)
			if !ok {
				t.Fatalf("the test does not know kind %d", a.Kind)
			}
			limit = n
		}
	}
	return limit
}

// TestCallsArriveAsTheyWere makes each call of the table twice, natively in the model kernel and by way of home, and compares
// what the kernel has seen, what the program's memory holds afterwards and the result.
func TestCallsArriveAsTheyWere(t *testing.T) {
	tried := 0
	for i := range table {
		r := &table[i]
		selectors := []uint32{0}
		if r.By >= 0 {
			selectors = selectors[:0]
			for _, s := range r.Subs {
				if s.Class == Home || s.Class == Both {
					selectors = append(selectors, s.Sel)
				}
			}
			if r.Class == Home {
				selectors = append(selectors, 0xfe)
			}
		} else if r.Class != Home && r.Class != Both {
			continue
		}
		if r.ByHand || r.Nr == nrRestart {
			continue
		}
		for _, sel := range selectors {
			tried++
			t.Run(r.Name, rapid.MakeCheck(func(t *rapid.T) { oneCall(t, r, sel) }))
		}
	}
	if tried < 330 {
		t.Errorf("only %d calls and commands tried", tried)
	}
}

func oneCall(t *rapid.T, r *Row, sel uint32) {
	p := newProgram(t)
	var args [6]uint64
	if r.By >= 0 {
		args[r.By] = uint64(sel)
	}
	if r.Nr == 302 {
		args[1] = 7
	}
	limit := p.arguments(r, &args)
	if c := r.Classify(args); c != Home && c != Both {
		t.Skip("the arguments make it another class")
	}
	ret := rapid.SampledFrom([]int64{0, limit, limit / 2, -eintr, -14, -512, -514, -516}).Draw(t, "ret")

	native := p.s.clone()
	nk := &kernel{s: native, ret: ret}
	nk.call(r, args)
	if nk.fault {
		t.Fatalf("the test makes a call that faults natively")
	}

	c := NewCall(r.Nr, args)
	req, errno, class := c.Gather(p.s)
	if errno != 0 || class != Home && class != Both {
		t.Fatalf("%s%#x: Gather gives errno %d, class %v", r.Name, args, errno, class)
	}
	req, err := ParseRequest(append(AppendRequest(nil, req), 1, 2, 3))
	if err != nil {
		t.Fatalf("%v", err)
	}
	res, sk := serve(t, req, 1<<14, ret)
	if !bytes.Equal(sk.seen.Bytes(), nk.seen.Bytes()) {
		t.Fatalf("%s%#x: home's kernel saw\n%q\nnatively\n%q", r.Name, args, sk.seen.String(), nk.seen.String())
	}
	if res, err = ParseResult(append(AppendResult(nil, res), 9)); err != nil {
		t.Fatalf("%v", err)
	}
	got, again := c.Scatter(res, p.s)
	if again || got != ret {
		t.Fatalf("%s%#x: %d (again %v), want %d", r.Name, args, got, again, ret)
	}
	if err := native.equal(p.s); err != nil {
		t.Fatalf("%s%#x = %d: guest memory: %v", r.Name, args, ret, err)
	}
}

// hugeProgram has a large area for transfers that need several pieces.
func hugeProgram(n int) (*space, []byte) {
	s := &space{}
	b := s.add(guestBase, n).b
	rnd := uint64(1)
	for i := range b {
		rnd = rnd*6364136223846793005 + 1442695040888963407
		b[i] = byte(rnd >> 56)
	}
	return s, b
}

// drive moves a whole transfer. sink gets what each piece writes, fill what each piece reads; max is what one piece moves.
func drive(t *testing.T, c *Call, s *space, regular bool, most int, file *[]byte, pos *int) (ret int64, pieces int) {
	t.Helper()
	for {
		req, errno, class := c.Gather(s)
		if errno != 0 || class != Home {
			if c.Total() > 0 {
				return c.Total(), pieces
			}
			return int64(-errno), pieces
		}
		pieces++
		plan, errno := Lay(req, slotBase, MaxData)
		if errno != 0 {
			t.Fatalf("Lay: errno %d", errno)
		}
		sh := newShadow(plan, MaxData)
		k := &kernel{s: sh.s}
		row := Lookup(req.Nr)
		var areas []Blob
		for i, a := range row.Args {
			at := mem.Addr(plan.Args[i])
			switch a.Kind {
			case DataIn, DataOut:
				areas = []Blob{{at, make([]byte, plan.Args[a.Len])}}
			case IOVecIn, IOVecOut:
				areas, _ = k.lists(at, int(plan.Args[a.Len]))
			case MsgIn, MsgOut:
				areas, _ = k.lists(mem.Addr(sh.s.u64(at+16)), int(sh.s.u64(at+24)))
			}
		}
		if p := row.PosArg; p != 0 {
			*pos = int(plan.Args[p])
		}
		moved := 0
		for _, a := range areas {
			n := min(len(a.Data), most-moved)
			if row.Transfer == TransferSend {
				for len(*file) < *pos+n {
					*file = append(*file, 0)
				}
				if got, _ := sh.s.ReadMemory(a.Addr, (*file)[*pos:*pos+n]); got < n {
					t.Fatalf("a buffer leads out of the slot")
				}
			} else {
				n = min(n, len(*file)-*pos)
				if got, _ := sh.s.WriteMemory(a.Addr, (*file)[*pos:*pos+n]); got < n {
					t.Fatalf("a buffer leads out of the slot")
				}
			}
			moved += n
			*pos += n
		}
		ret, again := c.Scatter(Result{Ret: int64(moved), Out: plan.Collect(int64(moved), sh.read, sh.inPlace), Regular: regular}, s)
		if !again {
			return ret, pieces
		}
	}
}

func TestTransfersInPieces(t *testing.T) {
	const whole = 5<<20 + 12345
	iov := func(s *space, parts ...int) (mem.Addr, int) {
		at, pos := guestBase+mem.Addr(whole)+4096, guestBase
		for i, n := range parts {
			s.put64(at+mem.Addr(16*i), uint64(pos))
			s.put64(at+mem.Addr(16*i+8), uint64(n))
			pos += mem.Addr(n)
		}
		return at, len(parts)
	}
	parts := []int{100, 3 << 20, 0, 7, 2<<20 + 12238}
	for _, c := range []struct {
		name    string
		nr      uint32
		regular bool
		vector  bool
		pos     uint64
		flags   uint64
		most    int
		want    int
		pieces  int
	}{
		{"write to a pipe", 1, false, false, 0, 0, 1 << 30, whole, 6},
		{"write that is cut", 1, false, false, 0, 0, 300000, 300000, 1},
		{"read of a file", 0, true, false, 0, 0, 1 << 30, whole, 6},
		{"read of a pipe", 0, false, false, 0, 0, 1 << 30, MaxData, 1},
		{"pread", 17, true, false, 77, 0, 1 << 30, whole, 6},
		{"pwrite", 18, true, false, 77, 0, 1 << 30, whole, 6},
		{"writev", 20, false, true, 0, 0, 1 << 30, whole, 6},
		{"readv of a file", 19, true, true, 0, 0, 1 << 30, whole, 6},
		{"preadv", 295, true, true, 99, 0, 1 << 30, whole, 6},
		{"pwritev2", 328, true, true, 99, 0, 1 << 30, whole, 6},
		{"send on a stream", 44, false, false, 0, 0, 1 << 30, whole, 6},
		{"recv", 45, false, false, 0, 0, 1 << 30, MaxData, 1},
		{"recv with MSG_WAITALL", 45, false, false, 0, msgWaitall, 1 << 30, whole, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, b := hugeProgram(whole + 8192)
			row := Lookup(c.nr)
			args := [6]uint64{3, uint64(guestBase), whole}
			if c.vector {
				at, n := iov(s, parts...)
				args[1], args[2] = uint64(at), uint64(n)
			}
			if row.PosArg != 0 {
				args[row.PosArg] = c.pos
			}
			if row.FlagArg != 0 {
				args[row.FlagArg] = c.flags
			}
			want := append([]byte(nil), b[:whole]...)
			file, pos := []byte(nil), 0
			if row.Transfer != TransferSend {
				for i := range want {
					want[i] ^= 0x5a
				}
				file = append(make([]byte, c.pos), want...)
				pos = int(c.pos)
			}
			ret, pieces := drive(t, NewCall(c.nr, args), s, c.regular, c.most, &file, &pos)
			if ret != int64(c.want) || pieces != c.pieces {
				t.Fatalf("%d bytes in %d pieces, want %d in %d", ret, pieces, c.want, c.pieces)
			}
			got := b
			if row.Transfer == TransferSend {
				got = file[c.pos:]
			}
			if !bytes.Equal(got[:c.want], want[:c.want]) {
				t.Fatal("the bytes that arrived are others")
			}
		})
	}
}

// TestShortRegularRead ends a transfer at the end of a file.
func TestShortRegularRead(t *testing.T) {
	s, b := hugeProgram(4 << 20)
	file, pos := bytes.Repeat([]byte{9}, MaxData+100), 0
	ret, pieces := drive(t, NewCall(0, [6]uint64{3, uint64(guestBase), 4 << 20}), s, true, 1<<30, &file, &pos)
	if ret != MaxData+100 || pieces != 2 || b[MaxData+99] != 9 {
		t.Errorf("%d bytes in %d pieces", ret, pieces)
	}
}

// TestMore: home needs to know whether a descriptor is a regular file only for a piece of a larger read.
func TestMore(t *testing.T) {
	s, _ := hugeProgram(3 << 20)
	for _, c := range []struct {
		nr    uint32
		count uint64
		want  bool
	}{
		{0, 4096, false}, {0, MaxData, false}, {0, MaxData + 1, true}, {17, 3 << 20, true}, {1, 3 << 20, false}, {217, 3 << 20, false}, {45, 3 << 20, false},
	} {
		req, errno, _ := NewCall(c.nr, [6]uint64{3, uint64(guestBase), c.count}).Gather(s)
		if errno != 0 || req.More != c.want {
			t.Errorf("%s of %d bytes: more %v, errno %d", Lookup(c.nr).Name, c.count, req.More, errno)
		}
	}
}

// TestFailureAfterTheFirstPiece gives what was moved, as the kernel does.
func TestFailureAfterTheFirstPiece(t *testing.T) {
	s, _ := hugeProgram(3 << 20)
	c := NewCall(1, [6]uint64{1, uint64(guestBase), 3 << 20})
	if _, errno, _ := c.Gather(s); errno != 0 {
		t.Fatal(errno)
	}
	if ret, again := c.Scatter(Result{Ret: MaxData}, s); !again || ret != MaxData || c.Total() != MaxData {
		t.Fatal("a whole piece has no successor", ret, again)
	}
	for _, ret := range []int64{-28, -512, -eintr} {
		again := *c
		if _, errno, _ := again.Gather(s); errno != 0 {
			t.Fatal(errno)
		}
		if got, more := again.Scatter(Result{Ret: ret}, s); got != MaxData || more {
			t.Errorf("after %d: %d, again %v", ret, got, more)
		}
	}
}

func TestRestart(t *testing.T) {
	s := &space{}
	s.add(guestBase, 4096)
	args := [6]uint64{uint64(guestBase) + 128, 2, 5000}
	c := NewCall(7, args)
	req, errno, class := c.Gather(s)
	if errno != 0 || class != Home {
		t.Fatal(errno, class)
	}
	plan, errno := Lay(req, slotBase, MaxData)
	if errno != 0 || len(plan.InPlace) != 1 || plan.Args != args {
		t.Fatalf("errno %d, plan %+v: poll keeps its own address", errno, plan)
	}
	if ret, again := c.Scatter(Result{Ret: -516}, s); ret != -516 || again {
		t.Fatal(ret, again)
	}
	again := NewRestart(c)
	req, errno, class = again.Gather(s)
	if errno != 0 || class != Home || req.Nr != nrRestart {
		t.Fatal(req, errno, class)
	}
	resumed := plan.Resume()
	if len(resumed.Writes) != 0 || resumed.Nr != nrRestart {
		t.Fatalf("%+v", resumed)
	}
	out := resumed.Collect(1, nil, func(a mem.Addr, n int) []byte { return bytes.Repeat([]byte{5}, n) })
	if ret, _ := again.Scatter(Result{Ret: 1, Out: out}, s); ret != 1 {
		t.Fatal(ret)
	}
	if got := s.u64(guestBase + 128 + 8); got != 0x0505050505050505 {
		t.Errorf("the restarted poll left %#x", got)
	}
	// A host that has not seen the beginning takes home's word.
	unseen := NewRestart(NewRestart(nil))
	unseen.Gather(s)
	unseen.Scatter(Result{Ret: 1, Out: []Blob{{guestBase + 64, []byte{1}}, {1 << 60, []byte{1}}}}, s)
	if got := s.u32(guestBase + 64); got != 1 {
		t.Errorf("%#x", got)
	}
}

// TestHostileAnswer writes nothing that the call did not ask for.
func TestHostileAnswer(t *testing.T) {
	s := &space{}
	s.add(guestBase, 8192)
	before := s.clone()
	c := NewCall(0, [6]uint64{0, uint64(guestBase) + 1000, 100})
	if _, errno, _ := c.Gather(s); errno != 0 {
		t.Fatal(errno)
	}
	bad := []Blob{
		{guestBase + 999, []byte{1}}, {guestBase + 1100, []byte{1}}, {guestBase + 1099, []byte{1, 2}}, {guestBase + 1000, make([]byte, 101)},
		{guestBase, bytes.Repeat([]byte{1}, 8192)}, {^mem.Addr(0), []byte{1, 2}}, {0, []byte{1}},
	}
	c.Scatter(Result{Ret: 100, Out: bad}, s)
	if err := before.equal(s); err != nil {
		t.Error(err)
	}
}

// TestGatherErrors are the refusals that the kernel would give before it did anything.
func TestGatherErrors(t *testing.T) {
	s := &space{}
	b := s.add(guestBase, 3*4096).b
	for i := range b {
		b[i] = 'a'
	}
	g := uint64(guestBase)
	for _, c := range []struct {
		name  string
		nr    uint32
		args  [6]uint64
		errno int
	}{
		{"path without an end", 2, [6]uint64{g}, enametoolong},
		{"path into nothing", 2, [6]uint64{g + 3*4096 - 5}, efault},
		{"path nowhere", 2, [6]uint64{0xdead000}, efault},
		{"path in the kernel", 2, [6]uint64{1 << 63}, efault},
		{"struct nowhere", 35, [6]uint64{0xdead000}, efault},
		{"result in the kernel", 4, [6]uint64{g, 1 << 63}, enametoolong},
		{"result in the kernel", 5, [6]uint64{0, 1 << 63}, efault},
		{"too many iovecs", 20, [6]uint64{1, g, 1025}, einval},
		{"iovecs of nonsense", 20, [6]uint64{1, g, 2}, efault},
		{"too many descriptors", 7, [6]uint64{g, 1 << 20}, einval},
		{"mask of a wrong size", 271, [6]uint64{0, 0, 0, g, 7}, einval},
		{"xattr too big", 190, [6]uint64{0, 0, g, 1 << 20}, e2big},
		{"events below zero", 232, [6]uint64{3, g, ^uint64(0)}, einval},
		{"option of a negative size", 54, [6]uint64{3, 1, 2, g, ^uint64(0)}, einval},
	} {
		if _, errno, _ := NewCall(c.nr, c.args).Gather(s); errno != c.errno {
			t.Errorf("%s: %s%#x gives errno %d, want %d", c.name, Lookup(c.nr).Name, c.args, errno, c.errno)
		}
	}
}

func TestGatherComesHome(t *testing.T) {
	s := &space{}
	b := s.add(guestBase, 4096).b
	g := uint64(guestBase)
	for i, c := range []struct {
		path string
		home bool
	}{
		{"/proc/self/maps", true}, {"/proc/77/smaps", true}, {"/proc/thread-self/mem", true}, {"/proc/self/task/77/pagemap", true}, {"//proc/./self/maps", true},
		{"/proc/78/maps", false}, {"/proc/self/status", false}, {"/proc/self", false}, {"/etc/hostname", false}, {"proc/self/maps", false}, {"/proc/meminfo/maps", false},
		{"", false},
	} {
		copy(b, append([]byte(c.path), 0))
		call := NewCall(2, [6]uint64{g})
		call.PID = 77
		_, errno, class := call.Gather(s)
		if errno != 0 || (class == ComeHome) != c.home {
			t.Errorf("%d: open %s: class %v, errno %d", i, c.path, class, errno)
		}
	}
	for _, c := range [][6]uint64{{3, 1, 26, g, 16}, {3, 0, 64, g, 16}, {3, 132, 1, g, 16}, {3, 41, 65, g, 16}} {
		if _, _, class := NewCall(54, c).Gather(s); class != ComeHome {
			t.Errorf("setsockopt%d: class %v", c, class)
		}
	}
	if _, errno, class := NewCall(174, [6]uint64{}).Gather(s); class != Refuse || errno != enosys {
		t.Errorf("create_module: %v %d", class, errno)
	}
}

// TestGatherReadsOnce: a program that changes its memory between two looks gains nothing, because there is one look.
func TestGatherReadsOnce(t *testing.T) {
	p := &space{}
	p.add(guestBase, 1<<16)
	at := guestBase + 0x1000
	p.put64(at+16, uint64(guestBase+0x2000))
	p.put64(at+24, 2)
	p.put64(guestBase+0x2000, uint64(guestBase+0x3000))
	p.put64(guestBase+0x2008, 10)
	p.put64(guestBase+0x2010, uint64(guestBase+0x4000))
	p.put64(guestBase+0x2018, 10)
	m := &counting{space: p, reads: map[mem.Addr]int{}}
	if _, errno, class := NewCall(46, [6]uint64{3, uint64(at)}).Gather(m); errno != 0 || class != Home {
		t.Fatal(errno, class)
	}
	if len(m.reads) != 4 {
		t.Errorf("%d reads, want header, iovecs and two buffers", len(m.reads))
	}
	for a, n := range m.reads {
		if n != 1 {
			t.Errorf("%#x was read %d times", uint64(a), n)
		}
	}
}

type counting struct {
	*space
	reads map[mem.Addr]int
}

func (c *counting) ReadMemory(a mem.Addr, b []byte) (int, error) {
	c.reads[a]++
	return c.space.ReadMemory(a, b)
}

func TestManyMessages(t *testing.T) {
	s := &space{}
	s.add(guestBase, 1<<20)
	const vlen = 1024
	vec, iov := guestBase, guestBase+1<<17
	for i := 0; i < vlen; i++ {
		el := vec + mem.Addr(64*i)
		s.put64(el+16, uint64(iov+mem.Addr(16*i)))
		s.put64(el+24, 1)
		s.put64(iov+mem.Addr(16*i), uint64(guestBase+1<<18))
		s.put64(iov+mem.Addr(16*i+8), 65536)
	}
	for _, nr := range []uint32{299, 307} {
		req, errno, class := NewCall(nr, [6]uint64{3, uint64(vec), vlen}).Gather(s)
		if errno != 0 || class != Home {
			t.Fatalf("%s: errno %d, class %v", Lookup(nr).Name, errno, class)
		}
		if n := req.Args[2]; n < 10 || n > 16 {
			t.Errorf("%s: %d messages of 64 KiB in a slot of 1 MiB", Lookup(nr).Name, n)
		}
		if _, errno := Lay(req, slotBase, MaxData); errno != 0 {
			t.Errorf("%s: Lay: %d", Lookup(nr).Name, errno)
		}
	}
}

func TestTimeouts(t *testing.T) {
	s := &space{}
	s.add(guestBase, 4096)
	at := guestBase + 64
	s.put64(at, 3)
	s.put64(at+8, 250)
	g := uint64(at)
	for _, c := range []struct {
		nr   uint32
		args [6]uint64
		want int64 // ns, -1 for none
	}{
		{7, [6]uint64{0, 0, 1500}, 1500e6},
		{7, [6]uint64{0, 0, ^uint64(0)}, -1},
		{232, [6]uint64{3, g, 1, 10}, 10e6},
		{35, [6]uint64{g, g}, 3e9 + 250},
		{23, [6]uint64{0, 0, 0, 0, g}, 3e9 + 250e3},
		{271, [6]uint64{0, 0, g}, 3e9 + 250},
		{271, [6]uint64{0, 0, 0}, -1},
		{230, [6]uint64{1, 0, g}, 3e9 + 250},
		{230, [6]uint64{1, 1, g}, -1},
		{220, [6]uint64{1, 0, 0, g}, 3e9 + 250},
		{0, [6]uint64{1, g, 5}, -1},
	} {
		req, errno, _ := NewCall(c.nr, c.args).Gather(s)
		if errno != 0 {
			t.Fatal(errno)
		}
		d, ok := req.Timeout()
		if ok != (c.want >= 0) || ok && int64(d) != c.want {
			t.Errorf("%s: timeout %d %v, want %d", Lookup(c.nr).Name, int64(d), ok, c.want)
		}
		if !ok {
			continue
		}
		for _, rest := range []int64{0, 1e6, 2_000_003_000} {
			req.SetTimeout(durationOf(rest))
			if d, _ := req.Timeout(); int64(d) < rest || int64(d) > rest+1e6 {
				t.Errorf("%s: timeout %d after it was set to %d", Lookup(c.nr).Name, int64(d), rest)
			}
		}
	}
}

func TestRestartCodes(t *testing.T) {
	for _, c := range []struct {
		nr   uint32
		args [6]uint64
		want int64
	}{
		{0, [6]uint64{}, -512}, {7, [6]uint64{}, -516}, {35, [6]uint64{}, -516}, {230, [6]uint64{1, 0}, -516}, {230, [6]uint64{1, 1}, -514},
		{23, [6]uint64{}, -514}, {270, [6]uint64{}, -514}, {271, [6]uint64{}, -514}, {232, [6]uint64{}, -4}, {220, [6]uint64{}, -4}, {61, [6]uint64{}, -512},
	} {
		if got := Lookup(c.nr).RestartCode(c.args); got != c.want {
			t.Errorf("%s: %d, want %d", Lookup(c.nr).Name, got, c.want)
		}
	}
}

func durationOf(ns int64) time.Duration { return time.Duration(ns) }
