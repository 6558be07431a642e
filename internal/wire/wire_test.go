package wire

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"mosix/internal/id"
	"mosix/internal/pack"
)

// add writes golden frames that are missing. It never touches one that exists: peers of every released version send them.
var add = flag.Bool("add", false, "write the golden frames that testdata lacks")

// typesByName reads the types of frames out of the source, where the numbers stand.
func typesByName(t *testing.T) map[string]Type {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "wire.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Type{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if typ, ok := v.Type.(*ast.Ident); !ok || typ.Name != "Type" {
				continue
			}
			lit, ok := v.Values[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("the number of %s is not written out: numbers on the wire are, one by one", v.Names[0].Name)
			}
			n, err := strconv.ParseUint(lit.Value, 10, 8)
			if err != nil {
				t.Fatalf("%s: %v", v.Names[0].Name, err)
			}
			out[v.Names[0].Name] = Type(n)
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d types of frames were found in wire.go", len(out))
	}
	return out
}

// golden is the frame of each type that testdata/v1 holds, in the form in which it must be read for ever.
func golden(typ Type) Frame {
	return Frame{Type: typ, Epoch: id.Epoch(0x0807060504030200 + uint64(typ)), Payload: fmt.Appendf(nil, "payload of type %d", typ)}
}

// TestOldFrames decodes a frame of every type and every released version. A file that is there is never written again.
func TestOldFrames(t *testing.T) {
	seen := map[Type]string{}
	for name, typ := range typesByName(t) {
		if other, ok := seen[typ]; ok {
			t.Errorf("%s and %s have the same number %d", name, other, typ)
		}
		seen[typ] = name
		path := filepath.Join("testdata", "v1", strings.ToLower(name)+".bin")
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && *add {
			b = golden(typ).Append(nil)
			err = os.WriteFile(path, b, 0o644)
		}
		if err != nil {
			t.Errorf("%v; if %s is new, run go test -add", err, name)
			continue
		}
		f, err := Read(bytes.NewReader(b))
		want := golden(typ)
		if err != nil || f.Type != want.Type || f.Epoch != want.Epoch || !bytes.Equal(f.Payload, want.Payload) {
			t.Errorf("%s reads as %+v, %v, want %+v: peers of an older release would be misunderstood", path, f, err, want)
		}
		if got := want.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s is written as %x now, was %x", name, got, b)
		}
	}
	files, err := filepath.Glob("testdata/v*/*.bin")
	if err != nil || len(files) < len(seen) {
		t.Fatalf("%d golden frames for %d types, %v", len(files), len(seen), err)
	}
	for _, path := range files { // also those of types that were given up: their numbers are not used again
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := Read(bytes.NewReader(b)); err != nil || seen[f.Type] != "" && !strings.EqualFold(seen[f.Type]+".bin", filepath.Base(path)) {
			t.Errorf("%s reads as type %d, %v", path, f.Type, err)
		}
	}
}

// TestHistory: a change of the range of versions is written down.
func TestHistory(t *testing.T) {
	b, err := os.ReadFile("wire.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^//\t(\d+)  \d{4}-\d{2}  \S`).FindAllStringSubmatch(string(b), -1)
	if len(lines) == 0 || lines[len(lines)-1][1] != fmt.Sprint(MaxVersion) || MinVersion > MaxVersion {
		t.Errorf("the history %q does not end with version %d", lines, MaxVersion)
	}
}

func TestFramesComeThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		fs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Frame {
			return Frame{Type: Type(rapid.Uint8().Draw(t, "type")), Epoch: id.Epoch(rapid.Uint64().Draw(t, "epoch")),
				Payload: rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "payload")}
		}), 0, 5).Draw(t, "frames")
		for _, f := range fs {
			h := f.Head()
			before := len(b)
			b = f.Append(b)
			if !bytes.Equal(b[before:], append(h[:], f.Payload...)) {
				t.Fatalf("head and payload are %x %x, the frame is %x", h, f.Payload, b[before:])
			}
		}
		cut := rapid.IntRange(0, len(b)).Draw(t, "cut")
		r := iotest.OneByteReader(bytes.NewReader(b[:cut]))
		at := 0
		for i, want := range fs {
			f, err := Read(r)
			at += headBytes + len(want.Payload)
			switch {
			case at <= cut && (err != nil || f.Type != want.Type || f.Epoch != want.Epoch || !bytes.Equal(f.Payload, want.Payload)):
				t.Fatalf("frame %d: %+v, %v, want %+v", i, f, err, want)
			case at > cut && (err == nil || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)):
				t.Fatalf("frame %d is cut off and reads as %+v, %v", i, f, err)
			case at > cut:
				return
			}
		}
		if _, err := Read(r); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last frame: %v, want %v", err, io.EOF)
		}
	})
}

