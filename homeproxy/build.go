package homeproxy

// The words in which the table is written.

func val(name string) Arg                            { return Arg{Name: name, Kind: Val} }
func num(name string) Arg                            { return Arg{Name: name, Kind: Int} }
func dsc(name string) Arg                            { return Arg{Name: name, Kind: FD} }
func ptr(name string) Arg                            { return Arg{Name: name, Kind: Ptr} }
func str(name string) Arg                            { return Arg{Name: name, Kind: Path, Max: 4096, Over: enametoolong} }
func rd(name string, size uint32) Arg                { return Arg{Name: name, Kind: StructIn, Size: size} }
func wr(name string, size uint32) Arg                { return Arg{Name: name, Kind: StructOut, Size: size} }
func rw(name string, size uint32) Arg                { return Arg{Name: name, Kind: StructInOut, Size: size} }
func rdN(name string, length uint8, size uint32) Arg { return arr(name, InArr, length, size) }
func wrN(name string, length uint8, size uint32) Arg { return arr(name, OutArr, length, size) }
func rwN(name string, length uint8, size uint32) Arg { return arr(name, InOutArr, length, size) }
func of(kind Kind, name string, length uint8) Arg    { return Arg{Name: name, Kind: kind, Len: length} }

func arr(name string, kind Kind, length uint8, size uint32) Arg {
	return Arg{Name: name, Kind: kind, Len: length, Size: size}
}

// name is a string that is no path: shorter, and with an errno of its own when it is not.
func name(what string, limit uint32, over int) Arg {
	return Arg{Name: what, Kind: Path, Max: limit, Over: over}
}

func (a Arg) when(w When) Arg              { a.When = w; return a }
func (a Arg) min(n int64) Arg              { a.Min = n; return a }
func (a Arg) elems(n uint32) Arg           { a.When, a.Elem = RetElems, n; return a }
func (a Arg) capped(n uint32) Arg          { a.Max, a.Cap = n, true; return a }
func (a Arg) over(n uint32, errno int) Arg { a.Max, a.Over = n, errno; return a }
func (a Arg) inPlace() Arg                 { a.InPlace = true; return a }
func (a Arg) opt() Arg                     { a.Opt = true; return a }

func row(c Class, nr uint32, name string, args []Arg) Row {
	return Row{Nr: nr, Name: name, Class: c, Args: args, By: -1}
}

func guest(nr uint32, name string, args ...Arg) Row { return row(Guest, nr, name, args) }
func home(nr uint32, name string, args ...Arg) Row  { return row(Home, nr, name, args) }
func both(nr uint32, name string, args ...Arg) Row  { return row(Both, nr, name, args) }

// come is a row of class ComeHome: its arguments need no description, for nobody copies them.
func come(nr uint32, name, note string) Row {
	r := row(ComeHome, nr, name, nil)
	r.Note = note
	return r
}

// gone is a call that no kernel of today has.
func gone(nr uint32, name string) Row {
	r := row(Refuse, nr, name, nil)
	r.Errno, r.Note = enosys, "in no kernel of today"
	return r
}

// block marks a call that can wait; code is the raw code behind an EINTR, 0 for a real one.
func (r Row) block(code int) Row {
	r.Blocks, r.Mask, r.Restart = true, true, code
	return r
}

func (r Row) mask() Row                         { r.Mask = true; return r }
func (r Row) looks() Row                        { r.Looks = true; return r }
func (r Row) pending() Row                      { r.Mask, r.Pending = true, true; return r }
func (r Row) byHand() Row                       { r.ByHand = true; return r }
func (r Row) note(s string) Row                 { r.Note = s; return r }
func (r Row) flags(arg uint8) Row               { r.FlagArg = arg; return r }
func (r Row) follows() Row                      { r.TouchesProc = true; return r }
func (r Row) xfer(t Transfer) Row               { r.Transfer = t; return r }
func (r Row) at(pos uint8) Row                  { r.PosArg = pos; return r }
func (r Row) time(arg uint8, f TimeoutForm) Row { r.TimeoutArg, r.Timeout = arg, f; return r }
func (r Row) rule(c Class, conds ...Cond) Row {
	r.Rules = append(r.Rules, Rule{c, conds})
	return r
}

// refuse says what the kernel answers before it looks at anything else.
func (r Row) refuse(errno int, conds ...Cond) Row {
	r.Errno = errno
	return r.rule(Refuse, conds...)
}
func (r Row) by(arg int8, subs ...[]Sub) Row {
	r.By = arg
	for _, s := range subs {
		r.Subs = append(r.Subs, s...)
	}
	return r
}

// sub is one value of a selector, forEach the same for several.
func sub(c Class, sel uint32, name string, args ...Arg) []Sub {
	if args == nil {
		args = []Arg{}
	}
	return []Sub{{Sel: sel, Name: name, Class: c, Args: args}}
}

// same is one value of a selector for which the arguments are the row's own.
func same(c Class, sel uint32, name, note string) []Sub {
	return []Sub{{Sel: sel, Name: name, Class: c, Note: note}}
}

const low32 = 0xffffffff

func is(arg uint8, vals ...uint64) Cond          { return Cond{arg, low32, vals} }
func isNull(arg uint8) Cond                      { return Cond{arg, ^uint64(0), []uint64{0}} }
func bits(arg uint8, mask uint64, v uint64) Cond { return Cond{arg, mask, []uint64{v}} }

// Errno values of linux/amd64 that the marshalling itself gives.
const (
	eintr        = 4
	e2big        = 7
	enomem       = 12
	efault       = 14
	einval       = 22
	erange       = 34
	enametoolong = 36
	enosys       = 38
	emsgsize     = 90
	enobufs      = 105
)

// Numbers of calls, flags and commands that the code names.
const (
	nrClockNanosleep = 230
	nrRestart        = 219
	timerAbstime     = 1
	msgWaitall       = 0x100
	msgZerocopy      = 0x4000000
)
