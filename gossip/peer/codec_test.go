package peer

import (
	"bytes"
	"crypto/ed25519"
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"mosix/gossip"
	"mosix/internal/identity"
)

var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32))

func TestMetaFitsAndSurvives(t *testing.T) {
	for _, addr := range []string{"192.168.7.9", "fd00::1"} {
		m := meta{Flags: flagLeaving, Started: 77, Addr: netip.MustParseAddr(addr), Port: 7946, P2P: 7947, Direct: 7948,
			Cert: bytes.Repeat([]byte{1}, identity.MaxCertificateBytes)}
		raw := m.sign(testKey)
		if len(raw) > 512 {
			t.Errorf("%d bytes do not fit memberlist's metadata", len(raw))
		}
		got, err := decodeMeta(raw)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
		if !signedBy(raw, testKey.Public().(ed25519.PublicKey)) {
			t.Error("own signature does not hold")
		}
		for i := range raw {
			bad := bytes.Clone(raw)
			bad[i] ^= 1
			if signedBy(bad, testKey.Public().(ed25519.PublicKey)) {
				t.Errorf("signature holds with byte %d changed", i)
			}
		}
	}
}

func TestDatagramsFitOnePacket(t *testing.T) {
	e := envelope{From: "n", Seq: 1, Msg: make([]byte, gossip.MaxMessageBytes)}
	const memberlistAdds = 1 + 5 + 29 // kind, checksum, encryption
	if n := len(e.seal("m", testKey)) + memberlistAdds; n > 1400 {
		t.Errorf("the largest message makes a datagram of %d bytes", n)
	}
}

func FuzzMeta(f *testing.F) {
	f.Add(meta{Addr: netip.MustParseAddr("10.0.0.1"), Cert: []byte("certificate")}.sign(testKey))
	f.Add(bytes.Repeat([]byte{1}, 80))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := decodeMeta(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(m.body(), raw[:len(raw)-ed25519.SignatureSize]) {
			t.Fatalf("%x decodes to %+v, which is %x", raw, m, m.body())
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	f.Add(envelope{From: "n1", Seq: 9, Msg: []byte("m")}.seal("n2", testKey))
	f.Add(bytes.Repeat([]byte{1}, 75))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := openEnvelope(raw)
		if err != nil {
			return
		}
		again, err := openEnvelope(e.seal("n2", testKey))
		if err != nil || again.From != e.From || again.Seq != e.Seq || !bytes.Equal(again.Msg, e.Msg) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}

// The window against a set that forgets nothing: no number counts twice, and what came in order, or at most 64 late, counts.
func TestWindowProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		seen := map[uint64]bool{}
		top := uint64(0)
		base := rapid.Uint64Range(1, 1<<60).Draw(t, "base")
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			seq := base + rapid.Uint64Range(0, 200).Draw(t, "seq")
			want := !seen[seq] && (seq > top || top-seq <= 64)
			if got := w.fresh(seq); got != want {
				t.Fatalf("fresh(base+%d) = %v, want %v (top base+%d)", seq-base, got, want, int64(top-base))
			}
			seen[seq] = true // a number that was too old is not taken later either
			top = max(top, seq)
		}
	})
}
