package ferry

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/pack"
	"mosix/internal/region"
	"mosix/internal/stub"
	"mosix/internal/tracer"
	"mosix/internal/wire"
	"mosix/migrator"
	"mosix/migrator/pages"
	"mosix/migrator/thaw"
)

// Returning is a process that comes home.
type Returning struct {
	Offer  Offer
	Region *region.Region
	Clear  []mem.Range // what the shadow still holds of the memory with which the process left
	Fixed  []mem.Range // parts of files that the process shares and only reads: they are here, and cannot be put in
	// Room prepares the shadow for areas that will come, as well as it can.
	Room func([]image.Area)
	// Quiet ends this agent's service of the guest: from then on the shadow's threads idle. Resume begins it again, by the
	// guest's last image if there is one.
	Quiet  func()
	Resume func(*image.Family)
	// Claim decides that the process runs here from now on, unless its guest was heard of again meanwhile.
	Claim func() bool
}

// homecomer is the home's end of the journey.
type homecomer struct {
	target
	r     Returning
	mem   *os.File
	stats Stats
	froze time.Duration // how long the guest had been held when Commit was sent
	shelf pages.Shelf
	roomy bool         // Room was asked for
	known []image.Area // of the shadow, when nothing had come yet
}

// Welcome takes a guest back into its shadow, over s, whose Offer has been read. It returns the image with which the process
// runs again, or an error when the guest goes on where it was.
func Welcome(env *Env, s *Stream, r Returning) (*image.Family, Stats, error) {
	t0 := time.Now()
	h := &homecomer{target: target{env: env, s: s, offer: r.Offer, end: migrator.NewTarget(env.MoveLease)}, r: r}
	h.shelf.Zap(r.Clear)
	var err error
	if h.known, err = thaw.Known(int(r.Offer.Process.PID), r.Region); err != nil {
		return nil, h.stats, err
	}
	if _, err := h.on(migrator.Accepted); err != nil {
		return nil, h.stats, err
	}
	if err := s.Send(wire.Accept, r.Offer.Epoch, nil); err != nil {
		return nil, h.stats, err
	}
	m, err := kern.OpenMem(int(r.Offer.Process.PID))
	if err != nil {
		return nil, h.stats, err
	}
	h.mem = m
	defer m.Close()
	err = h.collect()
	if err == nil {
		err = tracer.Run(h.run)
	}
	if err != nil && h.end.State != migrator.Running {
		var ab *AbortError
		if !errors.As(err, &ab) {
			_ = s.Send(wire.Abort, r.Offer.Epoch, []byte(err.Error()))
		}
		return nil, h.stats, err
	}
	h.stats.Total, h.stats.Strategy = time.Since(t0), strategy(h.stats.Rounds)
	return h.family, h.stats, err
}

// collect takes memory while the guest runs, and then its image.
func (h *homecomer) collect() error {
	for {
		f, err := h.s.Recv(2 * stepTime)
		if err != nil {
			return err
		}
		if f.Epoch != h.offer.Epoch {
			return fmt.Errorf("a frame of epoch %d in a move to epoch %d", f.Epoch, h.offer.Epoch)
		}
		switch f.Type {
		case wire.Ping:
			err = h.s.pong(f.Epoch)
		case wire.Layout:
			err = h.layout(f.Payload)
		case wire.Pages:
			h.stats.Bytes += uint64(len(f.Payload))
			err = h.page(f.Payload)
		case wire.RoundEnd:
			h.stats.Rounds++
			err = errors.Join(h.s.Send(wire.RoundAck, f.Epoch, nil), AtPages.Hit())
		case wire.Final:
			h.family, err = image.Decode(f.Payload)
			if err == nil && (h.family.Process != h.offer.Process || h.family.Epoch != h.offer.Epoch) {
				err = fmt.Errorf("the image is of %v, epoch %d; due was %v, epoch %d", h.family.Process, h.family.Epoch, h.offer.Process, h.offer.Epoch)
			}
			if err == nil {
				err = h.clear(h.family.Members[0].Areas)
			}
			if err == nil {
				_, err = h.on(migrator.GotFinal)
			}
			return err
		case wire.Abort:
			_, _ = h.on(migrator.DoAbort)
			return &AbortError{Why: string(f.Payload)}
		default:
			err = fmt.Errorf("a frame of type %d on the way home", f.Type)
		}
		if err != nil {
			return err
		}
	}
}

// layout makes room for the areas of the first round, and notes what is to be emptied.
func (h *homecomer) layout(payload []byte) error {
	as, zap, err := decodeLayout(payload)
	if err != nil {
		return err
	}
	if err := h.clear(as); err != nil {
		return err
	}
	h.shelf.Zap(zap)
	if !h.roomy {
		h.roomy = true
		h.r.Room(as)
	}
	return nil
}

// clear refuses areas where the shared page is.
func (h *homecomer) clear(as []image.Area) error {
	for _, a := range as {
		if a.Overlaps(h.r.Region.Range()) {
			return fmt.Errorf("the guest has an area %v where the shared page is", a.Range)
		}
	}
	return nil
}

