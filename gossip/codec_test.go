package gossip_test

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mosix/gossip"
	"mosix/internal/id"
)

var extreme = gossip.Entry{
	Node: id.Node(strings.Repeat("n", 64)), LoadMilli: math.MaxUint32, UpperMilli: math.MaxUint32, CPUMilli: math.MaxUint32, SpeedMilli: math.MaxUint32,
	MemTotal: math.MaxUint64 &^ (1<<20 - 1), MemFree: math.MaxUint64 &^ (1<<20 - 1), Guests: math.MaxUint32, Away: math.MaxUint32, Caps: math.MaxUint64,
	ReserveMilli: math.MaxUint32, Age: 24 * 365 * time.Hour,
}

func TestCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := gossip.Message{Kind: gossip.Kind(rapid.IntRange(1, 3).Draw(t, "kind"))}
		for range rapid.IntRange(0, 6).Draw(t, "entries") {
			u := func(name string) uint32 { // any number, and often a usual one
				return rapid.OneOf(rapid.Uint32(), rapid.SampledFrom([]uint32{0, 1000, 10, 16, 8192})).Draw(t, name)
			}
			m.Entries = append(m.Entries, gossip.Entry{
				Node:      id.Node(rapid.StringMatching(`[a-z0-9.-]{1,64}`).Draw(t, "node")),
				LoadMilli: u("load"), UpperMilli: u("upper"), CPUMilli: u("cpus"), SpeedMilli: u("speed"),
				MemTotal: uint64(u("total")) << 20, MemFree: uint64(u("free")) << 20, Guests: u("guests"), Away: u("away"),
				Caps: rapid.Uint64().Draw(t, "caps"), ReserveMilli: u("reserve"), Age: time.Duration(u("age")) * 10 * time.Millisecond,
			})
		}
		got, err := gossip.Decode(m.Encode())
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("sent %+v, got %+v, %v", m, got, err)
		}
	})
}

// An entry must not grow younger on its way: a dead node's would never be forgotten.
func TestAgeIsRoundedUp(t *testing.T) {
	m := gossip.Message{Kind: gossip.KindAck, Entries: []gossip.Entry{{Node: "n", Age: time.Microsecond}}}
	if got, err := gossip.Decode(m.Encode()); err != nil || got.Entries[0].Age != 10*time.Millisecond {
		t.Errorf("1 us arrives as %v, %v", got.Entries[0].Age, err)
	}
}

func TestMessagesStaySmall(t *testing.T) {
	m := gossip.Message{Kind: gossip.KindPush}
	for range 64 {
		m.Entries = append(m.Entries, extreme)
	}
	b := m.Encode()
	if len(b) > gossip.MaxMessageBytes {
		t.Errorf("%d bytes", len(b))
	}
	got, err := gossip.Decode(b)
	if err != nil || len(got.Entries) < 5 || got.Entries[0] != extreme {
		t.Errorf("%d entries, %v", len(got.Entries), err)
	}
	// What is usual is short, as the goal for the traffic of a node needs it: 32 such entries twice a second.
	m.Entries = []gossip.Entry{{Node: "node7", LoadMilli: 830, UpperMilli: 1250, CPUMilli: 8000, SpeedMilli: 1120, MemTotal: 16 << 30, MemFree: 9 << 30, Age: 1300 * time.Millisecond}}
	if b := m.Encode(); len(b) > 24 {
		t.Errorf("%d bytes for a usual entry: %x", len(b), b)
	}
	// Half a default vector of entries of busy nodes with long names fits.
	m.Entries = m.Entries[:0]
	for range 32 {
		m.Entries = append(m.Entries, gossip.Entry{Node: "workstation-17", LoadMilli: 12345, UpperMilli: 12345, CPUMilli: 64000, SpeedMilli: 1234,
			MemTotal: 256 << 30, MemFree: 200 << 30, Guests: 12, Away: 3, Caps: 1<<20 - 1, ReserveMilli: 1000, Age: 9 * time.Second})
	}
	if got, err := gossip.Decode(m.Encode()); err != nil || len(got.Entries) < 30 {
		t.Errorf("only %d of 32 entries fit, %v", len(got.Entries), err)
	}
}

func TestLaterVersionsMayAddFields(t *testing.T) {
	m := gossip.Message{Kind: gossip.KindAck, Entries: []gossip.Entry{{Node: "n", LoadMilli: 5, UpperMilli: 5, CPUMilli: 1000, SpeedMilli: 1000}}}
	b := m.Encode()
	b[3] += 2                                  // length of the entry
	b = append(b, 1, 2)                        // a new field of it
	b = append(b, "a new field of the msg"...) // and one of the message
	if got, err := gossip.Decode(b); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(gossip.Message{Kind: gossip.KindPush, Entries: []gossip.Entry{{Node: "n1"}, extreme}}.Encode())
	f.Add([]byte{2, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{2, 3, 0})
	f.Add(bytes.Repeat([]byte{1}, 1400))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := gossip.Decode(b)
		if err != nil {
			return
		}
		enc := m.Encode()
		if len(enc) > gossip.MaxMessageBytes {
			t.Fatalf("%d bytes", len(enc))
		}
		again, err := gossip.Decode(enc)
		if err != nil || len(again.Entries) > len(m.Entries) {
			t.Fatalf("%x decodes to %+v, which encodes to %x: %v", b, m, enc, err)
		}
		for i := range again.Entries {
			if again.Entries[i] != m.Entries[i] {
				t.Fatalf("entry %d: %+v became %+v", i, m.Entries[i], again.Entries[i])
			}
		}
	})
}
