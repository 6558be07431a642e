package kern

import (
	"fmt"
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
// with protect they are protected again in the same step. Where armed is false the area need not be registered and pages that
// are present or swapped are reported. It returns the regions; EPERM says that r is not armed.
func ScanPages(pagemap *os.File, r mem.Range, armed bool, buf []PageRegion) ([]PageRegion, error) {
	var out []PageRegion
	if buf == nil {
		buf = make([]PageRegion, 4096)
	}
	at := r.Start
	for at < r.End {
		a := [12]uint64{96, 0, uint64(at), uint64(r.End), 0, uint64(uintptr(unsafe.Pointer(&buf[0]))), uint64(len(buf)), 0, 0, 0, 0, 0}
		// size flags start end walk_end vec vec_len max_pages category_inverted category_mask category_anyof_mask return_mask
		if armed {
			a[1] = scanWPMatching | scanCheckWPAsyn
			a[9] = PageWritten
		} else {
			a[10] = PagePresent | PageSwapped
		}
		a[11] = PageWritten | PageFile | PagePresent | PageSwapped | PageZero
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
