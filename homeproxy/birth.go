package homeproxy

// Unserved, as a result, says that home cannot serve this call for a guest: the process comes home and makes it there.
const Unserved = -5000

// Flags of clone, as <linux/sched.h> has them.
const (
	cloneVM           = 0x100
	cloneFS           = 0x200
	cloneFiles        = 0x400
	cloneSighand      = 0x800
	cloneVfork        = 0x4000
	cloneParent       = 0x8000
	cloneThread       = 0x10000
	cloneSysvsem      = 0x40000
	cloneSetTLS       = 0x80000
	cloneParentSetTID = 0x100000
	cloneChildClrTID  = 0x200000
	cloneDetached     = 0x400000
	cloneChildSetTID  = 0x1000000
	cloneIO           = 0x80000000
	cloneSignal       = 0xff

	// What a thread shares; anything less would leave the shadow's threads with tables of their own.
	threadFlags = cloneVM | cloneFS | cloneFiles | cloneSighand | cloneThread | cloneSysvsem
	// What the shadow is asked for; the rest concerns memory, which is the guest's.
	homeThread  = threadFlags | cloneIO
	homeProcess = cloneFS | cloneFiles | cloneParent | cloneSysvsem | cloneIO | cloneSignal
	known       = homeThread | homeProcess | cloneVfork | cloneSetTLS | cloneParentSetTID | cloneChildClrTID | cloneChildSetTID | cloneDetached
)

// Birth is a thread or a process that home is asked to make, as the first argument of a forwarded clone says.
type Birth struct {
	Flags uint64 // for the shadow's clone
	Mask  uint64 // the signal mask that the new one begins with
}

// Thread reports whether it is a thread.
func (b Birth) Thread() bool { return b.Flags&cloneThread != 0 }

// SharesDescriptors reports whether it is another process that uses its parent's table of descriptors.
func (b Birth) SharesDescriptors() bool { return !b.Thread() && b.Flags&cloneFiles != 0 }

// Clone is a guest's wish for a thread or a process: clone, clone3, fork and vfork alike.
type Clone struct {
	Flags                         uint64 // with the signal that the parent gets at its end
	Stack                         uint64 // its stack pointer; 0: the parent's
	ParentTID, ChildTID, TLS      uint64
	SharesMemory, Thread, Waiting bool // Waiting: vfork
}

// WishOfClone reads the registers of clone, fork or vfork.
func WishOfClone(nr uint32, args [6]uint64) Clone {
	switch nr {
	case 57:
		return Clone{Flags: sigchld}.sorted()
	case 58:
		return Clone{Flags: cloneVM | cloneVfork | sigchld}.sorted()
	}
	return Clone{Flags: args[0], Stack: args[1], ParentTID: args[2], ChildTID: args[3], TLS: args[4]}.sorted()
}

const sigchld = 17

// WishOfClone3 reads the structure of clone3 (see clone(2)), of at least 64 bytes. ok is false for what clone cannot express.
func WishOfClone3(b []byte) (c Clone, ok bool) {
	if len(b) < 64 {
		return c, false
	}
	var f [11]uint64
	for i := range f {
		for j := 0; j < 8 && 8*i+j < len(b); j++ {
			f[i] |= uint64(b[8*i+j]) << (8 * j)
		}
	}
	for i := 8 * len(f); i < len(b); i++ {
		if b[i] != 0 {
			return c, false
		}
	}
	const flags, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize = 0, 2, 3, 4, 5, 6, 7, 8, 9
	if f[setTID] != 0 || f[setTIDSize] != 0 || f[exitSignal] > cloneSignal || f[flags]&cloneSignal != 0 || f[flags]>>32 != 0 || (f[stack] == 0) != (f[stackSize] == 0) {
		return c, false
	}
	c = Clone{Flags: f[flags] | f[exitSignal], ParentTID: f[parentTID], ChildTID: f[childTID], TLS: f[tls]}
	if f[stack] != 0 {
		c.Stack = f[stack] + f[stackSize]
	}
	return c.sorted(), true
}

// SharesDescriptors is that of Birth.
func (c Clone) SharesDescriptors() bool { return Birth{Flags: c.Flags}.SharesDescriptors() }

func (c Clone) sorted() Clone {
	c.SharesMemory, c.Thread, c.Waiting = c.Flags&cloneVM != 0, c.Flags&cloneThread != 0, c.Flags&cloneVfork != 0
	return c
}

// Served reports whether such a birth can be done at a distance: a thread like those of pthread_create, a process with memory of
// its own, or one that uses its parent's while that waits. Everything else comes home.
func (c Clone) Served() bool {
	switch {
	case c.Flags&^known != 0 || c.Flags&cloneSignal > 64:
		return false
	case c.Thread:
		return c.Flags&threadFlags&^cloneSysvsem == threadFlags&^cloneSysvsem && !c.Waiting && c.Flags&cloneParent == 0
	case c.Flags&cloneSighand != 0:
		return false
	}
	return c.SharesMemory == c.Waiting
}

// Request is what home is asked for; mask is the signal mask of the thread that makes the call.
func (c Clone) Request(mask uint64) Request {
	flags := c.Flags & homeProcess
	if c.Thread {
		flags = c.Flags & homeThread
	}
	return Request{Nr: nrClone, Args: [6]uint64{flags}, Mask: mask}
}

const nrClone = 56

// GuestFlags are the flags with which the guest's own kernel makes it. The parent of a guest's processes is its keeper, who tells
// nobody else of their end: that is home's to tell.
func (c Clone) GuestFlags() uint64 {
	if c.Thread {
		return c.Flags
	}
	return c.Flags&(cloneVM|cloneFS|cloneFiles|cloneSetTLS|cloneParentSetTID|cloneChildClrTID|cloneChildSetTID) | cloneParent
}

// ParseBirth checks a request that came from a host: ok is false for anything but a birth that Clone.Request makes.
func ParseBirth(r Request) (b Birth, ok bool) {
	flags := r.Args[0]
	may := uint64(homeProcess)
	if flags&cloneThread != 0 {
		may = homeThread
		ok = flags&threadFlags&^cloneSysvsem == threadFlags&^cloneSysvsem
	} else {
		ok = true
	}
	return Birth{Flags: flags, Mask: r.Mask}, ok && r.Nr == nrClone && flags&^may == 0 && len(r.In) == 0
}
