package thaw

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"mosix/internal/abi"
	"mosix/internal/fault"
	"mosix/internal/image"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/stub"
	"mosix/internal/tracer"
)

// A program holds addresses in its vDSO, so a guest has the vDSO of its home's kernel, at the same place. Where the host runs the
// same kernel that is the host's own. Elsewhere it is a copy, with empty pages in the place of the kernel's data: the clocks ask
// the kernel (see PatchClocks), and the rest finds that there are no data, and does so too.

// VDSODiffers, armed with an error, makes guests that come here have copies of their home's vDSO although the kernels are the
// same: a test of what is only seen between machines.
var VDSODiffers = fault.Register("vdso-differs")

// VDSO is the vDSO of a process: its code, and where that lies.
type VDSO struct {
	Data mem.Addr // where the kernel's pages begin, which lie before it; 0: there is none
	At   mem.Addr
	Code []byte // as the kernel has made it
}

// mostVDSO bounds what may be one, with the kernel's pages, in bytes.
const mostVDSO = 256 << 10

// Check refuses what no kernel makes.
func (v *VDSO) Check() error {
	whole := v.whole()
	if v.Data != 0 && (v.Data.Page() != v.Data || v.At.Page() != v.At || v.At < v.Data || len(v.Code)%mem.PageSize != 0 || whole.End <= v.At || whole.Len() > mostVDSO) {
		return fmt.Errorf("home's vDSO lies at %v, with its code of %d bytes at %v: no kernel does that", v.Data, len(v.Code), v.At)
	}
	return nil
}

func (v *VDSO) whole() mem.Range {
	return mem.Range{Start: v.Data, End: v.At + mem.Addr(len(v.Code))}
}

// ownVDSO is the code that this machine's kernel gives to its programs.
var ownVDSO = sync.OnceValues(func() ([]byte, error) {
	r, _, err := findVDSO(os.Getpid(), "[vdso]")
	if err != nil {
		return nil, err
	}
	b := make([]byte, r.Len())
	if _, err := kern.ReadVM(os.Getpid(), b, r); err != nil {
		return nil, fmt.Errorf("read the vDSO: %w", err)
	}
	return b, nil
})

// VDSOOf says what vDSO a process of this home has, whose [vvar] begins at vvar (0: it has none).
func VDSOOf(pid int, vvar mem.Addr) (VDSO, error) {
	if vvar == 0 {
		return VDSO{}, nil
	}
	v := VDSO{Data: vvar}
	r, _, err := findVDSO(pid, "[vdso]")
	if errors.Is(err, errNoVDSO) { // it has unmapped it, and not what belongs to it
		return VDSO{}, nil
	}
	if err != nil {
		return v, err
	}
	v.At = r.Start
	v.Code, err = ownVDSO()
	return v, err
}

// found is the vDSO of a process.
type found struct {
	at     mem.Range
	code   []byte // as a kernel has made it
	copied bool   // from its home's
}

// vdsoOf finds the vDSO of a process here, be it a guest with a copy of its home's.
func vdsoOf(p *tracer.Process) (v found, err error) {
	v.at, _, err = findVDSO(p.PID, "[vdso]")
	if err == nil {
		v.code, err = ownVDSO()
		return v, err
	}
	if !errors.Is(err, errNoVDSO) || p.Region == nil || p.Region.Header().State != stub.StateGuest {
		return v, err
	}
	at, off, err := findVDSO(p.PID, image.VDSOName)
	if err != nil {
		return v, err
	}
	// Not the guest's own pages, in which it can write: the file behind them is sealed.
	f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", p.PID, uint64(at.Start), uint64(at.End)))
	if err != nil {
		return v, fmt.Errorf("open the vDSO of process %d: %w", p.PID, err)
	}
	defer f.Close()
	v = found{at: at, code: make([]byte, min(at.Len(), mostVDSO)), copied: true}
	_, err = f.ReadAt(v.code, int64(off))
	return v, err
}

// errNoVDSO says that a process has none, or none any more.
var errNoVDSO = errors.New("it has no vDSO")

// findVDSO finds the code of the vDSO of a process, and from where in its file it is mapped. name is how its map calls it.
func findVDSO(pid int, name string) (r mem.Range, off uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return r, 0, fmt.Errorf("%w (%v)", tracer.ErrGone, err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 6 || !strings.HasSuffix(line, name+"\n") || !strings.Contains(f[1], "x") {
			continue
		}
		lo, hi, _ := strings.Cut(f[0], "-")
		s, err1 := strconv.ParseUint(lo, 16, 64)
		e, err2 := strconv.ParseUint(hi, 16, 64)
		off, err3 := strconv.ParseUint(f[2], 16, 64)
		if err1 == nil && err2 == nil && err3 == nil {
			return mem.Range{Start: mem.Addr(s), End: mem.Addr(e)}, off, nil
		}
	}
	return r, 0, fmt.Errorf("process %d: %w", pid, errNoVDSO)
}

// Foreign reports whether the guest has a copy of home's vDSO, since this node's kernel has another.
func (g *Guest) Foreign() bool { return g.foreign }

// mapVDSO gives the empty process the vDSO of its home.
func (g *Guest) mapVDSO(l *tracer.Thread) error {
	v := &g.Plan.VDSO
	if v.Data == 0 {
		return nil
	}
	if v.whole().Overlaps(g.P.Region.Range()) {
		return fmt.Errorf("home's vDSO at %v overlaps the shared page at %v", v.whole(), g.P.Region.Base)
	}
	own, err := ownVDSO()
	if g.foreign = err != nil || !bytes.Equal(own, v.Code) || VDSODiffers.Hit() != nil; !g.foreign {
		_, err := l.MustCall("map the vDSO", abi.SysArchPrctl, abi.ArchMapVDSO64, uint64(v.Data))
		return err
	}
	at, b := scratchAt(g.P, 0)
	copy(b, append([]byte(image.VDSOFile), 0))
	const cloexecSealing = 1 | 2
	fd, err := l.MustCall("memfd_create", abi.SysMemfdCreate, at, cloexecSealing)
	if err != nil {
		return err
	}
	f, err := kern.PidfdGetfd(g.P.Pidfd, int(fd), image.VDSOFile)
	if err != nil {
		return err
	}
	defer f.Close()
	off := int64(v.At - v.Data)
	if _, err = f.WriteAt(v.Code, off); err == nil {
		err = kern.SealWrites(f)
	}
	if err != nil {
		return fmt.Errorf("make a copy of home's vDSO: %w", err)
	}
	calls := []stub.Call{tracer.NewCall(abi.SysMmap, uint64(v.At), uint64(len(v.Code)), abi.ProtRead|abi.ProtExec, abi.MapPrivate|abi.MapFixed, uint64(fd), uint64(off))}
	if off > 0 {
		calls = append(calls, tracer.NewCall(abi.SysMmap, uint64(v.Data), uint64(off), abi.ProtRead, abi.MapPrivate|abi.MapFixed, uint64(fd), 0))
	}
	_, err = l.MustBatch("map a copy of home's vDSO", append(calls, tracer.NewCall(abi.SysClose, uint64(fd))))
	return err
}
