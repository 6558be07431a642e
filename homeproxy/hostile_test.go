package homeproxy

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"mosix/internal/mem"
)

// checkPlan lays req into a slot of size bytes and lets the model kernel follow every pointer of the plan: none may lead out
// of the slot and the areas in place, whatever the request says.
func checkPlan(t failer, req Request, size int) {
	t.Helper()
	plan, errno := Lay(req, slotBase, size)
	if errno != 0 {
		if len(plan.Writes)+len(plan.Outs)+len(plan.InPlace) != 0 {
			t.Fatalf("a plan beside errno %d", errno)
		}
		return
	}
	row := Lookup(req.Nr)
	if c := row.Classify(req.Args); c != Home && c != Both || row.ByHand {
		t.Fatalf("%s of class %v was laid out", row.Name, c)
	}
	for _, w := range plan.Writes {
		if w.Off < 0 || w.Off+len(w.Data) > size {
			t.Fatalf("%s: a write of %d bytes at %d into a slot of %d", row.Name, len(w.Data), w.Off, size)
		}
	}
	for _, o := range plan.Outs {
		if o.Off < 0 || o.Len < 0 || o.Off+o.Len > size {
			t.Fatalf("%s: an output of %d bytes at %d in a slot of %d", row.Name, o.Len, o.Off, size)
		}
	}
	for _, p := range plan.InPlace {
		r := mem.Range{Start: p.Addr, End: p.Addr + mem.Addr(len(p.Data))}
		if r.End > userTop || r.End < r.Start || r.Overlaps(mem.Range{Start: slotBase, End: slotBase + mem.Addr(size)}) {
			t.Fatalf("%s: an area in place at %v", row.Name, r)
		}
	}
	as := row.argsOf(req.Args)
	for i, v := range plan.Args {
		switch as[i].Kind {
		case Val, Int, FD:
			continue
		}
		inside := v >= uint64(slotBase) && v <= uint64(slotBase)+uint64(size)
		for _, p := range plan.InPlace {
			inside = inside || v == uint64(p.Addr)
		}
		if v != 0 && !inside {
			t.Fatalf("%s: argument %d is %#x, outside of the slot", row.Name, i, v)
		}
	}
	sh := newShadow(plan, size)
	k := &kernel{s: sh.s, ret: greedy}
	k.call(row, plan.Args)
	if k.fault {
		t.Fatalf("%s%#x: a pointer of the plan leads out of the slot: %#x", row.Name, req.Args, plan.Args)
	}
	for _, ret := range []int64{-1 << 63, -516, -4, 0, 1, 1<<63 - 1} {
		plan.Collect(ret, sh.read, sh.inPlace)
	}
}

// TestHostileRequests changes honest requests, one by one and several at once.
func TestHostileRequests(t *testing.T) {
	var rows []*Row
	for i := range table {
		r := &table[i]
		served := r.Class == Home || r.Class == Both
		for _, s := range r.Subs {
			served = served || s.Class == Home || s.Class == Both
		}
		if served && !r.ByHand {
			rows = append(rows, r)
		}
	}
	for _, r := range rows {
		t.Run(r.Name, rapid.MakeCheck(func(t *rapid.T) {
			p := newProgram(t)
			var args [6]uint64
			if r.By >= 0 {
				if len(r.Subs) == 0 {
					t.Skip("no commands")
				}
				subs := r.Subs
				if r.Class == Home {
					subs = append([]Sub{{Sel: 0xfe}}, subs...)
				}
				args[r.By] = uint64(rapid.SampledFrom(subs).Draw(t, "sub").Sel)
			}
			p.arguments(r, &args)
			req, errno, class := NewCall(r.Nr, args).Gather(p.s)
			if errno != 0 || class != Home && class != Both {
				t.Skip("not a call for home")
			}
			for n := rapid.IntRange(1, 3).Draw(t, "changes"); n > 0; n-- {
				spoil(t, &req)
			}
			checkPlan(t, req, rapid.SampledFrom([]int{0, 8, 64, 500, 1 << 14}).Draw(t, "size"))
		}))
	}
}

