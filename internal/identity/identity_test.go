package identity_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/identity"
)

// admitted makes a cluster with one node and returns its authority and state directory.
func admitted(t *testing.T, name id.Node, validity time.Duration) (*identity.Authority, string) {
	t.Helper()
	a, err := identity.NewAuthority(filepath.Join(t.TempDir(), "authority"))
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	if err := a.Admit(state, name, validity); err != nil {
		t.Fatal(err)
	}
	if err := identity.NewClusterKey(filepath.Join(state, identity.ClusterKeyFile)); err != nil {
		t.Fatal(err)
	}
	return a, state
}

func TestAdmittedNodeLoads(t *testing.T) {
	a, state := admitted(t, "n1", time.Hour)
	i, err := identity.Load(state)
	if err != nil {
		t.Fatal(err)
	}
	if i.Name() != "n1" || !i.Authority.Equal(a.Public()) || len(i.ClusterKey) != 32 {
		t.Errorf("loaded %q, authority %x, cluster key of %d bytes", i.Name(), i.Authority, len(i.ClusterKey))
	}
	if !strings.HasPrefix(i.PeerID(), "12D3KooW") {
		t.Errorf("peer ID %q is not what libp2p calls an Ed25519 key", i.PeerID())
	}
	name, key, err := i.VerifyCertificate(i.Certificate(), time.Now())
	if err != nil || name != "n1" || !key.Equal(i.PrivateKey().Public()) {
		t.Errorf("own certificate: %q %x %v", name, key, err)
	}
	again, err := identity.Load(state)
	if err != nil || again.PeerID() != i.PeerID() {
		t.Errorf("a second load gives %v, %v; want the same peer ID", again, err)
	}
}

func TestAuthorityIsKeptAndNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	a, err := identity.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := identity.LoadAuthority(dir)
	if err != nil || !b.Public().Equal(a.Public()) {
		t.Fatalf("loaded another authority: %v", err)
	}
	if _, err := identity.NewAuthority(dir); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("a second NewAuthority in the same place: %v", err)
	}
	if fi, err := os.Stat(filepath.Join(dir, identity.AuthorityKeyFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("authority.key: %v %v", fi.Mode(), err)
	}
}

func TestReadmissionKeepsTheKeyAndRaisesTheSerial(t *testing.T) {
	a, state := admitted(t, "n1", time.Hour)
	before, err := identity.Load(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Admit(state, "n1", 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	after, err := identity.Load(state)
	if err != nil {
		t.Fatal(err)
	}
	if before.PeerID() != after.PeerID() || after.Cert.Serial <= before.Cert.Serial {
		t.Errorf("serial %d then %d, peer %s then %s", before.Cert.Serial, after.Cert.Serial, before.PeerID(), after.PeerID())
	}
}

// Every way in which a state directory can be wrong is refused in words that name the file and the way out.
func TestLoadSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, state string)
		want  []string
		is    error
	}{
		{"new machine", func(t *testing.T, s string) { must(t, os.RemoveAll(s)) }, []string{"node.cert", "must sign one", "12D3KooW"}, identity.ErrNotAdmitted},
		{"no authority", remove("authority.pub"), []string{"authority.pub", "copy it"}, identity.ErrNotAdmitted},
		{"no cluster key", remove("cluster.key"), []string{"cluster.key", "copy it"}, identity.ErrNotAdmitted},
		{"short cluster key", write("cluster.key", "short", 0o600), []string{"5 bytes, want 32"}, nil},
		{"open cluster key", chmod("cluster.key", 0o644), []string{"cluster.key", "0644", "chmod 600"}, nil},
		{"open node key", chmod("node.key", 0o640), []string{"node.key", "0640", "chmod 600"}, nil},
		{"garbled node key", write("node.key", "x", 0o600), []string{"node.key", "BEGIN PRIVATE KEY"}, nil},
		{"garbled certificate", write("node.cert", "x", 0o644), []string{"node.cert", "BEGIN MOSIX CERTIFICATE"}, nil},
		{"another node's key", remove("node.key"), []string{"node.cert", "copied from another node", "admit this node again"}, nil},
		{"another authority", func(t *testing.T, s string) {
			other := t.TempDir()
			_, err := identity.NewAuthority(other)
			must(t, err)
			b, err := os.ReadFile(filepath.Join(other, "authority.pub"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(s, "authority.pub"), b, 0o644))
		}, []string{"not signed by this cluster's authority"}, identity.ErrForged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, state := admitted(t, "n1", time.Hour)
			tt.spoil(t, state)
			_, err := identity.Load(state)
			if err == nil {
				t.Fatal("loaded")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		_, state := admitted(t, "n1", -time.Minute)
		if _, err := identity.Load(state); !errors.Is(err, identity.ErrExpired) || !strings.Contains(err.Error(), "admit the node again") {
			t.Errorf("%v", err)
		}
	})
}

