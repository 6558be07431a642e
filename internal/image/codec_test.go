package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/metrics"
	"testing"

	"pgregory.net/rapid"

	"mosix/internal/abi"
	"mosix/internal/mem"
	"mosix/internal/pack"
)

// add writes the golden image of a new CodecVersion. It never touches one that exists.
var add = flag.Bool("add", false, "write the golden image of a new CodecVersion")

// fill gives every field of v a value out of rng, so that a field which the codec forgets is noticed. Lists have up to n entries.
func fill(v reflect.Value, rng *rand.Rand, n int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), rng, n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), rng, n)
		}
	case reflect.Slice:
		if k := rng.IntN(n + 1); k > 0 {
			v.Set(reflect.MakeSlice(v.Type(), k, k))
			for i := range k {
				fill(v.Index(i), rng, n)
			}
		}
	case reflect.String:
		b := make([]byte, rng.IntN(20))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		v.SetString(string(b))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 1)
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(rng.Uint64()))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(rng.Uint64())
	default:
		panic(fmt.Sprintf("a field of kind %v: teach fill about it, and the codec", v.Kind()))
	}
}

// family makes one that could be of a process: one member, whose first thread leads it, with areas that can be.
func family(rng *rand.Rand) *Family {
	f := &Family{}
	fill(reflect.ValueOf(&f.Process).Elem(), rng, 4)
	fill(reflect.ValueOf(&f.Epoch).Elem(), rng, 4)
	var p Process
	fill(reflect.ValueOf(&p).Elem(), rng, 4)
	p.Actions[0] = abi.SigAction{} // signals count from 1
	if len(p.Threads) == 0 {
		p.Threads = make([]Thread, 1)
		fill(reflect.ValueOf(&p.Threads[0]).Elem(), rng, 4)
	}
	p.PID, p.Threads[0].TID = f.Process.PID, f.Process.PID
	at := mem.Addr(0x1000)
	for i := range p.Areas {
		at += mem.Addr(rng.IntN(4)) * mem.PageSize
		p.Areas[i].Start = at
		at += mem.Addr(1+rng.IntN(4)) * mem.PageSize
		p.Areas[i].End = at
	}
	p.Guards = nil
	for _, a := range p.Areas {
		if rng.IntN(2) == 0 {
			p.Guards = append(p.Guards, mem.Range{Start: a.End - mem.PageSize, End: a.End})
		}
	}
	f.Members = []Process{p}
	return f
}

// same compares what is there, not whether an empty list was made or not.
func same(a, b *Family) bool {
	return reflect.DeepEqual(plain(reflect.ValueOf(*a)), plain(reflect.ValueOf(*b)))
}

// plain is v with every empty slice replaced by none.
func plain(v reflect.Value) any {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	drop(c)
	return c.Interface()
}

func drop(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			drop(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
			return
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(c, v)
		v.Set(c)
		for i := range v.Len() {
			drop(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			drop(v.Index(i))
		}
	}
}

// TestRoundTrip fills every field of an image: all of them come back, also with bytes of a later release behind them.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		f := family(rand.New(rand.NewPCG(seed, 0)))
		b := f.Encode()
		g, err := Decode(append(b, "later"...))
		if err != nil {
			t.Fatal(err)
		}
		if !same(f, g) {
			t.Fatalf("went in:  %+v\ncame out: %+v", f, g)
		}
		if !bytes.Equal(g.Encode(), b) {
			t.Fatal("what came out encodes differently")
		}
	})
}

// TestEveryCutIsSeen: an image that lost its end is refused wherever the cut is.
func TestEveryCutIsSeen(t *testing.T) {
	b := family(rand.New(rand.NewPCG(3, 0))).Encode()
	for n := range b {
		if f, err := Decode(b[:n]); !errors.Is(err, pack.ErrShort) {
			t.Fatalf("the first %d of %d bytes decode as %v, %v", n, len(b), f, err)
		}
	}
}

// TestFormIsTheVersion fails when the encoded form changes without a new CodecVersion. A released form is never written again:
// change CodecVersion, write a line into its history, and run go test -add.
func TestFormIsTheVersion(t *testing.T) {
	path := filepath.Join("testdata", fmt.Sprintf("v%d", CodecVersion), "family.bin")
	f := family(rand.New(rand.NewPCG(1, CodecVersion)))
	want, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && *add {
		want = f.Encode()
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, want, 0o644)
		}
	}
	if err != nil {
		t.Fatalf("%v: is CodecVersion new? run go test -add", err)
	}
	if got := f.Encode(); !bytes.Equal(got, want) {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		t.Errorf("version %d was %d bytes long, now %d, and differs from byte %d on: agents of the last release would misread it; raise CodecVersion",
			CodecVersion, len(want), len(got), i)
	}
	if g, err := Decode(want); err != nil || !same(f, g) {
		t.Errorf("%s decodes as %+v, %v, want %+v", path, g, err, f)
	}
	src, err := os.ReadFile("codec.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^//\t(\d+)  \d{4}-\d{2}  \S`).FindAllStringSubmatch(string(src), -1)
	if len(lines) == 0 || lines[len(lines)-1][1] != fmt.Sprint(CodecVersion) {
		t.Errorf("the history %q does not end with version %d", lines, CodecVersion)
	}
}

