// Package sim plays clusters of up to thousands of nodes on one event loop, with the gossip and the balancer that production runs. Its
// one invariant: the same Config gives the same Result, to the byte; nothing in it reads a clock, and all that is random comes from
// the seed.
//
// A node shares its processors equally among the jobs that run there (processor sharing). A job is a process of one thread that
// computes until its work is done; its home is where it was started. A move stops it for a fixed time and for what its memory takes
// on the way. Times are of the simulated clock, from 0; work is in seconds of a standard processor.
package sim