func TestBadNamesAreNotAdmitted(t *testing.T) {
	a, state := admitted(t, "n1", time.Hour)
	for _, n := range []id.Node{"", "a b", "a/b", "a@b", "a\x1b[2J", "a\n", "ä", id.Node(strings.Repeat("x", 65))} {
		if err := a.Admit(state, n, time.Hour); err == nil {
			t.Errorf("admitted %q", n)
		}
	}
}

func TestCertificateVouchesForNothingElse(t *testing.T) {
	a, state := admitted(t, id.Node(strings.Repeat("n", 64)), time.Hour)
	i, err := identity.Load(state)
	if err != nil {
		t.Fatal(err)
	}
	raw := i.Certificate()
	if len(raw) > identity.MaxCertificateBytes {
		t.Fatalf("certificate with the longest name has %d bytes", len(raw))
	}
	for k := range raw { // whatever single byte changes, it is no longer believed
		b := bytes.Clone(raw)
		b[k] ^= 0x40
		if _, _, err := i.VerifyCertificate(b, time.Now()); err == nil {
			t.Errorf("believed with byte %d changed", k)
		}
	}
	for n := range raw {
		if _, err := identity.DecodeCertificate(raw[:n]); err == nil {
			t.Errorf("decoded %d of %d bytes", n, len(raw))
		}
	}
	if _, err := identity.DecodeCertificate(append(bytes.Clone(raw), 0)); err == nil {
		t.Error("decoded with a byte too many")
	}
	last := i.Cert.Expires
	if err := i.Cert.Verify(a.Public(), last.Add(-time.Nanosecond)); err != nil {
		t.Errorf("a moment before it expires: %v", err)
	}
	if err := i.Cert.Verify(a.Public(), last); !errors.Is(err, identity.ErrExpired) {
		t.Errorf("at the moment it expires: %v", err)
	}
}

func FuzzDecodeCertificate(f *testing.F) {
	pub, priv, _ := ed25519.GenerateKey(bytes.NewReader(make([]byte, 32)))
	c := identity.Certificate{Name: "n1", Key: pub, Serial: 7, Expires: time.Unix(1<<31, 0)}
	c.Signature = ed25519.Sign(priv, []byte("anything"))
	f.Add(c.Encode())
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, 200))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := identity.DecodeCertificate(b)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Encode(), b) {
			t.Fatalf("decoded %x, encodes as %x", b, c.Encode())
		}
		if c.PeerID() == "" || c.Verify(pub, time.Time{}) == nil {
			t.Fatalf("unsigned certificate believed: %+v", c)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func remove(file string) func(*testing.T, string) {
	return func(t *testing.T, s string) { must(t, os.Remove(filepath.Join(s, file))) }
}

func chmod(file string, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, s string) { must(t, os.Chmod(filepath.Join(s, file), mode)) }
}

func write(file, content string, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, s string) { must(t, os.WriteFile(filepath.Join(s, file), []byte(content), mode)) }
}
