// Package image says what a family of processes is when it travels: processes, threads, registers, areas, signals, timers,
// credentials. Its one invariant: an image is complete; whatever of a process is not in it is refused before the move or
// stays at home in the shadow.
package image
