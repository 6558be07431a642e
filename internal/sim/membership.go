package sim

import "math"

// What memberlist (github.com/hashicorp/memberlist v0.5) sends where nothing changes: a ping and an ack each second, and each interval a
// node's list of all members, to one that sends its own back. Intervals grow with the logarithm of the number of members.
const (
	pingBytes     = 2*(29+28+1) + 75 + 25 // one and its answer: encryption, UDP and IP, label, and what they say
	pushPullEvery = 15.0                  // seconds, as gossip/peer has it
	pushPullScale = 32                    // members, from which on the interval grows
	memberBytes   = 96 + 206              // of one in a list: memberlist's own words; address, certificate and signature
)

// membership is the bytes that a node of n sends per second for membership, by calculation.
func membership(n int) float64 {
	every := pushPullEvery
	if n > pushPullScale {
		every *= math.Ceil(math.Log2(float64(n))-math.Log2(pushPullScale)) + 1
	}
	return pingBytes + 2*float64(n)*memberBytes/every
}
