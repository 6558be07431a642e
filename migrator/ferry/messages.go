package ferry

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/internal/mem"
	"mosix/internal/pack"
	"mosix/internal/wire"
	"mosix/migrator/thaw"
)

// Offer says what would come.
type Offer struct {
	Process  id.Process
	Others   []id.Process // of its family, of the same home: they come with it
	Epoch    id.Epoch     // that the move would begin, for all of them
	Homeward bool         // the process returns to its shadow
	UID      uint32
	Command  string
	Threads  uint32
	Bytes    uint64 // of memory, as far as it is known
	Ready    float64
	CPUTime  uint64 // used so far, ns
	VDSO     string // build id of home's vDSO
	Features []string
	Auto     bool    // a balancer's decision, not a user's
	Cause    string  // why, as api.Move.Cause
	Load     float64 // of the source, counting the process
	CPUs     float64 // of the source
	Speed    float64 // of the source
	Explicit bool
	Relief   bool // memory is short at the source
}

// Encode and DecodeOffer are the form on the wire.
func (o Offer) Encode() []byte {
	w := &pack.Writer{}
	w.String(string(o.Process.Home))
	w.U32(uint32(o.Process.PID))
	w.U64(o.Process.Start)
	w.U64(uint64(o.Epoch))
	w.Bool(o.Homeward)
	w.U32(o.UID)
	w.String(o.Command)
	w.U32(o.Threads)
	w.U64(o.Bytes)
	w.U64(uint64(o.Ready * 1000))
	w.U64(o.CPUTime)
	w.String(o.VDSO)
	w.U32(uint32(len(o.Features)))
	for _, f := range o.Features {
		w.String(f)
	}
	w.Bool(o.Auto)
	w.String(o.Cause)
	for _, v := range []float64{o.Load, o.CPUs, o.Speed} {
		w.U64(math.Float64bits(v))
	}
	w.Bool(o.Relief)
	w.U32(uint32(len(o.Others)))
	for _, p := range o.Others {
		w.U32(uint32(p.PID))
		w.U64(p.Start)
	}
	return w.B
}

// Family lists the processes, the first member first.
func (o *Offer) Family() []id.Process { return append([]id.Process{o.Process}, o.Others...) }

// DecodeOffer reads one.
func DecodeOffer(b []byte) (Offer, error) {
	r := pack.NewReader(b)
	o := Offer{Process: id.Process{Home: id.Node(r.String()), PID: id.HomePID(r.U32()), Start: r.U64()}, Epoch: id.Epoch(r.U64()),
		Homeward: r.Bool(), UID: r.U32(), Command: r.String(), Threads: r.U32(), Bytes: r.U64(), Ready: float64(r.U64()) / 1000,
		CPUTime: r.U64(), VDSO: r.String()}
	n := r.Count(4)
	for i := 0; i < n && r.Err() == nil; i++ {
		o.Features = append(o.Features, r.String())
	}
	o.Auto = r.Bool()
	o.Explicit, o.Cause = !o.Auto, r.String()
	for _, v := range []*float64{&o.Load, &o.CPUs, &o.Speed} {
		*v = math.Float64frombits(r.U64())
	}
	o.Relief = r.Bool()
	n = r.Count(12)
	if n >= image.MaxMembers {
		return o, fmt.Errorf("a family of %d processes, the limit is %d", n+1, image.MaxMembers)
	}
	seen := map[id.HomePID]bool{o.Process.PID: true}
	for range n {
		p := id.Process{Home: o.Process.Home, PID: id.HomePID(r.U32()), Start: r.U64()}
		if seen[p.PID] && r.Err() == nil {
			return o, fmt.Errorf("process %d is twice in the family of %v", p.PID, o.Process)
		}
		seen[p.PID] = true
		o.Others = append(o.Others, p)
	}
	return o, r.Err()
}

func encodePlan(p thaw.Plan) []byte {
	w := &pack.Writer{}
	w.U32(uint32(len(p.TIDs)))
	for _, t := range p.TIDs {
		w.U32(uint32(t))
	}
	w.U64(uint64(p.VDSO.Data))
	w.U64(uint64(p.Base))
	w.U64(uint64(p.Clocks.Mono))
	w.U64(uint64(p.Clocks.Boot))
	w.U64(uint64(p.Clocks.Real))
	for _, l := range p.Limits {
		w.U64(l[0])
		w.U64(l[1])
	}
	w.U64(uint64(p.VDSO.At))
	w.Bytes(p.VDSO.Code)
	return w.B
}

func decodePlan(b []byte, p *thaw.Plan) error {
	r := pack.NewReader(b)
	n := r.Count(4)
	for range n {
		p.TIDs = append(p.TIDs, id.HomePID(r.U32()))
	}
	p.VDSO.Data, p.Base = mem.Addr(r.U64()), mem.Addr(r.U64())
	p.Clocks = thaw.Clocks{Mono: int64(r.U64()), Boot: int64(r.U64()), Real: int64(r.U64())}
	for i := range p.Limits {
		p.Limits[i] = [2]uint64{r.U64(), r.U64()}
	}
	p.VDSO.At = mem.Addr(r.U64())
	p.VDSO.Code = bytes.Clone(r.Bytes())
	return errors.Join(r.Err(), p.VDSO.Check())
}

func encodeLayout(as []image.Area, zap []mem.Range) []byte {
	w := &pack.Writer{}
	image.EncodeAreas(w, as)
	w.U32(uint32(len(zap)))
	for _, z := range zap {
		w.U64(uint64(z.Start))
		w.U64(uint64(z.End))
	}
	return w.B
}

func decodeLayout(b []byte) ([]image.Area, []mem.Range, error) {
	r := pack.NewReader(b)
	as := image.DecodeAreas(r)
	n := r.Count(16)
	var zap []mem.Range
	for range n {
		zap = append(zap, mem.Range{Start: mem.Addr(r.U64()), End: mem.Addr(r.U64())})
	}
	if r.Err() == nil {
		if err := image.CheckAreas(as); err != nil {
			return nil, nil, err
		}
	}
	return as, zap, r.Err()
}

// ReadOffer takes the first frames of a move that another node begins.
func ReadOffer(s *Stream) (Offer, error) {
	if err := s.Hello(); err != nil {
		return Offer{}, err
	}
	s.Guard()
	f, err := s.Expect(wire.Offer, stepTime)
	if err != nil {
		return Offer{}, err
	}
	return DecodeOffer(f.Payload)
}
