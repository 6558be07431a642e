package eligible

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"mosix/internal/procfs"
)

func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
func xgetbv() (eax, edx uint32)

// CPU is what a program can find out about a processor and then rely on. It travels between nodes; fields are only added.
type CPU struct {
	Model string   `json:"model"` // for people
	Words []uint32 `json:"words"` // registers of CPUID, in the order of cpuWords
	XCR0  uint64   `json:"xcr0"`  // register sets that the system saves
	// XSave is where each register set of XCR0 lies in an XSAVE area, by its number; the first two have fixed places.
	XSave  []XSaveSet `json:"xsave"`
	HWCap2 uint64     `json:"hwcap2"`
	AVX10  uint8      `json:"avx10"` // version, 0 without
}

// XSaveSet is the place of one register set in the XSAVE area, in bytes.
type XSaveSet struct {
	Offset uint32 `json:"offset"`
	Size   uint32 `json:"size"`
}

type register uint8

const (
	eax register = iota
	ebx
	ecx
	edx
)

// cpuWord is one register of CPUID that is a set of features. Features that only an operating system can use, and hints
// about speed, are left out of the comparison; a bit that nobody had a meaning for when this was written counts.
type cpuWord struct {
	leaf, sub uint32
	reg       register
	ignore    []int    // bits
	names     []string // "bit:name"
}

// cpuWords is append-only: CPU.Words of another node has the same order.
var cpuWords = []cpuWord{
	{1, 0, ecx, []int{2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 16, 17, 18, 21, 24, 31}, []string{
		"0:sse3", "1:pclmulqdq", "9:ssse3", "12:fma", "13:cx16", "19:sse4_1", "20:sse4_2", "22:movbe", "23:popcnt", "25:aes",
		"26:xsave", "27:osxsave", "28:avx", "29:f16c", "30:rdrand"}},
	{1, 0, edx, []int{1, 2, 3, 5, 6, 7, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 27, 28, 29, 30, 31}, []string{
		"0:fpu", "4:tsc", "8:cx8", "11:sep", "15:cmov", "19:clflush", "23:mmx", "24:fxsr", "25:sse", "26:sse2"}},
	{7, 0, ebx, []int{1, 2, 6, 7, 9, 10, 12, 13, 15, 20, 22, 25}, []string{
		"0:fsgsbase", "3:bmi1", "4:hle", "5:avx2", "8:bmi2", "11:rtm", "14:mpx", "16:avx512f", "17:avx512dq", "18:rdseed",
		"19:adx", "21:avx512ifma", "23:clflushopt", "24:clwb", "26:avx512pf", "27:avx512er", "28:avx512cd", "29:sha_ni",
		"30:avx512bw", "31:avx512vl"}},
	{7, 0, ecx, []int{2, 3, 7, 13, 15, 16, 17, 18, 19, 20, 21, 24, 25, 26, 30, 31}, []string{
		"0:prefetchwt1", "1:avx512vbmi", "4:ospke", "5:waitpkg", "6:avx512_vbmi2", "8:gfni", "9:vaes", "10:vpclmulqdq",
		"11:avx512_vnni", "12:avx512_bitalg", "14:avx512_vpopcntdq", "22:rdpid", "23:kl", "27:movdiri", "28:movdir64b", "29:enqcmd"}},
	{7, 0, edx, []int{0, 1, 4, 6, 7, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 26, 27, 28, 29, 30, 31}, []string{
		"2:avx512_4vnniw", "3:avx512_4fmaps", "5:uintr", "8:avx512_vp2intersect", "14:serialize", "16:tsxldtrk", "22:amx_bf16",
		"23:avx512_fp16", "24:amx_tile", "25:amx_int8"}},
	{7, 1, eax, []int{6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 24, 25, 26, 27, 28, 29, 30}, []string{
		"0:sha512", "1:sm3", "2:sm4", "3:rao_int", "4:avx_vnni", "5:avx512_bf16", "7:cmpccxadd", "21:amx_fp16", "23:avx_ifma", "31:movrs"}},
	{7, 1, edx, []int{0, 1, 2, 3, 6, 7, 9, 11, 12, 14, 16, 17, 18, 20, 22, 23, 24}, []string{
		"4:avx_vnni_int8", "5:avx_ne_convert", "8:amx_complex", "10:avx_vnni_int16", "13:utmr", "15:user_msr", "19:avx10", "21:apx_f"}},
	{0xd, 1, eax, []int{3}, []string{"0:xsaveopt", "1:xsavec", "2:xgetbv1", "4:xfd"}},
	{0x80000001, 0, ecx, []int{1, 2, 3, 4, 9, 10, 12, 13, 14, 17, 18, 19, 20, 22, 23, 24, 25, 26, 27, 28, 30, 31}, []string{
		"0:lahf_lm", "5:abm", "6:sse4a", "7:misalignsse", "8:3dnowprefetch", "11:xop", "15:lwp", "16:fma4", "21:tbm", "29:mwaitx"}},
	{0x80000001, 0, edx, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28}, []string{
		"11:syscall", "22:mmxext", "27:rdtscp", "29:lm", "30:3dnowext", "31:3dnow"}},
	{0x80000008, 0, ebx, []int{1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}, []string{
		"0:clzero", "4:rdpru"}},
}

