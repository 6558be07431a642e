// Package conformance holds small programs that check what POSIX and Linux document, one behaviour in each case, and runs
// every case natively, at home in a node, away from home, and while it is moved all the time. Its one invariant: a case says
// itself whether it holds, and knows nothing of moves, so that all that is due natively is due everywhere.
//
// The programs stand in testdata/c, at least one for each group of things that a process can do; case.h says how a case is
// written. Cases that are known not to hold yet stand in one table, known, which only shrinks: a case in it that holds fails
// the test. The rows of the system-call table are broken on purpose in mutations, to prove that the cases look.
package conformance
