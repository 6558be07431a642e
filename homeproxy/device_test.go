package homeproxy

import "testing"

func TestDevices(t *testing.T) {
	var d Devices
	read, write := [6]uint64{5, 0x10000, 100}, [6]uint64{5, 0x10000, 1 << 40}
	age, ask := d.Asks(nrRead, read)
	if !ask {
		t.Fatal("an unknown descriptor is not asked for")
	}
	d.Learn(nrRead, read, age, 100, ZeroDevice, false)
	if is, ret, fill := d.Answer(nrRead, read); is != ZeroDevice || ret != 100 || fill != 100 {
		t.Errorf("read of zeros: device %d, returns %d, fills %d", is, ret, fill)
	}
	if _, ask := d.Asks(nrRead, read); ask {
		t.Error("a known descriptor is asked for")
	}
	if is, _, _ := d.Answer(nrWrite, write); is != NoDevice {
		t.Error("that it may be read says that it may be written")
	}
	d.Learn(nrWrite, write, age, 7, NullDevice, false)
	if is, ret, fill := d.Answer(nrWrite, write); is != NullDevice || ret != maxTransfer || fill != 0 {
		t.Errorf("write to nothing: device %d, returns %d, fills %d", is, ret, fill)
	}
	for _, args := range [][6]uint64{{5, 1 << 63, 1}, {5, userTop - 1, 2}, {5, 0x10000, 1 << 63}} {
		if is, _, _ := d.Answer(nrRead, args); is != NoDevice {
			t.Errorf("%#x, which the kernel refuses, is answered", args)
		}
	}

	for _, nr := range []uint32{nrClose, nrDup2, nrDup3, nrCloseRange} {
		if !Replaces(nr) {
			t.Errorf("%s replaces no descriptor", Lookup(nr).Name)
		}
	}
	// A read meets a close: whichever home made first, nothing is known afterwards.
	age, _ = d.Asks(nrRead, read)
	d.Forget()
	if is, _, _ := d.Answer(nrRead, read); is != NoDevice {
		t.Error("it is known while it is closed")
	}
	during, _ := d.Asks(nrRead, read)
	d.Learn(nrRead, read, during, 1, ZeroDevice, true)
	d.Forget()
	d.Learn(nrRead, read, age, 1, ZeroDevice, false)
	d.Learn(nrRead, read, during, 1, ZeroDevice, false)
	if is, _, _ := d.Answer(nrRead, read); is != NoDevice {
		t.Error("what home said before it was closed is believed afterwards")
	}

	age, _ = d.Asks(nrWrite, write)
	d.Learn(nrWrite, write, age, 5, RandomDevice, false)
	if is, _, _ := d.Answer(nrWrite, write); is != NoDevice {
		t.Error("what is written to urandom does not reach home")
	}
	d.Learn(nrRead, read, age, -9, ZeroDevice, false)
	if is, _, _ := d.Answer(nrRead, read); is != NoDevice {
		t.Error("a read that failed makes it known")
	}
}
