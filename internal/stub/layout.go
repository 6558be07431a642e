// Package stub is the code that runs inside processes that mosix holds: the loop of a parked shadow, the recorder of its
// signals, the runner of injected calls, and the keeper. Its one invariant: the code is position-independent, uses no stack
// of the program and no address that is not reached from R15, so that it can be copied into any process.
//
// The region is one sealed memfd, mapped shared by the process and by the agent:
//
//	0x000000  code        read and execute only in the process
//	0x002000  Header      who this is, version, doorbell
//	0x004000  ring        siginfo of signals that reached the shadow
//	0x010000  table       calls to run in a batch, 64 bytes each
//	0x090000  scratch     what those calls point to
//	0x100000  record      the encoded image, written before parking: enough to un-park without anybody's help
//	0x500000  slots       one for each thread: Slot, its stack, its data
//
// The stub outlives the agent that wrote it: a layout, once released, never changes meaning; Version tells which it is.
package stub

import (
	"mosix/internal/abi"
	"mosix/internal/mem"
)

// Version of the region's layout and of the code in it.
//
// History:
//
//	1  2026-11  first
//	2  2026-11  a slot's call may make a thread or a process (SlotClone); a keeper has several members and gives out numbers
//	3  2026-11  a guest's realtime follows home's: Header.Clock
//	4  2026-11  families: Header.FamilyPID and FamilyStart; each Member has a Listener of its own
//	5  2026-11  a batch may end without a trap (R13); a guest's suspended calls have the place of the ring
//	6  2026-11  faults of a guest that would leave a core file: Header.Faulting and FaultActions
const Version = 6

// Offsets and sizes of the region's parts, in bytes.
const (
	CodeOff     = 0
	CodeSize    = 0x2000
	HeaderOff   = 0x2000
	RingOff     = 0x4000
	RingEntries = 128 // a power of two
	EntrySize   = 192
	TableOff    = 0x10000
	TableCalls  = 0x80000 / CallSize
	CallSize    = 64
	ScratchOff  = 0x90000
	ScratchSize = 0x70000
	RecordOff   = 0x100000
	RecordSize  = 0x400000
	SlotsOff    = 0x500000
	SlotSize    = 0x120000

	SlotStackTop = 0x10000 // within a slot: the stack that signal handlers use, growing down to 0x1000
	SlotDataOff  = 0x20000
	SlotDataSize = 0x100000
)

// Name is the name of the region's memfd, by which a new agent finds it in /proc/PID/maps.
const Name = "mosix-shadow"

// Base is where the region is mapped when nothing else is there: far from where Linux puts anything by itself.
const Base mem.Addr = 0x100000000000

// Magic starts a Header.
const Magic = 0x3157_4f44_4148_5358 // "XSHADOW1"

// States of a region.
const (
	StatePlanted   = 1 // the process runs its own program; the region is only a workbench
	StateParked    = 2 // the record is complete; threads are in, or on their way to, the loop
	StateCommitted = 3 // a guest runs elsewhere, or the lease decides whether it does
	StateGuest     = 4 // the region of a guest, on its host
	StateKeeper    = 5
	StateAway      = 6 // the guest is known to run: the memory here is given back
	StateParking   = 8 // the record is complete, the threads lose their registrations: they are the program's still
	StateReturning = 7 // the guest's last image is in the record and its memory here: it runs here when the lease is over, or still there
)

// Header is at HeaderOff. Agent and stub share it; fields never move.
type Header struct {
	Magic    uint64
	Version  uint32
	State    uint32
	Size     uint64
	Base     uint64 // address of the region in the process
	Doorbell uint32 // bumped and woken at every completion and every recorded signal
	RingHead uint32 // next ticket
	RingTail uint32 // first entry that the agent has not taken
	Slots    uint32
	Taken    uint64 // addresses of labels in the stub, for the recorder
	CallSys  uint64
	CallEnd  uint64
	Record   uint64 // bytes of the record
	Epoch    uint64
	PID      uint32
	_        uint32
	Start    uint64 // of the process, as id.Process
	LeaseEnd uint64 // CLOCK_BOOTTIME, ns: home's end of the lease
	Home     [64]byte
	Peer     [64]byte // the node that runs the guest, or the home of a guest

	RealOffset int64 // of a guest: home's realtime clock minus its monotonic one, ns, when it came
	// Clock[ClockCount%2] is how it is now. The agent writes the other one and then counts.
	ClockCount uint32
	_          uint32
	Clock      [2]ClockLine

	// Of a shadow that moved with others: the first member of its family, by number and start; 0 where it moved alone.
	FamilyPID   uint32
	_           uint32
	FamilyStart uint64

	// Of a guest: the signals, as a mask, for which it has a handler of ours in place of the default action, and what was there, in
	// the order of abi.Faults.
	Faulting     uint64
	FaultActions [4]abi.SigAction
}

// FaultCall is the call, which no kernel has, that our handler of faults makes.
const FaultCall = 0x4d5358

