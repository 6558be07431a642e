package homeproxy

// Device is a device that is the same on every node, so that a host reads and writes it for the program.
type Device uint8

// The devices, by what they do.
const (
	NoDevice     Device = iota
	NullDevice          // /dev/null
	ZeroDevice          // /dev/zero
	RandomDevice        // /dev/urandom
)

// DeviceOf is the device with those numbers.
func DeviceOf(major, minor uint32) Device {
	if major != 1 {
		return NoDevice
	}
	switch minor {
	case 3:
		return NullDevice
	case 5:
		return ZeroDevice
	case 9:
		return RandomDevice
	}
	return NoDevice
}

const (
	nrRead       = 0
	nrWrite      = 1
	nrClose      = 3
	nrDup2       = 33
	nrSendfile   = 40
	nrDup3       = 292
	nrRecvmmsg   = 299
	nrSendmmsg   = 307
	nrCloseRange = 436

	maxTransfer = 0x7ffff000 // what the kernel moves at once (MAX_RW_COUNT)
)

// Devices is what a host knows of the descriptors of one process that has its table of descriptors to itself. A descriptor that
// home has once answered for is known until a call begins that could make it another. Not safe for concurrent use.
type Devices struct {
	known map[use]Device
	age   uint64 // raised when such a call begins, and when it ends
}

// use is one direction of a descriptor: that it may be read does not say that it may be written.
type use struct {
	fd    int32
	write bool
}

// Replaces reports whether a call may make a descriptor another one.
func Replaces(nr uint32) bool {
	switch nr {
	case nrClose, nrDup2, nrDup3, nrCloseRange:
		return true
	}
	return false
}

// Asks tells for a call that is about to be sent home whether to ask what its descriptor is. The age goes to Learn.
func (d *Devices) Asks(nr uint32, args [6]uint64) (age uint64, ask bool) {
	if nr != nrRead && nr != nrWrite {
		return 0, false
	}
	_, known := d.known[use{int32(args[0]), nr == nrWrite}]
	return d.age, !known
}

// Forget is to be called before a call that Replaces is sent home, and when its result is there.
func (d *Devices) Forget() {
	d.age++
	clear(d.known)
}

// Learn takes home's answer to a call that had asked at that age and came to ret; replacing says that a call which Replaces is
// under way: home may have made the two in either order.
func (d *Devices) Learn(nr uint32, args [6]uint64, age uint64, ret int64, is Device, replacing bool) {
	if age != d.age || replacing || ret < 0 {
		return
	}
	if d.known == nil {
		d.known = map[use]Device{}
	}
	if is == RandomDevice && nr == nrWrite { // what is written there is home's
		is = NoDevice
	}
	d.known[use{int32(args[0]), nr == nrWrite}] = is
}

// Answer makes a call here, if its descriptor is known to be a device: ret is what it returns, and fill, where it is not 0, how many
// bytes at the call's buffer are to be filled from the device first. The call ends with as many as could be.
func (d *Devices) Answer(nr uint32, args [6]uint64) (is Device, ret int64, fill int) {
	if nr != nrRead && nr != nrWrite {
		return NoDevice, 0, 0
	}
	is = d.known[use{int32(args[0]), nr == nrWrite}]
	n := min(args[2], maxTransfer)
	switch {
	case is == NoDevice, args[2] >= 1<<63, args[1] >= userTop, args[1]+n > userTop: // the kernel's own checks come first
		return NoDevice, 0, 0
	case nr == nrWrite:
		return is, int64(n), 0
	case is == NullDevice || n == 0:
		return is, 0, 0
	}
	return is, int64(n), int(n)
}