// TestImagesThatCannotBe are refused before anything is built from them.
func TestImagesThatCannotBe(t *testing.T) {
	area := func(start, end mem.Addr) Area { return Area{Range: mem.Range{Start: start, End: end}} }
	for name, spoil := range map[string]func(*Family){
		"nobody":                     func(f *Family) { f.Members = nil },
		"two members":                func(f *Family) { f.Members = append(f.Members, f.Members[0]) },
		"no thread":                  func(f *Family) { f.Members[0].Threads = nil },
		"another leads":              func(f *Family) { f.Members[0].Threads[0].TID++ },
		"another process":            func(f *Family) { f.Members[0].PID++ },
		"named after another":        func(f *Family) { f.Process.PID++ },
		"area of no length":          func(f *Family) { f.Members[0].Areas = []Area{area(0x1000, 0x1000)} },
		"area ends before it begins": func(f *Family) { f.Members[0].Areas = []Area{area(0x2000, 0x1000)} },
		"begins in a page":           func(f *Family) { f.Members[0].Areas = []Area{area(0x1001, 0x3000)} },
		"ends in a page":             func(f *Family) { f.Members[0].Areas = []Area{area(0x1000, 0x3001)} },
		"areas overlap":              func(f *Family) { f.Members[0].Areas = []Area{area(0x1000, 0x3000), area(0x2000, 0x4000)} },
		"areas descend":              func(f *Family) { f.Members[0].Areas = []Area{area(0x4000, 0x5000), area(0x1000, 0x2000)} },
		"the kernel's half":          func(f *Family) { f.Members[0].Areas = []Area{area(0x7ffffffff000, 1<<47+0x1000)} },
		"guards outside of areas": func(f *Family) {
			f.Members[0].Areas, f.Members[0].Guards = []Area{area(0x1000, 0x3000)}, []mem.Range{{Start: 0x2000, End: 0x4000}}
		},
		"guards of no length": func(f *Family) {
			f.Members[0].Areas, f.Members[0].Guards = []Area{area(0x1000, 0x3000)}, []mem.Range{{Start: 0x2000, End: 0x2000}}
		},
		"the end of all addresses": func(f *Family) { f.Members[0].Areas = []Area{area(1<<64-0x1000, 0)} },
	} {
		f := family(rand.New(rand.NewPCG(5, 0)))
		if _, err := Decode(f.Encode()); err != nil {
			t.Fatal(err)
		}
		spoil(f)
		if _, err := Decode(f.Encode()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b := family(rand.New(rand.NewPCG(5, 0))).Encode()
	binary.LittleEndian.PutUint32(b, CodecVersion+1)
	if _, err := Decode(b); err == nil || !bytes.Contains([]byte(err.Error()), []byte("same release")) {
		t.Errorf("an image of version %d: %v", CodecVersion+1, err)
	}
}

// decodeWithin decodes b and reports the memory that was taken for it, in bytes; small amounts may be missed.
func decodeWithin(b []byte) (*Family, uint64, error) {
	taken := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(taken)
	before := taken[0].Value.Uint64()
	f, err := Decode(b)
	metrics.Read(taken)
	return f, taken[0].Value.Uint64() - before, err
}

// TestNumbersAreNotBelieved: an image that announces thousands of millions of things costs nothing.
func TestNumbersAreNotBelieved(t *testing.T) {
	whole := family(rand.New(rand.NewPCG(7, 0))).Encode()
	for at := 0; at+4 <= len(whole); at++ {
		b := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(b[at:], 0xfffffff0)
		if _, n, _ := decodeWithin(b); n > 1<<20 {
			t.Fatalf("with a large number at byte %d, %d bytes were decoded into %d bytes of memory", at, len(b), n)
		}
	}
}

// FuzzDecode: whatever comes, it is refused, or it is an image that can be and that encodes to what was read.
func FuzzDecode(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(family(rand.New(rand.NewPCG(seed, 0))).Encode())
	}
	f.Add([]byte{})
	f.Add(binary.LittleEndian.AppendUint32(nil, CodecVersion))
	f.Fuzz(func(t *testing.T, b []byte) {
		fam, n, err := decodeWithin(b)
		if limit := uint64(1<<20 + 100*len(b)); n > limit {
			t.Errorf("%d bytes were decoded into %d bytes of memory", len(b), n)
		}
		if err != nil {
			return
		}
		if err := fam.check(); err != nil {
			t.Errorf("an image was accepted that cannot be: %v", err)
		}
		again := fam.Encode()
		if fam2, err := Decode(again); err != nil || !same(fam, fam2) {
			t.Errorf("what was decoded does not encode and decode again: %v", err)
		}
	})
}

func TestFind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		as := family(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))).Members[0].Areas
		a := mem.Addr(rapid.Uint64Range(0, 40*mem.PageSize).Draw(t, "address"))
		var want *Area
		for i := range as {
			if as[i].Contains(a) {
				want = &as[i]
			}
		}
		if got := Find(as, a); got != want {
			t.Fatalf("%x in %v: found %v, want %v", uint64(a), Ranges(as), got, want)
		}
	})
}

func TestRefusalsReadWell(t *testing.T) {
	rs := Refusals{{"seccomp", "it has a seccomp filter", "Seccomp: 2"}, {"privileged", "it runs as root", ""}}
	if got, want := rs.String(), "it has a seccomp filter (Seccomp: 2); it runs as root"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := (Refusals)(nil).String(); got != "" {
		t.Errorf("no refusal reads %q", got)
	}
}
