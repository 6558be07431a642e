package identity

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mosix/internal/id"
)

// AuthorityKeyFile is the authority's private key. It is kept by the administrator, off the nodes.
const AuthorityKeyFile = "authority.key"

// Authority admits nodes to a cluster. There is one, and it is needed only for that.
type Authority struct{ key ed25519.PrivateKey }

// NewAuthority makes the authority of a new cluster and keeps it in dir. It never overwrites one: that would shut out every
// node of the cluster.
func NewAuthority(dir string) (*Authority, error) {
	path := filepath.Join(dir, AuthorityKeyFile)
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("make an authority: %s exists already and stays as it is; use it, or name another directory", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	a := &Authority{key: key}
	if err := writePublic(filepath.Join(dir, AuthorityPubFile), a.Public()); err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	if err := writePrivate(path, key); err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	return a, nil
}

// LoadAuthority reads the authority that NewAuthority kept in dir.
func LoadAuthority(dir string) (*Authority, error) {
	key, err := readPrivate(filepath.Join(dir, AuthorityKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's authority: %w", err)
	}
	return &Authority{key: key}, nil
}

// Public is the key by which nodes know what the authority signed.
func (a *Authority) Public() ed25519.PublicKey { return public(a.key) }

// Sign vouches that key is the node name's, from now on for as long as validity.
func (a *Authority) Sign(key ed25519.PublicKey, name id.Node, validity time.Duration) (Certificate, error) {
	if err := CheckName(name); err != nil {
		return Certificate{}, fmt.Errorf("sign a certificate: %w", err)
	}
	if len(key) != ed25519.PublicKeySize {
		return Certificate{}, fmt.Errorf("sign a certificate for %s: key of %d bytes, want %d", name, len(key), ed25519.PublicKeySize)
	}
	now := time.Now()
	c := Certificate{
		Name: name, Key: key,
		Serial:  uint64(now.UnixNano()), // grows from one admission to the next without a file that could be lost
		Expires: now.Add(validity).UTC().Truncate(time.Second),
	}
	c.Signature = ed25519.Sign(a.key, c.signed())
	return c, nil
}

// Admit makes the node whose state directory is stateDir a member under name: it signs a certificate for the node's key,
// which it makes where there is none, and leaves it there with the authority's public key. The cluster key is not its
// business: see NewClusterKey.
func (a *Authority) Admit(stateDir string, name id.Node, validity time.Duration) error {
	key, err := nodeKey(stateDir)
	if err != nil {
		return fmt.Errorf("admit %s: %w", name, err)
	}
	c, err := a.Sign(public(key), name, validity)
	if err != nil {
		return fmt.Errorf("admit %s: %w", name, err)
	}
	if err := writePublic(filepath.Join(stateDir, AuthorityPubFile), a.Public()); err != nil {
		return fmt.Errorf("admit %s: %w", name, err)
	}
	if err := writePEM(filepath.Join(stateDir, NodeCertFile), pemCertificate, c.Encode(), 0o644); err != nil {
		return fmt.Errorf("admit %s: %w", name, err)
	}
	return nil
}
