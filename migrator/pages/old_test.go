package pages

import (
	"testing"

	"mosix/internal/feature"
	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/tracer"
)

// TestReadPages: on kernels without PAGEMAP_SCAN the pages of a process are found one by one, and are the same, but for those of
// zeros, which cannot be told from others.
func TestReadPages(t *testing.T) {
	if err := feature.PagemapScan.Err(); err != nil {
		t.Skip(err)
	}
	v := start(t)
	if err := v.tell(`anon 0x200000000000 0x4000000 3
		fill 0x200000001000 0x3000 1
		poke 0x200003fff000 1
		touch 0x200000008000 0x8000
		shared 0x200010000000 0x8000
		poke 0x200010001000 1
		file 0x200020000000 0x8000 3 0x4567
		poke 0x200020001000 1
		touch 0x200020003000 0x1000
		stack 0x8000`); err != nil {
		t.Fatal(err)
	}
	if err := v.held(func(_ *tracer.Process, s *Source) error {
		as, err := v.areas()
		if err != nil {
			return err
		}
		pages := 0
		for _, a := range as {
			scanned, err := kern.ScanPages(s.pagemap, a.Range, false, nil)
			if err != nil {
				return err
			}
			read, err := kern.ReadPages(s.pagemap, a.Range)
			if err != nil {
				return err
			}
			one := func(rs []kern.PageRegion) map[mem.Addr]uint64 {
				m := map[mem.Addr]uint64{}
				for _, r := range rs {
					for at := r.Start; at < r.End; at += mem.PageSize {
						m[at] = r.Categories &^ (kern.PageZero | kern.PageWritten)
					}
				}
				return m
			}
			want, got := one(scanned), one(read)
			pages += len(want)
			for at, c := range want {
				if got[at] != c {
					t.Errorf("page %v of %v: read %#x, scanned %#x", at, a.Range, got[at], c)
				}
			}
			if len(got) != len(want) {
				t.Errorf("area %v: %d pages read, %d scanned", a.Range, len(got), len(want))
			}
		}
		if pages < 16 {
			t.Errorf("only %d pages were found in all", pages)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