func (w *cpuWord) mask() uint32 {
	m := ^uint32(0)
	for _, b := range w.ignore {
		m &^= 1 << b
	}
	return m
}

func (w *cpuWord) name(bit int) string {
	prefix := fmt.Sprintf("%d:", bit)
	for _, n := range w.names {
		if s, ok := strings.CutPrefix(n, prefix); ok {
			return s
		}
	}
	return fmt.Sprintf("cpuid %#x.%d %s bit %d", w.leaf, w.sub, [...]string{"eax", "ebx", "ecx", "edx"}[w.reg], bit)
}

// hwcap2Names are the bits of AT_HWCAP2: what the system lets programs use.
var hwcap2Names = []string{"ring3mwait", "fsgsbase instructions"}

// xsaveNames are the register sets of XCR0.
var xsaveNames = []string{"x87", "sse", "avx", "mpx bndregs", "mpx bndcsr", "avx512 opmask", "avx512 zmm_hi256", "avx512 hi16_zmm",
	"pt", "pkru", "pasid", "cet_u", "cet_s", "hdc", "uintr", "lbr", "hwp", "amx tilecfg", "amx tiledata", "apx"}

func nameOf(names []string, i int, otherwise string) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s %d", otherwise, i)
}

// LocalCPU describes the processor of this machine.
var LocalCPU = sync.OnceValue(func() CPU {
	var c CPU
	max, _, _, _ := cpuid(0, 0)
	maxExt, _, _, _ := cpuid(0x80000000, 0)
	max7, _, _, _ := cpuid(7, 0)
	has := func(leaf, sub uint32) bool {
		if leaf >= 0x80000000 {
			return leaf <= maxExt
		}
		return leaf <= max && (leaf != 7 || sub <= max7)
	}
	for i := range cpuWords {
		w := &cpuWords[i]
		var v uint32
		if has(w.leaf, w.sub) {
			a, b, cc, d := cpuid(w.leaf, w.sub)
			v = [...]uint32{a, b, cc, d}[w.reg]
		}
		c.Words = append(c.Words, v&w.mask())
	}
	if has(0xd, 0) && c.Words[0]&(1<<27) != 0 {
		lo, hi := xgetbv()
		c.XCR0 = uint64(hi)<<32 | uint64(lo)
		for i := uint32(0); i < 63 && c.XCR0>>i != 0; i++ {
			var s XSaveSet
			if i >= 2 && c.XCR0&(1<<i) != 0 {
				s.Size, s.Offset, _, _ = cpuid(0xd, i)
			}
			c.XSave = append(c.XSave, s)
		}
	}
	if has(0x24, 0) && c.has("avx10") {
		_, b, _, _ := cpuid(0x24, 0)
		c.AVX10 = uint8(b)
	}
	if av, err := procfs.Default.Auxv(os.Getpid()); err == nil {
		c.HWCap2, _ = av.Get(procfs.AtHWCap2)
	}
	if has(0x80000004, 0) {
		var b []byte
		for l := uint32(0x80000002); l <= 0x80000004; l++ {
			r0, r1, r2, r3 := cpuid(l, 0)
			for _, r := range []uint32{r0, r1, r2, r3} {
				b = append(b, byte(r), byte(r>>8), byte(r>>16), byte(r>>24))
			}
		}
		c.Model = strings.Join(strings.Fields(strings.TrimRight(string(b), "\x00")), " ")
	}
	return c
})

