package ferry

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"mosix/internal/id"
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
	Process id.Process
	Region  *region.Region
	Clear   []mem.Range // what the shadow still holds of the memory with which the process left
	Fixed   []mem.Range // parts of files that the process shares and only reads: they are here, and cannot be put in
	// Beside runs f while no call of the guest can begin to use more of the process's own memory than the pages busy: a call
	// that waits at home may find or leave something there.
	Beside func(f func(busy []mem.Range))
	// Room prepares the shadow for areas that will come, as well as it can.
	Room func([]image.Area)
	// Quiet ends this agent's service of the guest: from then on the shadow's threads idle. Resume begins it again, by the
	// guest's last image if there is one.
	Quiet  func()
	Resume func(*image.Family)
}

// homecomer is the home's end of the journey.
type homecomer struct {
	target
	all   []*expected
	claim func() bool
	stats Stats
	froze time.Duration // how long the guests had been held when Commit was sent
}

// expected is one of the processes that come.
type expected struct {
	Returning
	mem   *os.File
	shelf pages.Shelf
	roomy bool         // Room was asked for
	known []image.Area // of the shadow, when nothing had come yet
	p     *tracer.Process
	quiet bool
	last  *image.Family // of this process alone: what is in the record
}

// Welcome takes guests back into their shadows, over s, whose Offer has been read. claim decides that the processes run here from now
// on, unless one of their guests was heard of again meanwhile. It returns the image with which the processes run again, or an
// error when the guests go on where they were.
func Welcome(env *Env, s *Stream, offer Offer, family []Returning, claim func() bool) (*image.Family, Stats, error) {
	t0 := time.Now()
	h := &homecomer{target: target{env: env, s: s, offer: offer, end: migrator.NewTarget(env.MoveLease)}, claim: claim}
	defer func() {
		for _, x := range h.all {
			if x.mem != nil {
				x.mem.Close()
			}
		}
	}()
	for _, r := range family {
		x := &expected{Returning: r}
		h.all = append(h.all, x)
		x.shelf.Zap(r.Clear)
		var err error
		if x.known, err = thaw.Known(int(r.Process.PID), r.Region); err != nil {
			return nil, h.stats, err
		}
		if x.mem, err = kern.OpenMem(int(r.Process.PID)); err != nil {
			return nil, h.stats, err
		}
	}
	if _, err := h.on(migrator.Accepted); err != nil {
		return nil, h.stats, err
	}
	if err := s.Send(wire.Accept, offer.Epoch, nil); err != nil {
		return nil, h.stats, err
	}
	err := h.collect()
	if err == nil {
		err = tracer.Run(h.run)
	}
	if err != nil && h.end.State != migrator.Running {
		var ab *AbortError
		if !errors.As(err, &ab) {
			_ = s.Send(wire.Abort, offer.Epoch, []byte(err.Error()))
		}
		return nil, h.stats, err
	}
	h.stats.Total, h.stats.Strategy = time.Since(t0), strategy(h.stats.Rounds)
	return h.family, h.stats, err
}

