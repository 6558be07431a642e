package thaw

import "math/rand/v2"

// Each guest family has a pair of ids that nobody else on this host has: an even one for its keeper, the next one for the guest.
// They are the only mark of what a process is that the process cannot change: what stands in a region, a guest or a user may
// have written.
const (
	firstID = 0x60000000
	idPairs = 1 << 27
)

// newIDs draws the keeper's id; the guest's is the next.
func newIDs() uint32 { return firstID + 2*rand.Uint32N(idPairs) }

// IsKeeper reports whether uid, as this host counts, is that of a keeper.
func IsKeeper(uid uint32) bool { return ours(uid) && uid%2 == 0 }

// IsGuest reports whether uid, as this host counts, is that of a guest.
func IsGuest(uid uint32) bool { return ours(uid) && uid%2 == 1 }

func ours(uid uint32) bool { return uid >= firstID && uid < firstID+2*idPairs }