// Slot is at the start of each slot. The agent fills Nr to Mask, then bumps Req; the stub answers with Done = Req.
type Slot struct {
	Req    uint32
	Done   uint32
	State  uint32 // SlotIdle …
	Flags  uint32 // SlotMask
	Nr     uint64
	Args   [6]uint64
	Ret    int64
	Mask   uint64 // the guest's mask, around the call
	Idle   uint64 // the mask between calls
	Header uint64 // address of the Header in the process
	TID    uint32
	Cut    uint32 // CutBefore, CutAfter: a signal ended the call
	Epoch  uint64 // names the call: of which life of the process …
	Seq    uint64 // … and which call of this thread: a repeated request is answered, not executed
	Nest   uint32 // what the agent keeps about the call in flight
	OutLen uint32

	Child   uint64 // with SlotClone: address of the slot in which the new thread, or the new process, waits
	Saved   int64  // the result of call Seq, while the agent makes a call of its own in this slot
	IsSaved uint32 // 1 then
	_       uint32
}

// States of a slot.
const (
	SlotIdle    = 0
	SlotRunning = 1
	SlotDone    = 2
)

// Flags of a slot, and how a signal cut its call.
const (
	SlotMask  = 1 // set Mask around the call
	SlotClone = 2 // the call is clone: whom it makes goes to Child
	CutBefore = 1 // the call had not begun, or would have been restarted: nothing happened; Ret says which
	CutAfter  = 2 // the kernel said EINTR
)

// Entry is one recorded signal in the ring. It is there when Seq is its ticket plus one.
type Entry struct {
	Seq  uint32
	TID  uint32
	Info [128]byte
	_    [56]byte
}

// Call is one row of the table: a system call to inject, and what it returned.
type Call struct {
	Nr   uint64
	Args [6]uint64
	Ret  int64
}

// Keeper is at KeeperOff of a keeper's region.
type Keeper struct {
	Deadline uint64 // CLOCK_BOOTTIME, ns: all guests end here, and the keeper
	Now      [2]uint64
	Set      uint64 // signals it waits for: SIGCHLD
	Timeout  [2]uint64
	Status   uint32 // of the last child that was reaped
	Count    uint32 // entries of the table of members that have ever been used
	Doorbell uint32 // bumped and woken when a member has ended and when Ask was answered
	_        uint32
	LastPID  uint32 // descriptor number in the keeper: of the file that says which number the next process or thread gets
	Ask      uint32 // the agent wants Text written there, then sends SIGCHLD; the keeper answers with Answer = Ask
	Answer   uint32
	TextLen  uint32
	Asked    int64 // what the write returned
	Text     [16]byte
}

// Member is one guest of a keeper: an entry of the table at MembersOff of its region. The agent fills it before the guest runs.
type Member struct {
	PID      uint32 // in the keeper's namespace; 0: free
	Status   uint32 // when it has ended: its wait status
	Ended    uint32 // 1 when it was reaped
	Listener uint32 // descriptor number in the keeper: of its filter
	Deadline uint64 // CLOCK_BOOTTIME, ns: it is killed here
	Start    uint64 // of the process, as id.Process
	Epoch    uint64
	Base     uint64 // where its region is
	Shares   uint32 // the number of the member with which it shares memory until it executes a program or ends; 0: none
	Together uint32 // 1: it has arrived with all others that have 1 here, and goes home with them
	_        uint64
}

// The table of members takes the place that the ring has in a shadow's region.
const (
	MembersOff  = RingOff
	MaxMembers  = (TableOff - RingOff) / MemberSize
	MemberSize  = 1 << MemberShift
	MemberShift = 6
)

// Suspended is, in a guest's region, a call in whose place a thread makes rt_sigsuspend, with the mask that the call has brought.
type Suspended struct{ Mask, Nr, RDI, RSI uint64 }

// The suspended calls of a guest, by a thread's number modulo SuspendedCalls, have the place that the ring has in a shadow's region.
const (
	SuspendedOff   = RingOff
	SuspendedSize  = 32
	SuspendedCalls = (TableOff - RingOff) / SuspendedSize
)

// NoticesOff is where, in a keeper's region, the last call stands that was taken from each listener, as the kernel has written it: at the
// end of the place that the record has in a shadow's region.
const (
	Notices    = 256 // by the listener's number in the keeper, modulo this
	NoticeSize = 128
	NoticesOff = RecordOff + RecordSize - Notices*NoticeSize
)

// KeeperOff is where Keeper lies in a keeper's region.
const KeeperOff = HeaderOff + 0x1000

// HeaderPad is KeeperOff relative to the Header: for the assembly.
const HeaderPad = 0x1000

// RegionSize is the size of a region with n slots.
func RegionSize(n int) uint64 { return SlotsOff + uint64(n)*SlotSize }

// SlotOff is the offset of slot i.
func SlotOff(i int) uint64 { return SlotsOff + uint64(i)*SlotSize }