func TestTooLarge(t *testing.T) {
	h := Frame{Type: Pages}.Head()
	for _, c := range []struct {
		n  uint32
		ok bool
	}{{MaxFrame, true}, {MaxFrame + 1, false}, {1<<32 - 1, false}} {
		h[0], h[1], h[2], h[3] = byte(c.n), byte(c.n>>8), byte(c.n>>16), byte(c.n>>24)
		_, err := Read(io.MultiReader(bytes.NewReader(h[:]), io.LimitReader(zeros{}, int64(c.n))))
		if (err == nil) != c.ok {
			t.Errorf("a frame of %d bytes: %v", c.n, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func hello(lo, hi uint32) []byte {
	w := &pack.Writer{}
	w.U32(lo)
	w.U32(hi)
	return w.B
}

func TestAgree(t *testing.T) {
	for _, c := range []struct {
		hello []byte
		want  uint32 // 0: no agreement
	}{
		{HelloPayload(), MaxVersion},
		{hello(1, MinVersion), MinVersion},
		{hello(1, MaxVersion+9), MaxVersion},
		{hello(MaxVersion, MaxVersion+1), MaxVersion},
		{append(hello(1, MinVersion), "bytes of a later release"...), MinVersion},
		{hello(MaxVersion+1, MaxVersion+2), 0},
		{hello(0, MinVersion-1), 0},
		{hello(MaxVersion, MinVersion-1), 0},
		{hello(MaxVersion+1, MaxVersion), 0},
	} {
		v, err := Agree(c.hello)
		if c.want != 0 && (err != nil || v != c.want) {
			t.Errorf("%x: %d, %v, want %d", c.hello, v, err, c.want)
		}
		if c.want == 0 && !errors.Is(err, ErrVersion) {
			t.Errorf("%x: %d, %v, want %v", c.hello, v, err, ErrVersion)
		}
	}
	for n := range 8 {
		if v, err := Agree(HelloPayload()[:n]); !errors.Is(err, pack.ErrShort) {
			t.Errorf("the first %d bytes of a greeting: %d, %v", n, v, err)
		}
	}
}

// FuzzRead: whatever comes, Read returns a frame that is the input's beginning, or an error.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/v*/*.bin")
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range files {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0x80, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 0x80, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again := fr.Append(nil); len(fr.Payload) > MaxFrame || !bytes.HasPrefix(b, again) {
			t.Errorf("%x reads as %+v, which is %x", b, fr, again)
		}
	})
}

// FuzzAgree: a version that two agents agree on is one that both speak.
func FuzzAgree(f *testing.F) {
	f.Add(HelloPayload())
	f.Add(hello(0, 1<<32-1))
	f.Add(hello(2, 1))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Agree(b)
		if err != nil {
			return
		}
		r := pack.NewReader(b)
		lo, hi := r.U32(), r.U32()
		if !slices.Contains([]bool{v < lo, v > hi, v < MinVersion, v > MaxVersion}, true) {
			return
		}
		t.Errorf("here %d to %d, there %d to %d: agreed on %d", MinVersion, MaxVersion, lo, hi, v)
	})
}
