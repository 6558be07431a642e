package transport_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/identity"
)

// trusting believes every certificate, as a hostile stranger does: it must be the other side that refuses.
type trusting struct{ *identity.Identity }

func (c trusting) VerifyCertificate(raw []byte, _ time.Time) (id.Node, ed25519.PublicKey, error) {
	cert, err := identity.DecodeCertificate(raw)
	return cert.Name, cert.Key, err
}

// shows is a node that shows papers of somebody else.
type shows struct {
	*identity.Identity
	cert []byte
}

func (s shows) Certificate() []byte { return s.cert }

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
