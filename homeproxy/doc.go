// Package homeproxy knows every system call of linux/amd64: what its arguments are, on which side of a move it runs, and how
// it travels to the shadow and back. Its one invariant: the table is the only source. The seccomp filter of a guest, the
// class that the dispatcher sees, the copying of arguments and docs/syscalls.md are all derived from the same rows, so that
// what the filter lets through and what the dispatcher believes cannot drift apart.
//
//	host                                                     home
//	Call.Gather   reads the guest's memory once   Request →  Lay        puts it into the slot, rewrites every pointer
//	                                                         (the stub makes the call)
//	Call.Scatter  writes what was asked for       ← Result   Collect    takes out what the kernel has written
//
// Gather and Lay walk the row with the same code (describe), Gather over guest memory and Lay over the request: neither
// believes the other. Whatever a row cannot express is ComeHome, never guessed.
package homeproxy
