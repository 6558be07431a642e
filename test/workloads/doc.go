// Package workloads holds the programs that prove a move changes nothing, and runs them: natively, moved once, moved and
// home again, and moved again and again. Its one invariant: what a program prints depends on its work only, so that the
// bytes of any run can be compared with those of a native one, which is itself run by the same runner in the same place.
//
// The programs stand in testdata: C (testdata/c, compiled with cc where there is one), Go and scripts. Each does the same
// round of work until it may end; testdata/c/work.h says how. Table lists them.
package workloads
