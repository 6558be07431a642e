package kern

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"mosix/internal/mem"
)

const (
	uffdioAPI       = 0xc018aa3f
	uffdioRegister  = 0xc020aa00
	uffdAPIVersion  = 0xaa
	featWPUnpopul   = 1 << 13
	featWPAsync     = 1 << 15
	featWPHugeShmem = 1 << 12
	registerWP      = 2
	pagemapScan     = 0xc0606610

	// Categories of pages that PAGEMAP_SCAN reports.
	PageWPAllowed = 1 << 0
	PageWritten   = 1 << 1
	PageFile      = 1 << 2
	PagePresent   = 1 << 3
	PageSwapped   = 1 << 4
	PageZero      = 1 << 5
	PageGuard     = 1 << 8 // Linux 6.16

	scanWPMatching  = 1 << 0
	scanCheckWPAsyn = 1 << 1
)

func ioctl(f *os.File, req uintptr, arg unsafe.Pointer) (uintptr, Errno) {
	n, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), req, uintptr(arg))
	return n, e
}

// UffdOpen prepares a userfaultfd for asynchronous write protection: writes are noted, never stopped.
func UffdOpen(f *os.File) error {
	a := [3]uint64{uffdAPIVersion, featWPUnpopul | featWPAsync, 0}
	if _, e := ioctl(f, uffdioAPI, unsafe.Pointer(&a)); e != 0 {
		return fmt.Errorf("UFFDIO_API with asynchronous write protection: %w", e)
	}
	return nil
}

// UffdRegister arms r for write protection.
func UffdRegister(f *os.File, r mem.Range) error {
	a := [4]uint64{uint64(r.Start), r.Len(), registerWP, 0}
	if _, e := ioctl(f, uffdioRegister, unsafe.Pointer(&a)); e != 0 {
		return fmt.Errorf("UFFDIO_REGISTER %v: %w", r, e)
	}
	return nil
}

// PageRegion is a run of pages with the same categories.
type PageRegion struct {
	mem.Range
	Categories uint64
}

// ScanPages reports the pages of r, in the process whose pagemap is open, that are written since they were last protected;
// with armed they are protected again in the same step. Where armed is false the area need not be registered and pages that
// are present or swapped are reported. It returns the regions; EPERM says that r is not armed. A kernel before 6.7 cannot arm, gives
// ENOTTY then, and is asked by ReadPages where armed is false.
func ScanPages(pagemap *os.File, r mem.Range, armed bool, buf []PageRegion) ([]PageRegion, error) {
	// size flags start end walk_end vec vec_len max_pages category_inverted category_mask category_anyof_mask return_mask
	a := [12]uint64{11: PageWritten | PageFile | PagePresent | PageSwapped | PageZero}
	if armed {
		a[1] = scanWPMatching | scanCheckWPAsyn
		a[9] = PageWritten
	} else {
		a[10] = PagePresent | PageSwapped
	}
	out, err := scan(pagemap, r, a, buf)
	if !armed && errors.Is(err, unix.ENOTTY) {
		return ReadPages(pagemap, r)
	}
	return out, err
}

// ReadPages reports the pages of r that are present or swapped, in the process whose pagemap is open, as ScanPages does, but for
// PageZero: pages of zeros look like others. Page by page it takes several times as long.
func ReadPages(pagemap *os.File, r mem.Range) ([]PageRegion, error) {
	// Documentation/admin-guide/mm/pagemap.rst
	const file, swapped, present = 1 << 61, 1 << 62, 1 << 63
	var out []PageRegion
	buf := make([]byte, 128<<10)
	for at := r.Start; at < r.End; {
		want := min(uint64(r.End-at)/mem.PageSize*8, uint64(len(buf)))
		n, err := pagemap.ReadAt(buf[:want], int64(at/mem.PageSize*8))
		if n < 8 {
			if err == nil || err == io.EOF { // past the end of what can be mapped, or the process has left its memory
				break
			}
			return out, fmt.Errorf("read the pagemap at %v: %w", at, err)
		}
		for i := 0; i+8 <= n; i += 8 {
			e := binary.LittleEndian.Uint64(buf[i:])
			var c uint64
			if e&present != 0 {
				c |= PagePresent
			}
			if e&swapped != 0 {
				c |= PageSwapped
			}
			if c != 0 {
				if e&file != 0 {
					c |= PageFile
				}
				if last := len(out) - 1; last >= 0 && out[last].End == at && out[last].Categories == c {
					out[last].End += mem.PageSize
				} else {
					out = append(out, PageRegion{Range: mem.Range{Start: at, End: at + mem.PageSize}, Categories: c})
				}
			}
			at += mem.PageSize
		}
	}
	return out, nil
}

// ScanWritten finds the pages of r of which ScanPages would say, with armed, that they are written, and perhaps more, and leaves
// all as they are. The kernel is several times faster at that, so that it pays to look here first where little was written.
func ScanWritten(pagemap *os.File, r mem.Range, buf []PageRegion) ([]PageRegion, error) {
	return scan(pagemap, r, [12]uint64{1: scanCheckWPAsyn, 9: PageWritten, 11: PageWritten}, buf)
}

// ScanGuards finds the pages of r that MADV_GUARD_INSTALL has made fault. A kernel that cannot tell gives EINVAL
// or ENOTTY.
func ScanGuards(pagemap *os.File, r mem.Range, buf []PageRegion) ([]PageRegion, error) {
	return scan(pagemap, r, [12]uint64{9: PageGuard, 11: PageGuard}, buf)
}

func scan(pagemap *os.File, r mem.Range, arg [12]uint64, buf []PageRegion) ([]PageRegion, error) {
	var out []PageRegion
	if buf == nil {
		buf = make([]PageRegion, 4096)
	}
	at := r.Start
	for at < r.End {
		a := arg
		a[0], a[2], a[3], a[5], a[6] = 96, uint64(at), uint64(r.End), uint64(uintptr(unsafe.Pointer(&buf[0]))), uint64(len(buf))
		n, e := ioctl(pagemap, pagemapScan, unsafe.Pointer(&a))
		if e != 0 {
			return out, fmt.Errorf("PAGEMAP_SCAN %v: %w", r, e)
		}
		out = append(out, buf[:n]...)
		if mem.Addr(a[4]) <= at {
			break
		}
		at = mem.Addr(a[4])
	}
	return out, nil
}

// procmapQuery is PROCMAP_QUERY (Linux 6.11) and what it says of an area.
const (
	procmapQuery    = 0xc0686611
	procmapWritable = 1 << 1
)

// ErrNoArea: nothing is mapped there.
const ErrNoArea = Errno(unix.ENOENT)

// AreaAt says of the area that holds a, in the process whose file maps is open, where it ends and whether it may be written. A
// kernel before 6.11 gives ENOTTY, a process that has left its memory ESRCH.
func AreaAt(maps *os.File, a mem.Addr) (end mem.Addr, writable bool, err error) {
	// size flags addr start end vma_flags page_size offset inode dev(2) name_size id_size name id
	q := [13]uint64{104, 0, uint64(a)}
	if _, e := ioctl(maps, procmapQuery, unsafe.Pointer(&q)); e != 0 {
		return 0, false, e
	}
	return mem.Addr(q[4]), q[5]&procmapWritable != 0, nil
}
