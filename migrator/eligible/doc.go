// Package eligible says whether a process can move, and why not: every reason at once. Its one invariant: the process is not
// disturbed in any way. Facts come from reading /proc and from calls that compare what the kernel has in memory; nothing is
// traced, stopped, injected or opened, and no file server is asked.
//
// Gather collects Facts; Judge and Unfit are functions of them alone. What cannot be read counts against the move.
//
// What is checked, and what cannot be:
//
//   - Others that share memory are found among the processes that this agent's /proc shows: their mappings, and the
//     descriptors in the table of their first thread. A descriptor that is on its way in a socket, or open in a PID namespace
//     above the agent's, is not seen. A process that cannot be looked at counts as one that shares, except process 1.
//   - A process that shares the whole address space (vfork, CLONE_VM) is recognised by kcmp among all processes (Thorough) or
//     among its parent and children.
//   - Whether a process of root is dumpable cannot be seen from outside: its files in /proc belong to root either way.
//   - Yama is not asked. The agent traces, not the user; the rule for the user is the kernel's own without it: same ids, no
//     more capabilities, dumpable.
package eligible
