package homeproxy

import (
	"mosix/internal/mem"
	"mosix/internal/pack"
)

// How a guest maps a file: the shadow maps it too, anywhere, so that home's kernel says whether it may be and the shadow has it
// for the way home; home then says which file it is, and gives its content piece by piece. The guest's own kernel maps a
// stand-in with that content, and chooses the address.

// Mapped is what home says of a file that was mapped. Two that are equal, and stable, had the same content.
type Mapped struct {
	Dev, Inode, Size uint64
	Changed          [2]uint64 // when content and inode were changed last, ns
	Stable           bool      // long enough ago that a change would show in these times
}

// Blob is the form of m on its way to the host; at is where the shadow has the file.
func (m Mapped) Blob(at mem.Addr) Blob {
	w := &pack.Writer{}
	for _, v := range []uint64{m.Dev, m.Inode, m.Size, m.Changed[0], m.Changed[1]} {
		w.U64(v)
	}
	w.Bool(m.Stable)
	return Blob{Addr: at, Data: w.B}
}

// ParseMapped reads it.
func ParseMapped(out []Blob) (m Mapped, at mem.Addr, ok bool) {
	if len(out) != 1 {
		return m, 0, false
	}
	r := pack.NewReader(out[0].Data)
	m = Mapped{Dev: r.U64(), Inode: r.U64(), Size: r.U64(), Changed: [2]uint64{r.U64(), r.U64()}, Stable: r.Bool()}
	return m, out[0].Addr, r.Err() == nil && m.Inode != 0 && m.Size < 1<<62
}

// MaxPiece is how much of a file travels at once.
const MaxPiece = 1 << 20

// PieceRequest asks for n bytes, at off, of the file that the shadow has at at.
func PieceRequest(at mem.Addr, off, n uint64) Request {
	return Request{Nr: nrMmap, Args: [6]uint64{uint64(at), n, 5: off}, In: []Blob{{Addr: at, Data: []byte{1}}}}
}

// PieceOf reads such a request.
func PieceOf(req Request) (at mem.Addr, off, n uint64, ok bool) {
	return mem.Addr(req.Args[0]), req.Args[5], min(req.Args[1], MaxPiece), req.Nr == nrMmap && len(req.In) == 1
}

const nrMmap = 9
