package tracer

import (
	"encoding/binary"

	"mosix/internal/abi"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/procfs"
)

// Roomy lifts the limits of the process on memory, as far as it could itself, until done is called: what is mapped for it meanwhile
// is not its own doing. An agent that dies in between leaves them lifted.
func (t *Thread) Roomy() (done func()) {
	limits, err := procfs.Default.Limits(t.Proc.PID)
	if err != nil {
		return func() {} // it ends just now, as the caller will find
	}
	set := func(what int, soft, hard uint64) bool {
		var b [16]byte
		binary.LittleEndian.PutUint64(b[:], soft)
		binary.LittleEndian.PutUint64(b[8:], hard)
		ret := int64(-1)
		err := t.withBytes(b[:], func(at mem.Addr) (err error) {
			ret, err = t.Call(abi.SysPrlimit, 0, uint64(what), uint64(at), 0)
			return err
		})
		return err == nil && ret == 0
	}
	var undo []func()
	for _, what := range []int{kern.LimitAS, kern.LimitData, kern.LimitMemlock} {
		l := limits[what]
		if l.Soft < l.Hard && set(what, l.Hard, l.Hard) {
			undo = append(undo, func() { set(what, l.Soft, l.Hard) })
		}
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}
