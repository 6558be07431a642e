package stub

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"mosix/internal/mem"
)

func blobAddr() unsafe.Pointer

// blob is the code itself. Only its address is taken, by the assembly of blobAddr.
//
//lint:ignore U1000 the assembly refers to it
func blob()

// Marks in the code, as MARK(n) in the assembly numbers them.
const (
	markEntry    = 1
	markSingle   = 2
	markBatch    = 3
	markBatchEnd = 4
	markLoop     = 5
	markTaken    = 6
	markCallSys  = 7
	markCallEnd  = 8
	markRecorder = 9
	markRestorer = 10
	markKeeper   = 11
	markClock    = 12
	markEnd      = 13
	markDay      = 14
	markTime     = 15
	markClone    = 16
	markCloneEnd = 17
	markFault    = 18
	marks        = 18
)

// Offsets into the code.
type Offsets struct {
	Entry, Single, Batch, BatchEnd, Loop, Taken, CallSys, CallEnd, Recorder, Restorer, Keeper, Clock, Day, Time mem.Addr
	Clone, CloneEnd                                                                                             mem.Addr // around the call that makes somebody
	Fault, FaultEnd                                                                                             mem.Addr // the handler of faults
}

// Code is the stub's machine code and where things are in it.
type Code struct {
	Bytes []byte
	At    Offsets
}

// Load copies the stub's code out of this program.
func Load() *Code {
	b := unsafe.Slice((*byte)(blobAddr()), CodeSize)
	var at [marks + 1]int
	for i := 0; i+8 <= len(b); i++ {
		if b[i] == 0x0f && b[i+1] == 0x1f && b[i+2] == 0x84 && b[i+3] == 0 {
			if m := binary.LittleEndian.Uint32(b[i+4:]); m>>16 == 0x4d53 {
				n := int(m & 0xffff)
				if n <= marks && at[n] == 0 {
					at[n] = i + 8
				}
				if n == markEnd {
					break
				}
			}
		}
	}
	for n := 1; n <= marks; n++ {
		if at[n] == 0 {
			panic(fmt.Sprintf("stub: mark %d is missing in the code: the assembler has changed it", n))
		}
	}
	a := func(n int) mem.Addr { return mem.Addr(at[n]) }
	return &Code{
		Bytes: append([]byte(nil), b[:at[markEnd]]...),
		At: Offsets{
			Entry: a(markEntry), Single: a(markSingle), Batch: a(markBatch), BatchEnd: a(markBatchEnd) - 8, Loop: a(markLoop),
			Taken: a(markTaken), CallSys: a(markCallSys), CallEnd: a(markCallEnd) - 8, Recorder: a(markRecorder),
			Restorer: a(markRestorer), Keeper: a(markKeeper), Clock: a(markClock),
			Day: a(markDay), Time: a(markTime), Clone: a(markClone) - 8, CloneEnd: a(markCloneEnd), Fault: a(markFault), FaultEnd: a(markEnd) - 8,
		},
	}
}