// page puts a frame into the shadow, as far as its areas exist there; the rest waits until they do.
func (h *homecomer) page(frame []byte) error {
	rs, data, err := pages.Parse(frame)
	if err != nil {
		return err
	}
	ours := h.r.Region.Range()
	for _, r := range rs {
		if r.Overlaps(ours) {
			return fmt.Errorf("the guest sent memory for the shared page at %v", r)
		}
	}
	rs, data = without(rs, data, h.r.Fixed)
	if len(rs) == 0 {
		return nil
	}
	if !h.shelf.Put(int(h.offer.Process.PID), h.mem, rs, data) {
		reuse(frame)
	}
	return nil
}

// without leaves fixed out of the ranges rs and out of their bytes.
func without(rs []mem.Range, data []byte, fixed []mem.Range) ([]mem.Range, []byte) {
	touched := false
	for _, r := range rs {
		for _, f := range fixed {
			touched = touched || r.Overlaps(f)
		}
	}
	if !touched {
		return rs, data
	}
	var out []mem.Range
	var kept []byte
	at := mem.Addr(0)
	for _, r := range rs {
		for _, x := range mem.Subtract([]mem.Range{r}, fixed) {
			out = append(out, x)
			kept = append(kept, data[at+x.Start-r.Start:at+x.End-r.Start]...)
		}
		at += mem.Addr(r.Len())
	}
	return out, kept
}

// run holds the shadow, completes its memory, and when Commit has come makes it the process again.
func (h *homecomer) run() error {
	pid := int(h.offer.Process.PID)
	var took phases
	took.mark("")
	h.r.Quiet()
	took.mark("quiet")
	var last *image.Family
	p, err := tracer.Open(pid, h.env.Code)
	if err != nil {
		h.r.Resume(last)
		return err
	}
	defer p.Close()
	back := func(cause error) error {
		for _, t := range p.Held() {
			cause = errors.Join(cause, t.Release())
		}
		h.r.Resume(last)
		return cause
	}
	if err := thaw.Hold(p, h.r.Region); err != nil {
		return back(err)
	}
	took.mark("hold")
	if err := thaw.Fill(p, h.family, &h.shelf, h.known); err != nil {
		return back(err)
	}
	took.mark("fill")
	if err := AtComplete.Hit(); err != nil {
		return back(err)
	}
	// With the image in the record a new agent can do the rest. The guest makes no call before it has attached again, so the
	// image stays true until then, whatever the guest computes.
	if err := h.r.Region.PutRecord(h.family.Encode()); err != nil {
		return back(err)
	}
	atomic.StoreUint32(&h.r.Region.Header().State, stub.StateReturning)
	last = h.family
	if _, err := h.on(migrator.BeReady); err != nil {
		return back(err)
	}
	if err := h.s.Send(wire.Ready, h.offer.Epoch, nil); err != nil {
		return back(err)
	}
	if err := AtSaidReady.Hit(); err != nil {
		return back(err)
	}
	if err := h.commit(); err != nil {
		return back(err)
	}
	took.mark("commit")
	hd := h.r.Region.Header()
	hd.Epoch, hd.State = uint64(h.family.Epoch), stub.StateParked
	if err := AtGotCommit.Hit(); err != nil {
		return err
	}
	b0 := time.Now()
	h.env.awaitClocks(h.family, h.env.readings(thaw.Clocks{Real: h.env.Realtime() - kern.Now(kern.ClockMonotonic)}))
	if err := thaw.Back(p, h.family); err != nil {
		return err
	}
	h.stats.Freeze = h.froze + time.Since(b0)
	took.mark("back")
	h.env.Log.Debug("thawed at home", append([]any{"process", h.offer.Process, "shelved", h.shelf.Bytes(), "emptied", len(h.shelf.Zaps())}, took.took...)...)
	if err := AtRun.Hit(); err != nil {
		return err
	}
	return errors.Join(h.s.Send(wire.Running, h.offer.Epoch, nil), AtSaidRunning.Hit())
}

// commit waits for Commit. Where it does not come, nothing is decided here: the guest attaches again, or its lease ends it, and
// then the record is the process.
func (h *homecomer) commit() error {
	f, err := h.s.awaitCommit(h.env.MoveLease, func() {
		// The guest ends within the lease of a move, counted from a moment before this one.
		atomic.StoreUint64(&h.r.Region.Header().LeaseEnd, uint64(h.now()+h.env.MoveLease+migrator.Margin))
	})
	switch {
	case err != nil:
		return fmt.Errorf("the way home was cut before Commit; the guest goes on there, or the process here when the guest's lease is over: %w", err)
	case f.Type == wire.Abort:
		_, _ = h.on(migrator.DoAbort)
		return &AbortError{Why: string(f.Payload)}
	case f.Type != wire.Commit || f.Epoch != h.offer.Epoch:
		return fmt.Errorf("a frame of type %d, epoch %d, where Commit was due", f.Type, f.Epoch)
	}
	if !h.r.Claim() {
		return errors.New("the word to commit came after the guest was heard of again: it goes on where it is")
	}
	h.froze = time.Duration(pack.NewReader(f.Payload).U64())
	h.end.State = migrator.Running
	return nil
}
