package homeproxy

// What a seccomp filter returns.
const (
	RetAllow  = 0x7fff0000
	RetNotify = 0x7fc00000
	RetNoSys  = 0x00050000 | enosys
)

// Offsets in struct seccomp_data. The instruction pointer, at 8, is never looked at: a guest can jump to any code at any
// address, so that what it says proves nothing.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
	x32Bit   = 0x40000000
)

// ArchAMD64 is AUDIT_ARCH_X86_64: the architecture of which the table's numbers are.
const ArchAMD64 = 0xc000003e

// FilterOptions adapts a filter to its host. They can only make it narrower.
type FilterOptions struct {
	// Notify names calls that are notified although their rows allow them: clock_gettime on a kernel without time
	// namespaces.
	Notify []uint32
}

// Filter returns the seccomp program of a guest: it allows exactly the calls whose rows say Guest, by number and where the
// row has conditions by argument. Everything else is a user notification, also numbers that nobody knows and calls of another
// architecture (int $0x80), which are made at home. One of x32 is ENOSYS, as on a kernel without it.
func Filter(opts FilterOptions) []SockFilter { return filterOf(table, opts) }

// filterOf is Filter for the rows given, in ascending order of numbers.
func filterOf(rows []Row, opts FilterOptions) []SockFilter {
	a := &assembler{}
	allow, notify, nosys := a.newLabel(), a.newLabel(), a.newLabel()

	native, calls := a.newLabel(), a.newLabel()
	a.emit(bpfLdAbs, dataArch)
	a.jeq(ArchAMD64, native, notify)
	a.place(native)
	a.emit(bpfLdAbs, dataNr)
	a.jge(x32Bit, nosys, calls)
	a.place(calls)

	var open []*Row
	for i := range rows {
		if rows[i].canBe(Guest) && !contains(opts.Notify, rows[i].Nr) {
			open = append(open, &rows[i])
		}
	}
	if len(open) == 0 {
		a.jump(notify)
	} else {
		a.search(open, allow, notify)
	}

	a.place(allow)
	a.ret(RetAllow)
	a.place(notify)
	a.ret(RetNotify)
	a.place(nosys)
	a.ret(RetNoSys)
	return a.assemble()
}

func contains(list []uint32, n uint32) bool {
	for _, x := range list {
		if x == n {
			return true
		}
	}
	return false
}

// search emits a binary search for the number in A.
func (a *assembler) search(rows []*Row, allow, notify label) {
	if len(rows) == 1 {
		found := a.newLabel()
		a.jeq(rows[0].Nr, found, notify)
		a.place(found)
		a.judge(rows[0], allow, notify)
		return
	}
	mid := len(rows) / 2
	upper, lower := a.newLabel(), a.newLabel()
	a.jge(rows[mid].Nr, upper, lower)
	a.place(lower)
	a.search(rows[:mid], allow, notify)
	a.place(upper)
	a.search(rows[mid:], allow, notify)
}

// judge emits what Classify does, step by step.
func (a *assembler) judge(r *Row, allow, notify label) {
	verdict := func(c Class) label {
		if c == Guest {
			return allow
		}
		return notify
	}
	for _, rule := range r.Rules {
		next := a.newLabel()
		for _, c := range rule.Conds {
			a.check(c, next)
		}
		a.jump(verdict(rule.Class))
		a.place(next)
	}
	if len(r.Subs) > 0 {
		a.emit(bpfLdAbs, argLow(uint8(r.By)))
		for _, s := range r.Subs {
			next := a.newLabel()
			a.jeq(s.Sel, verdict(s.Class), next)
			a.place(next)
		}
	}
	a.jump(verdict(r.Class))
}

// check goes on where c holds and to fail where it does not.
func (a *assembler) check(c Cond, fail label) {
	if high := uint32(c.Mask >> 32); high != 0 {
		a.load(argLow(c.Arg)+4, high)
		ok := a.newLabel()
		a.jeq(uint32(c.Vals[0]>>32), ok, fail)
		a.place(ok)
	}
	a.load(argLow(c.Arg), uint32(c.Mask))
	ok := a.newLabel()
	for i, v := range c.Vals {
		next := fail
		if i < len(c.Vals)-1 {
			next = a.newLabel()
		}
		a.jeq(uint32(v), ok, next)
		if next != fail {
			a.place(next)
		}
	}
	a.place(ok)
}

// load puts the word at off, masked, into A.
func (a *assembler) load(off, mask uint32) {
	a.emit(bpfLdAbs, off)
	if mask != low32 {
		a.emit(bpfAnd, mask)
	}
}

func argLow(arg uint8) uint32 { return dataArgs + 8*uint32(arg) }
