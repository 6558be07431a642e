package peer

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"mosix/internal/identity"
)

const (
	metaVersion = 1
	metaContext = "mosix member\x00" // what a node signs of itself begins so, and nothing else that it signs does

	flagLeaving = 1 << 0 // the node is about to leave of its own will: when it is gone, it is left, not dead
)

var errMeta = errors.New("not the metadata of a node of mosix")

// meta is what a node says of itself in memberlist's metadata (512 bytes at most), signed by its own key, so that no other
// member can send its peers elsewhere. Version 1, numbers big-endian:
//
//	version 1 | flags 1 | started 8 | address 1+4 or 1+16 | ports: membership 2, libp2p 2, direct 2 | certificate 2+n | signature 64
type meta struct {
	Flags   byte
	Started uint64 // ns of the Unix clock when the agent was started: tells one life of it from the next
	Addr    netip.Addr
	Port    uint16
	P2P     uint16
	Direct  uint16
	Cert    []byte
}

func (m meta) body() []byte {
	b := make([]byte, 0, 256+len(m.Cert))
	b = append(b, metaVersion, m.Flags)
	b = binary.BigEndian.AppendUint64(b, m.Started)
	ip := m.Addr.AsSlice()
	b = append(b, byte(len(ip)))
	b = append(b, ip...)
	for _, p := range []uint16{m.Port, m.P2P, m.Direct, uint16(len(m.Cert))} {
		b = binary.BigEndian.AppendUint16(b, p)
	}
	return append(b, m.Cert...)
}

func (m meta) sign(key ed25519.PrivateKey) []byte {
	b := m.body()
	return append(b, ed25519.Sign(key, append([]byte(metaContext), b...))...)
}

// decodeMeta reads what sign wrote, with the signature unchecked: see signedBy.
func decodeMeta(raw []byte) (meta, error) {
	if len(raw) < ed25519.SignatureSize {
		return meta{}, fmt.Errorf("%w: %d bytes", errMeta, len(raw))
	}
	b := raw[:len(raw)-ed25519.SignatureSize]
	if len(b) < 11 || b[0] != metaVersion {
		return meta{}, fmt.Errorf("%w, or of another version than %d", errMeta, metaVersion)
	}
	m := meta{Flags: b[1], Started: binary.BigEndian.Uint64(b[2:])}
	n := int(b[10])
	b = b[11:]
	if n != 4 && n != 16 || len(b) < n+8 {
		return meta{}, errMeta
	}
	m.Addr, _ = netip.AddrFromSlice(b[:n])
	b = b[n:]
	m.Port, m.P2P, m.Direct = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
	if c := int(binary.BigEndian.Uint16(b[6:])); len(b) != 8+c || c > identity.MaxCertificateBytes {
		return meta{}, errMeta
	}
	m.Cert = append([]byte(nil), b[8:]...)
	return m, nil
}

// signedBy says whether raw, whatever it is, was signed with the key that belongs to key.
func signedBy(raw []byte, key ed25519.PublicKey) bool {
	if len(raw) < ed25519.SignatureSize || len(key) != ed25519.PublicKeySize {
		return false
	}
	n := len(raw) - ed25519.SignatureSize
	return ed25519.Verify(key, append([]byte(metaContext), raw[:n]...), raw[n:])
}