func spoil(t *rapid.T, req *Request) {
	numbers := []uint64{0, 1, 7, 8, 9, 63, 64, 65, 128, 129, 1024, 1 << 16, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 47, 1<<63 - 1, 1 << 63, ^uint64(0), uint64(slotBase)}
	number := rapid.SampledFrom(numbers)
	blob := func() *Blob {
		if len(req.In) == 0 {
			req.In = append(req.In, Blob{guestBase, make([]byte, 8)})
		}
		return &req.In[rapid.IntRange(0, len(req.In)-1).Draw(t, "blob")]
	}
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		req.Args[rapid.IntRange(0, 5).Draw(t, "arg")] = number.Draw(t, "value")
	case 1:
		b := blob()
		b.Addr = mem.Addr(number.Draw(t, "address"))
	case 2:
		b := blob()
		b.Data = b.Data[:rapid.IntRange(0, len(b.Data)).Draw(t, "short")]
	case 3:
		b := blob()
		b.Data = append(bytes.Clone(b.Data), make([]byte, rapid.IntRange(1, 300).Draw(t, "long"))...)
	case 4:
		b := blob()
		b.Data = bytes.Clone(b.Data)
		for off := rapid.IntRange(0, 64).Draw(t, "at"); off < len(b.Data); off += 64 {
			v := number.Draw(t, "word")
			for i := 0; i < 8 && off+i < len(b.Data); i++ {
				b.Data[off+i] = byte(v >> (8 * i))
			}
		}
	case 5:
		i := rapid.IntRange(0, len(req.In)).Draw(t, "place")
		if i < len(req.In) && rapid.Bool().Draw(t, "drop") {
			req.In = append(append([]Blob(nil), req.In[:i]...), req.In[i+1:]...)
		} else {
			req.In = append(req.In, Blob{mem.Addr(req.Args[1]), make([]byte, rapid.IntRange(0, 100).Draw(t, "n"))})
		}
	}
}

// TestLayRefuses what no shadow makes.
func TestLayRefuses(t *testing.T) {
	for _, nr := range []uint32{9, 11, 13, 56, 57, 59, 60, 231, 202, 101, 425, 9999, 174} {
		if _, errno := Lay(Request{Nr: nr}, slotBase, MaxData); errno != enosys {
			t.Errorf("%s: errno %d", Lookup(nr).Name, errno)
		}
	}
	if _, errno := Lay(Request{Nr: 16, Args: [6]uint64{0, 0xdeadbeef, 1}}, slotBase, MaxData); errno != enosys {
		t.Errorf("an unknown ioctl: errno %d", errno)
	}
	// An area in place over the slot itself.
	in := Request{Nr: 7, Args: [6]uint64{uint64(slotBase) + 100, 1, 0}, In: []Blob{{slotBase + 100, make([]byte, 8)}}}
	if _, errno := Lay(in, slotBase, MaxData); errno != efault {
		t.Errorf("an area in place over the slot: errno %d", errno)
	}
}

// TestGenerousLengths: a length behind a pointer is as hostile as a register, and it is what the kernel believes.
func TestGenerousLengths(t *testing.T) {
	word := func(v uint32) []byte { return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)} }
	for _, v := range []uint32{0, 1, 128, 129, 60000, 65536, 65537, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		cell := []Blob{{guestBase + 8, word(v)}}
		checkPlan(t, Request{Nr: 55, Args: [6]uint64{3, 1, 2, uint64(guestBase), uint64(guestBase) + 8}, In: cell}, 1<<17)
		checkPlan(t, Request{Nr: 43, Args: [6]uint64{3, uint64(guestBase), uint64(guestBase) + 8}, In: cell}, 1<<12)
		hdr := make([]byte, sizeMsghdr)
		hdr[1], hdr[33] = 0x10, 0x20
		copy(hdr[msgNamelen:], word(v))
		copy(hdr[msgControllen:], word(v))
		checkPlan(t, Request{Nr: 47, Args: [6]uint64{3, uint64(guestBase)}, In: []Blob{{guestBase, hdr}}}, 1<<18)
	}
}

// TestLengthsAreLowered where a program names more than it means: the call goes home with less.
func TestLengthsAreLowered(t *testing.T) {
	s := &space{}
	s.add(guestBase, 4096)
	g := uint64(guestBase)
	req, errno, class := NewCall(23, [6]uint64{1 << 30, g + 4096 - 128}).Gather(s)
	if errno != 0 || class != Home || req.Args[0] != maxSelectBits || len(req.In) != 1 || len(req.In[0].Data) != 128 {
		t.Errorf("select of 2^30 descriptors in a set of 1024: errno %d, class %v, %#x", errno, class, req.Args)
	}
	checkPlan(t, req, 1<<18)
	checkPlan(t, Request{Nr: 23, Args: [6]uint64{1 << 30, g}, In: req.In[:0]}, 1<<18)
	req.Args[0] = 1 << 30
	checkPlan(t, req, 1<<18)

	s.put64(guestBase+msgControl, g+512)
	s.put64(guestBase+msgControllen, 1<<20)
	req, errno, class = NewCall(47, [6]uint64{3, g}).Gather(s)
	if errno != 0 || class != Home {
		t.Errorf("recvmsg with a vast control buffer: errno %d, class %v", errno, class)
	}
	checkPlan(t, req, 1<<18)
}

