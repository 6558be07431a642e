package homeproxy

import (
	"encoding/binary"
	"testing"
)

const pthread = cloneVM | cloneFS | cloneFiles | cloneSighand | cloneThread | cloneSysvsem | cloneSetTLS | cloneParentSetTID | cloneChildClrTID

func TestServedBirths(t *testing.T) {
	for _, c := range []struct {
		what  string
		nr    uint32
		flags uint64
		want  bool
	}{
		{"pthread_create", 56, pthread, true},
		{"Go's thread", 56, cloneVM | cloneFS | cloneFiles | cloneSighand | cloneSysvsem | cloneThread, true},
		{"fork of glibc", 56, cloneChildClrTID | cloneChildSetTID | sigchld, true},
		{"fork", 57, 0, true},
		{"vfork", 58, 0, true},
		{"posix_spawn", 56, cloneVM | cloneVfork | sigchld, true},
		{"a child that asks for another signal", 56, 10, true},
		{"a sibling", 56, cloneParent | sigchld, true},
		{"a process in the same memory", 56, cloneVM | sigchld, false},
		{"vfork with memory of its own", 56, cloneVfork | sigchld, false},
		{"a thread with files of its own", 56, pthread &^ cloneFiles, false},
		{"a thread that is waited for", 56, pthread | cloneVfork, false},
		{"a user namespace", 56, 0x10000000 | sigchld, false},
		{"a PID namespace", 56, 0x20000000 | sigchld, false},
		{"a thread in a new mount namespace", 56, pthread | 0x20000, false},
		{"with a descriptor for it", 56, 0x1000 | sigchld, false},
		{"no such signal at its end", 56, 65, false},
		{"traced", 56, 0x2000 | sigchld, false},
		{"signal handlers shared between processes", 56, cloneVM | cloneVfork | cloneSighand | sigchld, false},
	} {
		w := WishOfClone(c.nr, [6]uint64{c.flags, 0x1000})
		if got := w.Served(); got != c.want {
			t.Errorf("%s: served %t, want %t", c.what, got, c.want)
		}
		if !c.want {
			continue
		}
		b, ok := ParseBirth(w.Request(77))
		if !ok || b.Mask != 77 || b.Thread() != w.Thread {
			t.Errorf("%s: home reads %+v, %t", c.what, b, ok)
		}
		if b.Flags&(cloneVM|cloneVfork) != 0 && !w.Thread || b.Flags&(cloneSetTLS|cloneParentSetTID|cloneChildClrTID|cloneChildSetTID) != 0 {
			t.Errorf("%s: the shadow is to touch memory: flags %#x", c.what, b.Flags)
		}
		if g := w.GuestFlags(); !w.Thread && (g&cloneParent == 0 || g&cloneSignal != 0 || g&cloneSighand != 0) {
			t.Errorf("%s: the guest's process has flags %#x", c.what, g)
		}
	}
}

// What home is asked for comes from a host that may lie: nothing but a plain thread or process is made.
func TestBirthsThatNoHostAsksFor(t *testing.T) {
	for _, flags := range []uint64{cloneVM | sigchld, cloneVfork | sigchld, cloneThread, cloneThread | cloneVM | cloneSighand, pthread,
		0x10000000, 0x00020000 | sigchld, cloneThread | threadFlags | 0x2000, 1 << 32} {
		if b, ok := ParseBirth(Request{Nr: nrClone, Args: [6]uint64{flags}}); ok {
			t.Errorf("flags %#x are taken as %+v", flags, b)
		}
	}
	if _, ok := ParseBirth(Request{Nr: nrClone, Args: [6]uint64{sigchld}, In: []Blob{{}}}); ok {
		t.Error("a birth with memory is taken")
	}
	if _, ok := ParseBirth(Request{Nr: 57, Args: [6]uint64{sigchld}}); ok {
		t.Error("another call is taken for clone")
	}
}

func clone3(flags, childTID, parentTID, signal, stack, size, tls uint64, more ...uint64) []byte {
	var b []byte
	for _, v := range append([]uint64{flags, 0xdead, childTID, parentTID, signal, stack, size, tls}, more...) {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func TestClone3(t *testing.T) {
	w, ok := WishOfClone3(clone3(pthread, 11, 22, 0, 0x7000, 0x800, 33, 0, 0, 0))
	want := Clone{Flags: pthread, Stack: 0x7800, ParentTID: 22, ChildTID: 11, TLS: 33, SharesMemory: true, Thread: true}
	if !ok || w != want {
		t.Errorf("got %+v, %t, want %+v", w, ok, want)
	}
	if w, ok := WishOfClone3(clone3(0, 0, 0, sigchld, 0, 0, 0)); !ok || w.Flags != sigchld || !w.Served() {
		t.Errorf("a fork is %+v, %t", w, ok)
	}
	for what, b := range map[string][]byte{
		"too short":              clone3(0, 0, 0, sigchld, 0, 0, 0)[:56],
		"a signal in the flags":  clone3(sigchld, 0, 0, 0, 0, 0, 0),
		"no such signal":         clone3(0, 0, 0, 0x100, 0, 0, 0),
		"handlers cleared":       clone3(1<<32, 0, 0, sigchld, 0, 0, 0),
		"numbers chosen":         clone3(0, 0, 0, sigchld, 0, 0, 0, 0x1000, 1),
		"a stack without a size": clone3(0, 0, 0, sigchld, 0x7000, 0, 0),
		"something new":          clone3(0, 0, 0, sigchld, 0, 0, 0, 0, 0, 0, 5),
	} {
		if w, ok := WishOfClone3(b); ok {
			t.Errorf("%s: %+v", what, w)
		}
	}
}
