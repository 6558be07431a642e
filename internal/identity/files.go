package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	pemPrivate     = "PRIVATE KEY" // PKCS #8
	pemPublic      = "PUBLIC KEY"  // PKIX
	pemCertificate = "MOSIX CERTIFICATE"

	clusterKeyBytes = 32
	maxFileBytes    = 16 << 10
)

// NewClusterKey makes the key that encrypts the membership traffic of a cluster and keeps it in path: 32 random bytes,
// readable by their owner only. Every node of the cluster gets a copy as cluster.key in its state directory.
func NewClusterKey(path string) error {
	key := make([]byte, clusterKeyBytes)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make a cluster key: %w", err)
	}
	if err := writeFile(path, key, 0o600); err != nil {
		return fmt.Errorf("make a cluster key: %w", err)
	}
	return nil
}

func readClusterKey(path string) ([]byte, error) {
	key, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("read the cluster key: %w", err)
	}
	if len(key) != clusterKeyBytes {
		return nil, fmt.Errorf("read the cluster key %s: %d bytes, want %d; copy it again from another node", path, len(key), clusterKeyBytes)
	}
	return key, nil
}

func readPrivate(path string) (ed25519.PrivateKey, error) {
	b, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	der, err := decodePEM(path, pemPrivate, b)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key of type %T, want Ed25519", path, k)
	}
	return key, nil
}

func writePrivate(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, pemPrivate, der, 0o600)
}

func readPublic(path string) (ed25519.PublicKey, error) {
	der, err := readPEM(path, pemPublic)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key of type %T, want Ed25519", path, k)
	}
	return key, nil
}

func writePublic(path string, key ed25519.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, pemPublic, der, 0o644)
}

// readSecret reads a file that nobody but its owner may read: a key that others can read is a key that others may have.
func readSecret(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o); chmod 600 it, or make a new one if somebody may have read it",
			path, fi.Mode().Perm())
	}
	return readSmall(path)
}

func readPEM(path, kind string) ([]byte, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	return decodePEM(path, kind, b)
}

func decodePEM(path, kind string, b []byte) ([]byte, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s does not begin with -----BEGIN %s-----", path, kind)
	}
	return block.Bytes, nil
}

func readSmall(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxFileBytes {
		return nil, fmt.Errorf("%s is no file of mosix: want a regular file of at most %d bytes", path, maxFileBytes)
	}
	return os.ReadFile(path)
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

// writeFile replaces path as a whole or not at all, and never shows its content with a wider mode than it ends with.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // created with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