// collect takes memory while the guests run, and then their image.
func (h *homecomer) collect() error {
	for {
		f, err := h.s.Recv(2 * stepTime)
		if err != nil {
			return err
		}
		if f.Epoch != h.offer.Epoch {
			return fmt.Errorf("a frame of epoch %d in a move to epoch %d", f.Epoch, h.offer.Epoch)
		}
		x := h.all[h.member]
		switch f.Type {
		case wire.Ping:
			err = h.s.pong(f.Epoch)
		case wire.Member:
			h.member, err = h.offer.member(f.Payload)
		case wire.Layout:
			err = x.layout(f.Payload)
		case wire.Pages:
			h.stats.Bytes += uint64(len(f.Payload))
			err = x.page(f.Payload)
		case wire.RoundEnd:
			h.stats.Rounds++
			err = errors.Join(h.s.Send(wire.RoundAck, f.Epoch, nil), AtPages.Hit())
		case wire.Final:
			if h.family, err = image.Decode(f.Payload); err == nil {
				err = h.fits()
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

// fits makes sure that the image is of those who were to come.
func (h *homecomer) fits() error {
	f := h.family
	if f.Process != h.offer.Process || f.Epoch != h.offer.Epoch || len(f.Members) != len(h.all) {
		return fmt.Errorf("the image is of %v, epoch %d, with %d processes; due was %v, epoch %d, with %d", f.Process, f.Epoch, len(f.Members), h.offer.Process, h.offer.Epoch, len(h.all))
	}
	for i, x := range h.all {
		if f.Members[i].PID != x.Process.PID {
			return fmt.Errorf("process %d of the image is %d; due was %v", i, f.Members[i].PID, x.Process)
		}
		if err := x.clear(f.Members[i].Areas); err != nil {
			return err
		}
	}
	return nil
}

// layout makes room for the areas of the first round, and notes what is to be emptied.
func (h *expected) layout(payload []byte) error {
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
		h.Room(as)
	}
	return nil
}

// clear refuses areas where the shared page is.
func (h *expected) clear(as []image.Area) error {
	for _, a := range as {
		if a.Overlaps(h.Region.Range()) {
			return fmt.Errorf("the guest has an area %v where the shared page is", a.Range)
		}
	}
	return nil
}

// page puts a frame into the shadow, as far as its areas exist there; the rest waits until they do.
func (h *expected) page(frame []byte) error {
	rs, data, err := pages.Parse(frame)
	if err != nil {
		return err
	}
	ours := h.Region.Range()
	for _, r := range rs {
		if r.Overlaps(ours) {
			return fmt.Errorf("the guest sent memory for the shared page at %v", r)
		}
	}
	if rs, data = without(rs, data, h.Fixed); len(rs) == 0 {
		return nil
	}
	kept := false
	h.Beside(func(busy []mem.Range) {
		now, dataNow := without(rs, data, busy)
		later, dataLater := within(rs, data, busy)
		for _, r := range later {
			n := int(r.Len())
			h.shelf.Hold(r, dataLater[:n:n])
			dataLater = dataLater[n:]
		}
		kept = len(now) > 0 && h.shelf.Put(int(h.Process.PID), h.mem, now, dataNow)
	})
	if !kept {
		reuse(frame)
	}
	return nil
}

// within leaves in the ranges rs, and in their bytes, what is in some as well: a copy.
func within(rs []mem.Range, data []byte, some []mem.Range) (out []mem.Range, kept []byte) {
	at := mem.Addr(0)
	for _, r := range rs {
		whole := []mem.Range{r}
		for _, x := range mem.Subtract(whole, mem.Subtract(whole, some)) {
			out = append(out, x)
			kept = append(kept, data[at+x.Start-r.Start:at+x.End-r.Start]...)
		}
		at += mem.Addr(r.Len())
	}
	return out, kept
}

// back makes the held shadow be the process again.
func (env *Env) back(p *tracer.Process, f *image.Family) error {
	err := thaw.Back(p, f)
	if errors.Is(err, thaw.ErrTooManySignals) {
		env.Log.Warn("a process is home without all of its signals", "process", f.Process, "err", err)
		return nil
	}
	return err
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

// run holds the shadows, completes their memory, and when Commit has come makes them the processes again.
func (h *homecomer) run() error {
	var took phases
	took.mark("")
	defer func() {
		for _, x := range h.all {
			if x.p != nil {
				x.p.Close()
			}
		}
	}()
	for i, x := range h.all {
		if err := h.fill(i, x); err != nil {
			return h.back(err)
		}
	}
	took.mark("fill")
	if err := AtComplete.Hit(); err != nil {
		return h.back(err)
	}
	// With the image in the record a new agent can do the rest. The guest makes no call before it has attached again, so the
	// image stays true until then, whatever the guest computes.
	for i, x := range h.all {
		own := &image.Family{Process: x.Process, Epoch: h.family.Epoch, Members: h.family.Members[i : i+1]}
		if err := x.Region.PutRecord(own.Encode()); err != nil {
			return h.back(err)
		}
		x.last = own
	}
	for _, x := range h.all { // one of a family decides for all: see node's expire
		atomic.StoreUint32(&x.Region.Header().State, stub.StateReturning)
	}
	if _, err := h.on(migrator.BeReady); err != nil {
		return h.back(err)
	}
	if err := h.s.Send(wire.Ready, h.offer.Epoch, nil); err != nil {
		return h.back(err)
	}
	if err := AtSaidReady.Hit(); err != nil {
		return h.back(err)
	}
	if err := h.commit(); err != nil {
		return h.back(err)
	}
	took.mark("commit")
	for _, x := range h.all { // from here on each is home by itself
		x.Region.Header().FamilyPID = 0
	}
	for _, x := range h.all {
		hd := x.Region.Header()
		hd.Epoch, hd.State = uint64(h.family.Epoch), stub.StateParked
	}
	if err := AtGotCommit.Hit(); err != nil {
		return err
	}
	b0 := time.Now()
	h.env.awaitClocks(h.family, thaw.Clocks{Real: h.env.realOffset()}, true)
	for _, x := range h.all {
		if err := h.env.back(x.p, x.last); err != nil {
			return err
		}
		h.env.Log.Debug("thawed at home", "process", x.Process, "shelved", x.shelf.Bytes(), "emptied", len(x.shelf.Zaps()))
	}
	h.stats.Freeze = h.froze + time.Since(b0)
	took.mark("back")
	h.env.Log.Debug("all thawed at home", append([]any{"process", h.offer.Process}, took.took...)...)
	if err := AtRun.Hit(); err != nil {
		return err
	}
	return errors.Join(h.s.Send(wire.Running, h.offer.Epoch, nil), AtSaidRunning.Hit())
}

// fill holds one shadow and makes its memory that of its image.
func (h *homecomer) fill(i int, x *expected) (err error) {
	x.Quiet()
	x.quiet = true
	if x.p, err = tracer.Open(int(x.Process.PID), h.env.Code); err != nil {
		return err
	}
	if err := thaw.Hold(x.p, x.Region); err != nil {
		return err
	}
	return thaw.Fill(x.p, &h.family.Members[i], &x.shelf, x.known)
}

// back lets the shadows be shadows again.
func (h *homecomer) back(cause error) error {
	for _, x := range h.all {
		if x.p != nil {
			for _, t := range x.p.Held() {
				cause = errors.Join(cause, t.Release())
			}
		}
		if x.quiet {
			x.Resume(x.last)
		}
	}
	return cause
}

// commit waits for Commit. Where it does not come, nothing is decided here: the guests attach again, or their lease ends them, and
// then the records are the processes.
func (h *homecomer) commit() error {
	f, err := h.s.awaitCommit(h.env.MoveLease, func() {
		// The guests end within the lease of a move, counted from a moment before this one.
		for _, x := range h.all {
			atomic.StoreUint64(&x.Region.Header().LeaseEnd, uint64(h.now()+h.env.MoveLease+migrator.Margin))
		}
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
	if !h.claim() {
		return errors.New("the word to commit came after the guest was heard of again: it goes on where it is")
	}
	h.froze = time.Duration(pack.NewReader(f.Payload).U64())
	h.end.State = migrator.Running
	return nil
}