func (c *CPU) has(name string) bool {
	for i := range cpuWords {
		for b := range 32 {
			if i < len(c.Words) && c.Words[i]&(1<<b) != 0 && cpuWords[i].name(b) == name {
				return true
			}
		}
	}
	return false
}

// Features names what the processor has, as Missing does.
func (c CPU) Features() []string {
	var out []string
	for i := range min(len(cpuWords), len(c.Words)) {
		for b := range 32 {
			if c.Words[i]&(1<<b) != 0 {
				out = append(out, cpuWords[i].name(b))
			}
		}
	}
	return out
}

// Without is c with neither the named feature nor any that stands behind it in the same word, nor a register set beyond the first
// two.
func (c CPU) Without(name string) CPU {
	c.Words = append([]uint32(nil), c.Words...)
	for i := range cpuWords {
		for b := range 32 {
			if i < len(c.Words) && cpuWords[i].name(b) == name {
				c.Words[i] &= 1<<b - 1
			}
		}
	}
	c.XCR0 &= 3
	return c
}

// Missing names what need has and have lacks: a program that found it on need cannot run on have.
func Missing(need, have CPU) []string {
	var out []string
	word := func(c CPU, i int) uint32 {
		if i < len(c.Words) {
			return c.Words[i]
		}
		return 0
	}
	for i, v := range need.Words {
		lacks := v &^ word(have, i)
		for b := 0; lacks != 0; b++ {
			if lacks&(1<<b) == 0 {
				continue
			}
			lacks &^= 1 << b
			if i < len(cpuWords) {
				out = append(out, cpuWords[i].name(b))
			} else { // a newer agent compares more than this one knows
				out = append(out, fmt.Sprintf("feature word %d bit %d", i, b))
			}
		}
	}
	for i := range 64 {
		bit := uint64(1) << i
		if need.XCR0&bit == 0 {
			continue
		}
		name := nameOf(xsaveNames, i, "register set")
		switch {
		case have.XCR0&bit == 0:
			out = append(out, name+" registers")
		case i < len(need.XSave) && (i >= len(have.XSave) || need.XSave[i] != have.XSave[i]):
			out = append(out, name+" registers at the same place of the XSAVE area")
		}
	}
	for i := range 64 {
		if need.HWCap2&^have.HWCap2&(1<<i) != 0 {
			out = append(out, nameOf(hwcap2Names, i, "hwcap2 bit"))
		}
	}
	if need.AVX10 > have.AVX10 && have.has("avx10") {
		out = append(out, fmt.Sprintf("avx10 version %d", need.AVX10))
	}
	return out
}

// Wider names the register sets that the system of have saves beyond those of need. A program has asked once, at its start, how long
// an XSAVE area is: what saves all registers, as lazy binding of the C library does, writes past the end of its area where there are
// more, and so may a signal's frame on an alternate stack. The tiles of AMX are saved only for who has asked for them.
func Wider(need, have CPU) (sets []string) {
	const tiles = 1<<17 | 1<<18
	for i := range 64 {
		if have.XCR0&^(need.XCR0|tiles)&(1<<i) != 0 {
			sets = append(sets, nameOf(xsaveNames, i, "register set"))
		}
	}
	return sets
}
