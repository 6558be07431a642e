package homeproxy

// Class says where a call runs.
type Class uint8

// The classes. The zero value is the safe one: a call that nobody classified brings the process home.
const (
	ComeHome Class = iota // the process moves home and the call runs there, natively
	Home                  // executed by the shadow, the result travels back
	Guest                 // runs on the host, untouched: only the guest's own memory and threads
	Both                  // the host's agent answers it, or both sides take part (Row.Note says how)
	Refuse                // what home would refuse too: the same errno (Row.Errno)
)

func (c Class) String() string {
	switch c {
	case ComeHome:
		return "ComeHome"
	case Home:
		return "Home"
	case Guest:
		return "Guest"
	case Both:
		return "Both"
	case Refuse:
		return "Refuse"
	}
	return "Class(?)"
}

// Kind says what an argument is, as far as its journey is concerned.
type Kind uint8

// The kinds of arguments. "Reads" and "writes" are the kernel's.
const (
	None        Kind = iota // not an argument of this call: 0 is passed
	Val                     // a value of 64 bits
	Int                     // a value of which the kernel looks at 32 bits
	FD                      // a descriptor; it is home's
	Ptr                     // an address in the program's memory that only a call of class Guest (or a native one) may follow
	Path                    // a string that the kernel reads, up to Max bytes with its NUL
	StructIn                // Size bytes that the kernel reads
	StructOut               // Size bytes that it writes
	StructInOut             // Size bytes that it reads and writes
	InArr                   // as StructIn, for args[Len] elements of Size bytes
	OutArr                  // as StructOut, for args[Len] elements of Size bytes
	InOutArr                // as StructInOut, for args[Len] elements of Size bytes
	DataIn                  // args[Len] bytes of a transfer that may go in pieces (write)
	DataOut                 // the same, written by the kernel (read)
	IOVecIn                 // args[Len] struct iovec whose buffers the kernel reads (writev)
	IOVecOut                // the same, written (readv)
	MsgIn                   // struct msghdr with name, control messages and iovecs (sendmsg)
	MsgOut                  // the same, written (recvmsg)
	MMsgIn                  // args[Len] struct mmsghdr (sendmmsg)
	MMsgOut                 // the same, written (recvmmsg)
	SockIn                  // a socket address of args[Len] bytes
	SockOut                 // a buffer for a socket address, its length in and out at the pointer args[Len]
	LenPtr                  // that pointer; it belongs to the argument before it
	OptIn                   // the value of a socket option, args[Len] bytes
	OptOut                  // a buffer for one, its length in and out at the pointer args[Len]
	FDSet                   // a set of descriptors below args[Len], read and written
	SigmaskArg              // the pair (pointer to a signal mask, its size) of pselect6
	Sigset                  // a signal mask of args[Len] bytes
	MsgBufIn                // struct msgbuf: a type of 8 bytes and args[Len] bytes of text
	MsgBufOut               // the same, written
	CapHeader               // the header of capget
	CapData                 // its data, whose size the header's version gives
	CapDataIn               // that of capset
	HandleIn                // struct file_handle: a size, a type, and that many bytes
	HandleOut               // the same, written
	SizedIn                 // a structure that begins with its size, of 32 bits
	MqEvent                 // struct sigevent of mq_notify, with a cookie for SIGEV_THREAD
	XattrIn                 // struct xattr_args of args[Len] bytes: a pointer to a value and its size
	XattrOut                // the same, the value is written
	IfConf                  // struct ifconf: the size of an array and a pointer to it
)

// Arg is one argument of a call.
type Arg struct {
	Name string
	Kind Kind
	Len  uint8  // index of the argument with the length or count, for the kinds that have one
	Size uint32 // bytes of the structure or of each element
	Max  uint32 // bytes at most; 0: as many as fit into a slot

	// What happens beyond Max: the count is lowered (Cap, for calls that may return less), or the call fails with Over as
	// the kernel would have it, or, where neither is set, the process comes home.
	Cap  bool
	Over int

	When    When   // for which results an output is carried back
	Min     int64  // and at least this result
	Elem    uint32 // bytes of an element for RetElems
	InPlace bool   // must stand at the program's own address during the call
	Opt     bool   // an unreadable pointer is passed as NULL: the kernel looks at it only sometimes
}

// TimeoutForm says how a timeout is written.
type TimeoutForm uint8

// The forms of timeouts.
const (
	NoTimeout       TimeoutForm = iota
	TimeoutMillis               // the argument is a number of milliseconds, negative for ever
	TimeoutTimespec             // it points to a struct timespec, relative
	TimeoutTimeval              // it points to a struct timeval, relative
	TimeoutAbs                  // it points to a struct timespec, absolute: shortening is not needed
)

// Transfer says how a call that moves more data than a slot holds goes on with the next piece.
type Transfer uint8

// The ways to go on.
const (
	NoTransfer   Transfer = iota
	TransferRead          // only where the descriptor is a regular file (Result.Regular): others may return less
	TransferSend          // as long as each piece was taken whole
	TransferRecv          // only with MSG_WAITALL: the row's FlagArg tells
	TransferOnce          // never: a shorter result is a right one (getdents)
)

// Cond is a condition on one argument that classic BPF can check: args[Arg] & Mask is one of Vals.
type Cond struct {
	Arg  uint8
	Mask uint64
	Vals []uint64 // all with the same upper 32 bits
}

// Holds reports whether c holds for args.
func (c Cond) Holds(args [6]uint64) bool {
	x := args[c.Arg] & c.Mask
	for _, v := range c.Vals {
		if x == v {
			return true
		}
	}
	return false
}

// Rule gives calls whose conditions all hold another class than their row's.
type Rule struct {
	Class Class
	Conds []Cond
}

