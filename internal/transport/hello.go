package transport

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"mosix/internal/id"
)

// Version range of the framing below. Each protocol has a range of its own, inside its first frame.
//
// History:
//
//	1  2026-11  hello in both directions, then the protocol's bytes
const (
	versionMin = 1
	versionMax = 1
)

const (
	helloMagic    = "MOSX"
	maxHelloBytes = 1024
	helloTimeout  = 5 * time.Second // from a secured connection to both hellos exchanged
)

var errMalformed = errors.New("malformed hello")

// Credentials are what a node shows to others, and by what it judges what others show.
type Credentials interface {
	Name() id.Node
	PrivateKey() ed25519.PrivateKey
	Certificate() []byte
	// VerifyCertificate says for which name and key a certificate vouches at the time now.
	VerifyCertificate(raw []byte, now time.Time) (id.Node, ed25519.PublicKey, error)
}

// hello is the first frame of a stream in each direction, numbers big-endian:
//
//	"MOSX" | length of the rest 2 | lowest version 2 | highest version 2 | protocol 1+n | to 1+n | refusal 1+n | certificate 2+n
//
// Bytes after the certificate are ignored: a later version puts its fields there.
type hello struct {
	Min, Max uint16
	Proto    string
	To       id.Node // whom the sender believes to talk to
	Refusal  string  // answer only: why there will be no stream
	Cert     []byte
}

func (h hello) encode() []byte {
	b := make([]byte, 6, 256+len(h.Cert))
	copy(b, helloMagic)
	b = binary.BigEndian.AppendUint16(b, h.Min)
	b = binary.BigEndian.AppendUint16(b, h.Max)
	for _, s := range []string{h.Proto, string(h.To), h.Refusal} {
		s = s[:min(len(s), 255)]
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.Cert)))
	b = append(b, h.Cert...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-6))
	return b
}

// decodeHello reads what follows the length.
func decodeHello(b []byte) (hello, error) {
	var h hello
	if len(b) < 4 {
		return hello{}, errMalformed
	}
	h.Min, h.Max = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	b = b[4:]
	var fields [3]string
	for i := range fields {
		if len(b) < 1 || len(b) < 1+int(b[0]) {
			return hello{}, errMalformed
		}
		fields[i], b = string(b[1:1+int(b[0])]), b[1+int(b[0]):]
	}
	h.Proto, h.To, h.Refusal = fields[0], id.Node(fields[1]), fields[2]
	if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
		return hello{}, errMalformed
	}
	h.Cert = bytes.Clone(b[2 : 2+int(binary.BigEndian.Uint16(b))])
	if h.Min > h.Max {
		return hello{}, errMalformed
	}
	return h, nil
}

// readHello takes exactly one hello from r and not a byte more.
func readHello(r io.Reader) (hello, error) {
	var head [6]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return hello{}, err
	}
	n := int(binary.BigEndian.Uint16(head[4:]))
	if string(head[:4]) != helloMagic || n > maxHelloBytes {
		return hello{}, errMalformed
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return hello{}, err
	}
	return decodeHello(body)
}

// judge says who sent h over a connection whose other end has proved to hold key.
func judge(cred Credentials, h hello, key ed25519.PublicKey) (id.Node, error) {
	name, certified, err := cred.VerifyCertificate(h.Cert, time.Now())
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotMember, err)
	}
	if len(key) == 0 || !certified.Equal(key) {
		return "", fmt.Errorf("%w: it shows the certificate of %s, but holds another key", ErrNotMember, name)
	}
	if h.Min > versionMax || h.Max < versionMin {
		return name, fmt.Errorf("%s speaks versions %d to %d, this node %d to %d; bring both to the same release",
			name, h.Min, h.Max, versionMin, versionMax)
	}
	return name, nil
}

// refusedError is the answer of a member that gives no stream: to ask again changes nothing.
type refusedError struct {
	by     id.Node
	reason string
}

func (e *refusedError) Error() string { return fmt.Sprintf("%s refuses: %q", e.by, e.reason) }

// greet is the dialling half of the handshake. The other end is to be the node to, or, where to is empty, any member that
// holds key.
func greet(c net.Conn, cred Credentials, key ed25519.PublicKey, to id.Node, proto string) error {
	if err := c.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	mine := hello{Min: versionMin, Max: versionMax, Proto: proto, To: to, Cert: cred.Certificate()}
	if _, err := c.Write(mine.encode()); err != nil {
		return err
	}
	h, err := readHello(c)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the node hung up on our hello; it does not take this node for a member, or is overloaded: %w", err)
	} else if err != nil {
		return fmt.Errorf("read its hello: %w", err)
	}
	name, err := judge(cred, h, key)
	if err != nil {
		return err
	}
	if to != "" && name != to {
		return fmt.Errorf("%w: %s answers where %s should be", ErrNotMember, name, to)
	}
	if h.Refusal != "" {
		return &refusedError{by: name, reason: h.Refusal}
	}
	return c.SetDeadline(time.Time{})
}

// welcome is the accepting half. accept says why a member does not get a stream of a protocol, or "". Whoever is not a
// member is told nothing.
func welcome(c net.Conn, cred Credentials, key ed25519.PublicKey, accept func(from id.Node, proto string) (refusal string)) (id.Node, string, error) {
	if err := c.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return "", "", err
	}
	h, err := readHello(c)
	if err != nil {
		return "", "", fmt.Errorf("read its hello: %w", err)
	}
	name, err := judge(cred, h, key)
	if name == "" {
		return "", "", err
	}
	answer := hello{Min: versionMin, Max: versionMax, Proto: h.Proto, To: name, Cert: cred.Certificate()}
	switch {
	case err != nil:
		answer.Refusal = err.Error()
	case h.To != cred.Name() && h.To != "":
		answer.Refusal = fmt.Sprintf("this is %s, not %s", cred.Name(), h.To)
	default:
		answer.Refusal = accept(name, h.Proto)
	}
	if _, err := c.Write(answer.encode()); err != nil {
		return name, h.Proto, err
	}
	if answer.Refusal != "" {
		return name, h.Proto, fmt.Errorf("refused %s from %s: %s", h.Proto, name, answer.Refusal)
	}
	return name, h.Proto, c.SetDeadline(time.Time{})
}
