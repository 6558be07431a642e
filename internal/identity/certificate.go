package identity

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"mosix/internal/id"
)

const (
	// MaxCertificateBytes bounds an encoded certificate, so that a member's metadata (512 bytes) holds it and more.
	MaxCertificateBytes = 300

	// MaxNameBytes bounds the name of a node.
	MaxNameBytes = 64

	certificateVersion = 1
	certificateContext = "mosix certificate\x00" // what the authority signs begins so, and nothing else that it signs does
	certificateFixed   = 1 + 8 + 8 + ed25519.PublicKeySize + 1 + ed25519.SignatureSize
)

// Why a certificate is not believed. Callers tell them apart with errors.Is: an expired one was good once.
var (
	ErrMalformed = errors.New("not a certificate of mosix")
	ErrForged    = errors.New("certificate was not signed by this cluster's authority")
	ErrExpired   = errors.New("certificate has expired")
)

// Certificate is the authority's word that a key belongs to a node of the cluster. It is shown in the clear: what makes it
// worth something is that whoever shows it also proves possession of Key, in a TLS handshake or by a signature.
//
// On the wire, version 1, numbers big-endian:
//
//	version 1 | serial 8 | expiry 8 (Unix seconds) | key 32 | length of name 1 | name | signature 64
type Certificate struct {
	Name      id.Node
	Key       ed25519.PublicKey
	Serial    uint64    // a later certificate has a higher one
	Expires   time.Time // to the second
	Signature []byte    // by the authority, over everything before it
}

// signed is what the signature covers.
func (c Certificate) signed() []byte {
	b := make([]byte, 0, len(certificateContext)+certificateFixed+len(c.Name))
	b = append(b, certificateContext...)
	return c.appendBody(b)
}

func (c Certificate) appendBody(b []byte) []byte {
	b = append(b, certificateVersion)
	b = binary.BigEndian.AppendUint64(b, c.Serial)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Expires.Unix()))
	b = append(b, c.Key...)
	b = append(b, byte(len(c.Name)))
	return append(b, c.Name...)
}

// Encode gives the certificate as it travels; at most MaxCertificateBytes.
func (c Certificate) Encode() []byte {
	return append(c.appendBody(make([]byte, 0, certificateFixed+len(c.Name))), c.Signature...)
}

// DecodeCertificate reads what Encode wrote. It checks the form only; Verify checks the word.
func DecodeCertificate(b []byte) (Certificate, error) {
	switch {
	case len(b) < certificateFixed || len(b) > MaxCertificateBytes:
		return Certificate{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	case b[0] != certificateVersion:
		return Certificate{}, fmt.Errorf("%w: version %d, this node reads %d", ErrMalformed, b[0], certificateVersion)
	}
	n := int(b[1+8+8+ed25519.PublicKeySize])
	if len(b) != certificateFixed+n {
		return Certificate{}, fmt.Errorf("%w: name of %d bytes in a certificate of %d", ErrMalformed, n, len(b))
	}
	expires := int64(binary.BigEndian.Uint64(b[9:]))
	c := Certificate{
		Serial:    binary.BigEndian.Uint64(b[1:]),
		Expires:   time.Unix(expires, 0).UTC(),
		Key:       ed25519.PublicKey(append([]byte(nil), b[17:17+ed25519.PublicKeySize]...)),
		Name:      id.Node(b[18+ed25519.PublicKeySize : 18+ed25519.PublicKeySize+n]),
		Signature: append([]byte(nil), b[len(b)-ed25519.SignatureSize:]...),
	}
	if err := CheckName(c.Name); err != nil {
		return Certificate{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return c, nil
}

// Verify says why c is not to be believed at the time now, or nil.
func (c Certificate) Verify(authority ed25519.PublicKey, now time.Time) error {
	if len(authority) != ed25519.PublicKeySize || len(c.Key) != ed25519.PublicKeySize || len(c.Name) > MaxNameBytes ||
		!ed25519.Verify(authority, c.signed(), c.Signature) {
		return fmt.Errorf("%s: %w", c.Name, ErrForged)
	}
	if !now.Before(c.Expires) {
		return fmt.Errorf("%s: %w, on %s; the authority must admit the node again", c.Name, ErrExpired,
			c.Expires.Format(time.RFC3339))
	}
	return nil
}

// PeerID names the key in the manner of libp2p.
func (c Certificate) PeerID() string { return PeerID(c.Key) }

// PeerID gives the name that libp2p has for a public key; empty for what is no Ed25519 key.
func PeerID(key ed25519.PublicKey) string {
	k, err := crypto.UnmarshalEd25519PublicKey(key)
	if err != nil {
		return ""
	}
	p, err := peer.IDFromPublicKey(k)
	if err != nil {
		return ""
	}
	return p.String()
}

// CheckName says what is wrong with n as the name of a node. The rule is the same as for the key "name" of the
// configuration file, and no control characters: names reach terminals.
func CheckName(n id.Node) error {
	if n == "" || len(n) > MaxNameBytes {
		return fmt.Errorf("node name of %d bytes: want 1 to %d", len(n), MaxNameBytes)
	}
	for i := 0; i < len(n); i++ {
		if c := n[i]; c <= ' ' || c >= 0x7f || c == '/' || c == '@' {
			return fmt.Errorf("node name %q: want printable ASCII without blanks, / and @", n)
		}
	}
	return nil
}
