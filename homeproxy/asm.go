package homeproxy

import "fmt"

// SockFilter is one instruction of classic BPF, as struct sock_filter.
type SockFilter struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// Codes of the instructions in use.
const (
	bpfLdAbs = 0x20 // A = word at K of struct seccomp_data
	bpfAnd   = 0x54 // A &= K
	bpfJA    = 0x05
	bpfJeq   = 0x15
	bpfJge   = 0x35
	bpfRet   = 0x06
)

// maxInsns is BPF_MAXINSNS.
const maxInsns = 4096

// label is a place in a program, known before its position is.
type label int

// insn is an instruction with its jumps unresolved. t and f are the targets of a conditional jump, t that of bpfJA. An offset
// of a conditional jump has eight bits; where that is too few the jump goes by way of a bpfJA behind it (farT, farF).
type insn struct {
	code       uint16
	k          uint32
	t, f       label
	farT, farF bool
}

func (i insn) conditional() bool { return i.code == bpfJeq || i.code == bpfJge }

func (i insn) size() int {
	n := 1
	if i.farT {
		n++
	}
	if i.farF {
		n++
	}
	return n
}

// assembler collects instructions and labels. Jumps go forward only, as BPF demands.
type assembler struct {
	code   []insn
	places []int // by label: index into code
}

func (a *assembler) newLabel() label {
	a.places = append(a.places, -1)
	return label(len(a.places) - 1)
}

func (a *assembler) place(l label)              { a.places[l] = len(a.code) }
func (a *assembler) emit(code uint16, k uint32) { a.code = append(a.code, insn{code: code, k: k}) }
func (a *assembler) jump(t label)               { a.code = append(a.code, insn{code: bpfJA, t: t}) }
func (a *assembler) ret(k uint32)               { a.emit(bpfRet, k) }
func (a *assembler) jeq(k uint32, t, f label)   { a.branch(bpfJeq, k, t, f) }
func (a *assembler) jge(k uint32, t, f label)   { a.branch(bpfJge, k, t, f) }
func (a *assembler) branch(c uint16, k uint32, t, f label) {
	a.code = append(a.code, insn{code: c, k: k, t: t, f: f})
}

// assemble resolves the jumps. It panics on a program that no kernel would take, which only a wrong table can produce.
func (a *assembler) assemble() []SockFilter {
	pos := make([]int, len(a.code)+1)
	for {
		for i, in := range a.code {
			pos[i+1] = pos[i] + in.size()
		}
		changed := false
		for i := range a.code {
			in := &a.code[i]
			if !in.conditional() {
				continue
			}
			if !in.farT && pos[a.places[in.t]]-pos[i]-1 > 255 {
				in.farT, changed = true, true
			}
			if !in.farF && pos[a.places[in.f]]-pos[i]-1 > 255 {
				in.farF, changed = true, true
			}
		}
		if !changed {
			break
		}
	}
	var out []SockFilter
	for i, in := range a.code {
		switch {
		case in.code == bpfJA:
			out = append(out, SockFilter{Code: bpfJA, K: forward(pos[a.places[in.t]] - pos[i] - 1)})
		case in.conditional():
			jt, jf := pos[a.places[in.t]]-pos[i]-1, pos[a.places[in.f]]-pos[i]-1
			next := 0
			var tail []SockFilter
			if in.farT {
				tail = append(tail, SockFilter{Code: bpfJA, K: forward(jt - next - 1)})
				jt, next = next, next+1
			}
			if in.farF {
				tail = append(tail, SockFilter{Code: bpfJA, K: forward(jf - next - 1)})
				jf = next
			}
			out = append(out, SockFilter{Code: in.code, K: in.k, Jt: uint8(forward(jt)), Jf: uint8(forward(jf))})
			out = append(out, tail...)
		default:
			out = append(out, SockFilter{Code: in.code, K: in.k})
		}
	}
	if len(out) > maxInsns {
		panic(fmt.Sprintf("homeproxy: the filter has %d instructions, the kernel takes %d", len(out), maxInsns))
	}
	return out
}

func forward(n int) uint32 {
	if n < 0 {
		panic("homeproxy: the filter jumps backward")
	}
	return uint32(n)
}
