// Package migrator decides about a move: what each end does next, and what it does when something fails. Its one invariant: of
// all states that the two ends can be in together, none lets a process run on both sides.
//
// The source (home when a process leaves, the host when it returns):
//
//	Offered → Preparing → Copying → Frozen → Finishing → Parking → Parked → Committed → Gone
//	   └─────────┴───────────┴─────────┴────────┴───────────┴─────────┴────────┴──→ Stayed
//
// The target:
//
//	Offered → Building → Complete → Running
//	   └─────────┴──────────┴──→ Dropped
//
// Commit is the one irreversible message; package ferry sends it in exactly one line. A source that has sent it and hears
// nothing more waits until the target's lease is certainly over; a target that is Complete gives up when its own lease is.
package migrator
