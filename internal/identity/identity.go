// Package identity says who a node is and which nodes belong to its cluster: the node's key, the authority that admits
// nodes, and the certificates that it signs. Its one invariant: a name is believed only together with a certificate that
// the authority signed for the very key whose possession was proved.
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

// Files of a node's state directory.
const (
	NodeKeyFile      = "node.key"      // the node's private key; never leaves the machine
	NodeCertFile     = "node.cert"     // the authority's word for it
	AuthorityPubFile = "authority.pub" // whom the node believes
	ClusterKeyFile   = "cluster.key"   // encrypts membership traffic; the same on all nodes
)

// ErrNotAdmitted says that a node has no place in a cluster yet.
var ErrNotAdmitted = errors.New("this node was not admitted to a cluster")

// Identity is what a node is and whom it believes.
type Identity struct {
	Cert       Certificate
	Authority  ed25519.PublicKey
	ClusterKey []byte // 32 bytes

	key ed25519.PrivateKey
	raw []byte // Cert as it travels
}

// Load reads the identity that stateDir holds. A missing node key is made first, so that the authority has something to
// sign; whatever else is missing, wrong or out of date is an error that says what the administrator can do.
func Load(stateDir string) (*Identity, error) {
	key, err := nodeKey(stateDir)
	if err != nil {
		return nil, err
	}
	certPath := filepath.Join(stateDir, NodeCertFile)
	raw, err := readPEM(certPath, pemCertificate)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing; the authority of the cluster must sign one for peer ID %s "+
			"(and give %s and %s with it)", ErrNotAdmitted, certPath, PeerID(public(key)), AuthorityPubFile, ClusterKeyFile)
	} else if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	cert, err := DecodeCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w; ask the authority for a new one", certPath, err)
	}
	authority, err := readPublic(filepath.Join(stateDir, AuthorityPubFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing in %s; copy it from the machine that keeps the authority",
			ErrNotAdmitted, AuthorityPubFile, stateDir)
	} else if err != nil {
		return nil, fmt.Errorf("read the authority's public key: %w", err)
	}
	clusterKey, err := readClusterKey(filepath.Join(stateDir, ClusterKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing in %s; copy it from another node of the cluster", ErrNotAdmitted, ClusterKeyFile, stateDir)
	} else if err != nil {
		return nil, err
	}
	if !cert.Key.Equal(public(key)) {
		return nil, fmt.Errorf("certificate %s is for peer ID %s, but the key beside it has %s; it was copied from another node, "+
			"or %s was replaced: the authority must admit this node again", certPath, cert.PeerID(), PeerID(public(key)), NodeKeyFile)
	}
	if err := cert.Verify(authority, time.Now()); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", certPath, err)
	}
	return &Identity{Cert: cert, Authority: authority, ClusterKey: clusterKey, key: key, raw: raw}, nil
}

// Name is the name under which the node was admitted.
func (i *Identity) Name() id.Node { return i.Cert.Name }

// PeerID names the node's key in the manner of libp2p.
func (i *Identity) PeerID() string { return i.Cert.PeerID() }

// PrivateKey is the node's key.
func (i *Identity) PrivateKey() ed25519.PrivateKey { return i.key }

// Certificate is the node's certificate as it travels.
func (i *Identity) Certificate() []byte { return i.raw }

// VerifyCertificate reads a certificate that another node has shown, and says whose name and key it vouches for. The caller
// still has to see that the other holds that key.
func (i *Identity) VerifyCertificate(raw []byte, now time.Time) (id.Node, ed25519.PublicKey, error) {
	c, err := DecodeCertificate(raw)
	if err != nil {
		return "", nil, err
	}
	if err := c.Verify(i.Authority, now); err != nil {
		return "", nil, err
	}
	return c.Name, c.Key, nil
}

// nodeKey reads the node's private key and makes it where there is none.
func nodeKey(stateDir string) (ed25519.PrivateKey, error) {
	path := filepath.Join(stateDir, NodeKeyFile)
	key, err := readPrivate(path)
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, fmt.Errorf("read the node's key: %w", err)
		}
		return key, nil
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	_, key, err = ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	if err := writePrivate(path, key); err != nil {
		return nil, fmt.Errorf("keep the node's key: %w", err)
	}
	return key, nil
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }
