package transport

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestHelloSurvivesTheWire(t *testing.T) {
	for _, h := range []hello{
		{Min: 1, Max: 1, Proto: ProtoMove, To: "n2", Cert: bytes.Repeat([]byte{7}, 300)},
		{Min: 1, Max: 9, Proto: ProtoControl, To: "n1", Refusal: "no", Cert: []byte{1}},
	} {
		rest := bytes.NewReader(append(h.encode(), "next"...))
		got, err := readHello(rest)
		if err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("sent %+v, got %+v, %v", h, got, err)
		}
		if rest.Len() != len("next") {
			t.Errorf("a hello took %d bytes of what follows it", len("next")-rest.Len())
		}
	}
}

func TestHelloOfALaterVersionIsRead(t *testing.T) {
	h := hello{Min: 1, Max: 2, Proto: ProtoMove, To: "n2", Cert: []byte{1, 2, 3}}
	b := h.encode()
	b = append(b, "a field of version 2"...)
	b[4], b[5] = byte((len(b)-6)>>8), byte(len(b)-6)
	got, err := readHello(bytes.NewReader(b))
	if err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestLongRefusalIsCut(t *testing.T) {
	h := hello{Min: 1, Max: 1, Refusal: strings.Repeat("x", 300)}
	got, err := readHello(bytes.NewReader(h.encode()))
	if err != nil || len(got.Refusal) != 255 {
		t.Errorf("refusal of %d bytes, %v", len(got.Refusal), err)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(hello{Min: 1, Max: 1, Proto: ProtoMove, To: "n2", Cert: []byte{1, 2, 3}}.encode())
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("MOSX\x00\x00"))
	f.Add([]byte("MOSX\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := readHello(bytes.NewReader(h.encode()))
		if err != nil || !reflect.DeepEqual(h, again) {
			t.Fatalf("%x gives %+v, and that gives %+v, %v", b, h, again, err)
		}
	})
}