// Sub is what a call means for one value of its selecting argument: an ioctl's request, an fcntl's command, a clock.
type Sub struct {
	Sel   uint32
	Name  string
	Class Class
	Args  []Arg // the arguments that follow the selector; nil: the row's own
	Quiet bool  // never waits and raises no signal, whatever the row says
	Blind bool  // changes nothing that decides on where the process may be, whatever the row says (Row.Looks)
	Note  string
}

// Row is everything that is known about one system call.
type Row struct {
	Nr    uint32
	Name  string
	Args  []Arg
	Class Class
	Errno int // for Refuse

	// Rules are tried in order, the first that matches wins. Then, where By >= 0, the Sub whose Sel equals the lower 32 bits
	// of args[By]; Class counts only when there are neither. A value without a Sub has the row's Class.
	Rules []Rule
	By    int8
	Subs  []Sub

	Blocks  bool // can wait for something outside for an unbounded time
	Mask    bool // the thread's signal mask must travel: it can block, raise a signal or touch a terminal
	Pending bool // looks at signals that pend, of which some are in the guest: it has code of its own for them
	Restart int  // 512, 514, 516: the raw code behind an -EINTR that the stub sees; 0: it really is EINTR

	Timeout     TimeoutForm
	TimeoutArg  uint8
	Transfer    Transfer
	PosArg      uint8 // the argument with the file position, 0 for none
	FlagArg     uint8 // the argument with the MSG_ flags, 0 for none
	ByHand      bool  // never laid into a slot as it is: guest and shadow have code of their own for it
	Looks       bool  // changes what decides on whether the process may be away: home looks afterwards
	TouchesProc bool  // opens or follows a path: those of /proc that show the caller's memory come home
	Note        string
}

// Sub returns what r means for args where that depends on its selecting argument, else nil.
func (r *Row) Sub(args [6]uint64) *Sub {
	if r.By < 0 {
		return nil
	}
	sel := uint32(args[r.By])
	for i := range r.Subs {
		if r.Subs[i].Sel == sel {
			return &r.Subs[i]
		}
	}
	return nil
}

// Classify returns the class of this very call. Both the dispatcher and the filter follow it: everything it looks at is in
// the registers, because a filter sees no memory. Call.Gather may still say ComeHome for what only memory shows.
func (r *Row) Classify(args [6]uint64) Class {
	for _, rule := range r.Rules {
		all := true
		for _, c := range rule.Conds {
			all = all && c.Holds(args)
		}
		if all {
			return rule.Class
		}
	}
	if s := r.Sub(args); s != nil {
		return s.Class
	}
	return r.Class
}

// NeedsMask reports whether the thread's signal mask must travel with this very call.
func (r *Row) NeedsMask(args [6]uint64) bool {
	s := r.Sub(args)
	return r.Mask && (s == nil || !s.Quiet)
}

// LooksAfter reports whether home looks, after this very call, whether the process may still be away.
func (r *Row) LooksAfter(args [6]uint64) bool {
	s := r.Sub(args)
	return r.Looks && (s == nil || !s.Blind)
}

// RestartCode returns the raw code, negative, that the kernel has for this call behind an -EINTR that the stub saw when a
// handler of ours cut it short: -512, -514 or -516. It returns -EINTR where that is what the program would have seen too.
func (r *Row) RestartCode(args [6]uint64) int64 {
	if r.Nr == nrClockNanosleep && args[1]&timerAbstime != 0 {
		return -514
	}
	if r.Restart == 0 {
		return -eintr
	}
	return -int64(r.Restart)
}

// argsOf returns the arguments of this very call, with those that the selector gives in place of the row's.
func (r *Row) argsOf(args [6]uint64) [6]Arg {
	var out [6]Arg
	copy(out[:], r.Args)
	if s := r.Sub(args); s != nil && s.Args != nil {
		for i := int(r.By) + 1; i < len(out); i++ {
			out[i] = Arg{}
		}
		copy(out[r.By+1:], s.Args)
	}
	return out
}

// table is every row, by number; index finds the row of a number.
var (
	table   = buildTable()
	index   = buildIndex(table)
	unknown = Row{Name: "unknown", By: -1, Note: "a number that this table does not know: home's kernel knows what it is"}
)

func buildIndex(rows []Row) [512]int16 {
	var ix [512]int16
	for i := range ix {
		ix[i] = -1
	}
	for i := range rows {
		ix[rows[i].Nr] = int16(i)
	}
	return ix
}

// Lookup returns the row of nr. A number without one gets a row of class ComeHome; it is never nil.
func Lookup(nr uint32) *Row {
	if nr < uint32(len(index)) && index[nr] >= 0 {
		return &table[index[nr]]
	}
	return &unknown
}

// Rows returns every row in ascending order of numbers. The caller must not change them.
func Rows() []Row { return table }

// Reshapes reports whether the call changes what memory behind a descriptor is, without reading or writing it, or may give the
// descriptor to others.
func (r *Row) Reshapes() bool {
	switch r.Name {
	case "ftruncate", "fallocate", "fcntl", "sendmsg", "sendmmsg", "fsync", "fdatasync", "fadvise64":
		return true
	}
	return false
}

// WritesFile reports whether the call may change what is in a file that it has by a descriptor.
func (r *Row) WritesFile() bool {
	switch r.Name {
	case "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "splice", "copy_file_range", "ftruncate", "fallocate":
		return true
	}
	return false
}

// MovesData reports whether the call reads from a descriptor, or writes to one, what is in a file.
func (r *Row) MovesData() bool {
	switch r.Name {
	case "read", "pread64", "readv", "preadv", "preadv2", "write", "pwrite64", "writev", "pwritev", "pwritev2",
		"sendfile", "splice", "copy_file_range":
		return true
	}
	return false
}
