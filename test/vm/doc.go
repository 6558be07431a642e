// Package vm is a machine with another kernel: qemu starts it by emulation, with one program of ours as its init, which runs what the
// test asks for. Its one invariant: nothing of the machine stays when Down has returned, and its network reaches only where the
// command reaches that has started qemu.
package vm
