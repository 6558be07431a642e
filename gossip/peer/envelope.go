package peer

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"

	"mosix/internal/id"
)

const (
	envelopeVersion = 1
	envelopeContext = "mosix gossip\x00"
)

var errEnvelope = errors.New("not a gossip datagram")

// envelope carries a gossip message between two nodes. memberlist encrypts it with a key that all share, which does not say
// who has sent it; the signature does, and the sequence number keeps a copy of it from counting again. Version 1:
//
//	version 1 | sequence 8 | sender 1+n | message | signature 64, over the receiver's name and all before it
type envelope struct {
	From id.Node
	Seq  uint64
	Msg  []byte
}

// signedText is what the signature covers.
func signedText(to id.Node, body []byte) []byte {
	b := make([]byte, 0, len(envelopeContext)+1+len(to)+len(body))
	b = append(b, envelopeContext...)
	b = append(b, byte(len(to)))
	b = append(b, to...)
	return append(b, body...)
}

func (e envelope) seal(to id.Node, key ed25519.PrivateKey) []byte {
	b := make([]byte, 0, 10+len(e.From)+len(e.Msg)+ed25519.SignatureSize)
	b = append(b, envelopeVersion)
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = append(b, byte(len(e.From)))
	b = append(b, e.From...)
	b = append(b, e.Msg...)
	return append(b, ed25519.Sign(key, signedText(to, b))...)
}

// openEnvelope reads what seal wrote, with the signature unchecked: sealedBy does that, once the sender's key is known.
func openEnvelope(raw []byte) (envelope, error) {
	n := len(raw) - ed25519.SignatureSize
	if n < 10 || raw[0] != envelopeVersion || n < 10+int(raw[9]) {
		return envelope{}, errEnvelope
	}
	name := raw[10 : 10+int(raw[9])]
	return envelope{From: id.Node(name), Seq: binary.BigEndian.Uint64(raw[1:]), Msg: raw[10+len(name) : n]}, nil
}

func sealedBy(raw []byte, to id.Node, key ed25519.PublicKey) bool {
	n := len(raw) - ed25519.SignatureSize
	return n >= 0 && len(key) == ed25519.PublicKeySize && ed25519.Verify(key, signedText(to, raw[:n]), raw[n:])
}

// window remembers which sequence numbers of a sender were seen: the highest, and which of the 64 below it. Datagrams may
// overtake each other, and memberlist hands over the last of a burst first.
type window struct {
	top  uint64
	bits uint64 // bit i: top-1-i was seen
}

// fresh says whether seq counts, and remembers it.
func (w *window) fresh(seq uint64) bool {
	switch {
	case seq > w.top:
		if d := seq - w.top; d > 64 || w.top == 0 {
			w.bits = 0
		} else if d == 64 {
			w.bits = 1 << 63
		} else {
			w.bits = w.bits<<d | 1<<(d-1)
		}
		w.top = seq
		return true
	case seq == w.top || w.top-seq > 64:
		return false
	}
	bit := uint64(1) << (w.top - seq - 1)
	if w.bits&bit != 0 {
		return false
	}
	w.bits |= bit
	return true
}