func FuzzLay(f *testing.F) {
	s := &space{}
	b := s.add(guestBase, 1<<13).b
	for i := range b {
		b[i] = byte(i)
	}
	for off := mem.Addr(0); off < 56; off += 8 {
		s.put64(guestBase+off, 0)
	}
	s.put64(guestBase+16, uint64(guestBase+512))
	s.put64(guestBase+24, 1)
	s.put64(guestBase+512, uint64(guestBase+600))
	s.put64(guestBase+520, 30)
	g := uint64(guestBase)
	for _, c := range []struct {
		nr   uint32
		args [6]uint64
	}{
		{0, [6]uint64{0, g, 100}}, {1, [6]uint64{0, g, 100}}, {2, [6]uint64{g + 250}}, {7, [6]uint64{g, 3, 5}}, {20, [6]uint64{1, g + 512, 1}}, {46, [6]uint64{1, g}},
		{47, [6]uint64{1, g}}, {43, [6]uint64{1, g, g + 24}}, {270, [6]uint64{9, g, 0, 0, g, g + 32}}, {16, [6]uint64{1, 0x5401, g}}, {125, [6]uint64{g, g}}, {35, [6]uint64{g, g}},
	} {
		req, errno, _ := NewCall(c.nr, c.args).Gather(s)
		if errno != 0 {
			f.Fatalf("%s: errno %d", Lookup(c.nr).Name, errno)
		}
		f.Add(AppendRequest(nil, req), uint16(1<<13))
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		req, err := ParseRequest(data)
		if err != nil {
			return
		}
		checkPlan(t, req, int(size))
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add(AppendRequest(nil, Request{Nr: 1, Args: [6]uint64{1, 2, 3, 4, 5, ^uint64(0)}, Mask: 1 << 63, In: []Blob{{5, []byte("abc")}, {^mem.Addr(0), nil}}}))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRequest(data)
		if err != nil {
			return
		}
		again, err := ParseRequest(append(AppendRequest(nil, r), data...))
		if err != nil || !sameRequest(r, again) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzParseResult(f *testing.F) {
	f.Add(AppendResult(nil, Result{Ret: -516, Regular: true, Out: []Blob{{5, []byte("abc")}}}))
	f.Add(AppendResult(nil, Result{Ret: 1<<63 - 1}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseResult(data)
		if err != nil {
			return
		}
		again, err := ParseResult(AppendResult(nil, r))
		if err != nil || again.Ret != r.Ret || again.Regular != r.Regular || !sameBlobs(again.Out, r.Out) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

func sameRequest(a, b Request) bool {
	return a.Nr == b.Nr && a.Args == b.Args && a.Mask == b.Mask && a.More == b.More && sameBlobs(a.In, b.In)
}

func sameBlobs(a, b []Blob) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Addr != b[i].Addr || !bytes.Equal(a[i].Data, b[i].Data) {
			return false
		}
	}
	return true
}

func TestCodec(t *testing.T) {
	req := Request{Nr: 0xffffffff, Args: [6]uint64{0, 1, 1 << 40, 3, 4, ^uint64(0)}, Mask: 0x8000000000000001, More: true, In: []Blob{{1 << 46, []byte{1, 2}}, {0, []byte{}}}}
	data := AppendRequest(nil, req)
	got, err := ParseRequest(append(data, 0xff, 0xff))
	if err != nil || !reflect.DeepEqual(got, req) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range data {
		if _, err := ParseRequest(data[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are taken for a request", n, len(data))
		}
	}
	res := Result{Ret: -1 << 63, Regular: true, Out: []Blob{{7, []byte("seven")}}}
	data = AppendResult(nil, res)
	back, err := ParseResult(append(data, 1))
	if err != nil || !reflect.DeepEqual(back, res) {
		t.Errorf("%+v, %v", back, err)
	}
	for n := range data {
		if _, err := ParseResult(data[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are taken for a result", n, len(data))
		}
	}
}
