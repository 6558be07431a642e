package homeproxy

import (
	"testing"

	"mosix/internal/mem"
)

// TestWriteFromTheEdgeOfMemory writes what is accessible, as the kernel does.
func TestWriteFromTheEdgeOfMemory(t *testing.T) {
	s := &space{}
	s.add(guestBase, 4096)
	c := NewCall(1, [6]uint64{1, uint64(guestBase) + 4000, 500})
	req, errno, _ := c.Gather(s)
	if errno != 0 || req.Args[2] != 96 {
		t.Fatalf("errno %d, %d bytes", errno, req.Args[2])
	}
	if ret, again := c.Scatter(Result{Ret: 96}, s); ret != 96 || again {
		t.Errorf("%d, again %v", ret, again)
	}
	req, errno, _ = NewCall(1, [6]uint64{1, uint64(guestBase) - 1, 5}).Gather(s)
	if plan, _ := Lay(req, slotBase, MaxData); errno != 0 || plan.Args[1] != nowhere || plan.Args[2] != 5 {
		t.Errorf("errno %d for memory that is not there, home is asked for %#x", errno, plan.Args)
	}
}

// TestReadBeyondTheEdge: the program's buffer ends early; what fits is the result.
func TestReadBeyondTheEdge(t *testing.T) {
	s := &space{}
	s.add(guestBase, 4096)
	c := NewCall(0, [6]uint64{0, uint64(guestBase) + 4000, 500})
	req, _, _ := c.Gather(s)
	res, _ := serve(t, req, MaxData, 500)
	if ret, _ := c.Scatter(res, s); ret != 96 {
		t.Errorf("read returns %d, want the 96 bytes that fitted", ret)
	}
	c = NewCall(5, [6]uint64{0, uint64(guestBase) + 4000})
	req, _, _ = c.Gather(s)
	res, _ = serve(t, req, MaxData, 0)
	if ret, _ := c.Scatter(res, s); ret != -efault {
		t.Errorf("fstat returns %d, want EFAULT", ret)
	}
}

// TestGoOn: a call of which a part is done elsewhere goes on behind that, and ends with both.
func TestGoOn(t *testing.T) {
	s := &space{}
	b := s.add(guestBase, 4096).b
	for i := range b {
		b[i] = byte(i)
	}
	g := uint64(guestBase)
	c := NewCall(1, [6]uint64{1, g, 500})
	c.GoOn(200)
	req, _, _ := c.Gather(s)
	if req.Args[1] != g+200 || req.Args[2] != 300 || len(req.In) != 1 || req.In[0].Data[0] != 200 {
		t.Errorf("the rest of a write is %#x", req.Args)
	}
	if ret, again := c.Scatter(Result{Ret: 100}, s); ret != 300 || again || !c.Short(Result{Ret: 100}) {
		t.Errorf("100 bytes more make %d, again %v", ret, again)
	}
	if req, _, _ = c.Gather(s); req.Args[1] != g+300 {
		t.Errorf("the third part begins at %#x", req.Args[1])
	}
	if ret, _ := c.Scatter(Result{Ret: -11}, s); ret != 300 {
		t.Errorf("where no more can be written it ends with %d", ret)
	}
	c = NewCall(nrSendfile, [6]uint64{1, 3, 0, 1000})
	c.GoOn(400)
	if req, _, _ = c.Gather(s); req.Args[3] != 600 {
		t.Errorf("the rest of sendfile is %d", req.Args[3])
	}
	if ret, _ := c.Scatter(Result{Ret: 600}, s); ret != 1000 {
		t.Errorf("all of sendfile is %d", ret)
	}
	c = NewCall(nrSendmmsg, [6]uint64{3, g, 6})
	c.GoOn(2)
	if c.Args[1] != g+2*sizeMMsghdr || c.Args[2] != 4 || c.Total() != 2 {
		t.Errorf("the rest of sendmmsg is %#x", c.Args)
	}
}

// probing is memory that can be asked before it is written.
type probing struct{ *space }

func (p probing) Writable(a mem.Addr, n int) int { return len(p.from(a, n, true)) }

// TestWithheld: home is not told to take what the guest's memory cannot hold.
func TestWithheld(t *testing.T) {
	s := probing{&space{}}
	s.add(guestBase, 4096)
	s.add(guestBase+2*4096, 4096).ro = true
	edge, locked := uint64(guestBase)+4000, uint64(guestBase)+2*4096
	for _, c := range []struct {
		name string
		nr   uint32
		args [6]uint64
		want [6]uint64
	}{
		{"read that fits", 0, [6]uint64{0, edge, 96}, [6]uint64{0, edge, 96}},
		{"read over the edge", 0, [6]uint64{0, edge, 500}, [6]uint64{0, edge, 96}},
		{"read into what may only be read", 0, [6]uint64{0, locked, 5}, [6]uint64{0, nowhere, 5}},
		{"fstat over the edge", 5, [6]uint64{0, edge}, [6]uint64{0, nowhere}},
		{"getcwd over the edge", 79, [6]uint64{edge, 500}, [6]uint64{edge, 500}},
		{"pipe into nothing", 22, [6]uint64{0xdead000}, [6]uint64{nowhere}},
	} {
		req, errno, _ := NewCall(c.nr, c.args).Gather(s)
		if errno != 0 || req.Args != c.want {
			t.Errorf("%s: errno %d, arguments %#x, want %#x", c.name, errno, req.Args, c.want)
			continue
		}
		plan, errno := Lay(req, slotBase, MaxData)
		for i, a := range c.want {
			if a == nowhere && (plan.Args[i] != nowhere || len(plan.Outs) > 0) {
				t.Errorf("%s: errno %d, home's plan has %#x and writes %v", c.name, errno, plan.Args[i], plan.Outs)
			}
		}
	}
}
