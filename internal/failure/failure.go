// Package failure is the error that a move, or a part of it, ends with: what was done, in which phase, of which kind, and
// why. Its one invariant: numbers of phases and kinds cross the wire and the journal, so a number that was released keeps
// its meaning for ever; new ones are added at the end.
//
// A failure is not a refusal. A process that cannot move is well, and the reasons are image.Refusals; a failure is something
// that went wrong on the way.
package failure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Phase is the step of a move that failed.
type Phase uint16

// The phases, in the order in which a move passes through them. Numbers are explicit because they are released.
const (
	NoPhase  Phase = 0  // not part of a move
	Check    Phase = 1  // looking at a process without touching it
	Offer    Phase = 2  // asking the host
	Prepare  Phase = 3  // the empty process on the host
	Precopy  Phase = 4  // pages while the process runs
	Freeze   Phase = 5  // stopping it and taking its image
	Final    Phase = 6  // last pages and registers, to the host
	Ready    Phase = 7  // the host has everything
	Park     Phase = 8  // laying the original to rest
	Commit   Phase = 9  // the message that cannot be taken back
	Run      Phase = 10 // letting the guest go
	Serve    Phase = 11 // forwarded calls and signals
	ComeHome Phase = 12 // the way back into the shadow
	Adopt    Phase = 13 // a new agent takes over shadows and guests
)

var phaseNames = map[Phase]string{
	NoPhase: "", Check: "check", Offer: "offer", Prepare: "prepare", Precopy: "precopy", Freeze: "freeze", Final: "final",
	Ready: "ready", Park: "park", Commit: "commit", Run: "run", Serve: "serve", ComeHome: "come-home", Adopt: "adopt",
}

func (p Phase) String() string {
	if s, ok := phaseNames[p]; ok {
		return s
	}
	return fmt.Sprintf("phase-%d", uint16(p))
}

// Kind is what a caller decides by: whether to try again, elsewhere, or not at all. It is an error itself, so that
// errors.Is(err, failure.Gone) asks for it at any depth.
type Kind uint16

// The kinds. Numbers are explicit because they are released.
const (
	Other       Kind = 0  // none of those below
	Gone        Kind = 1  // the process or thread has ended
	Unreachable Kind = 2  // the other node does not answer
	Timeout     Kind = 3  // it answers, but not in time
	Stale       Kind = 4  // epoch or transaction is over
	Version     Kind = 5  // the two ends share no version
	Denied      Kind = 6  // the asking user or node may not do this
	NoMemory    Kind = 7  // not enough memory on one side
	Busy        Kind = 8  // another move of this process, or too many at once
	Corrupt     Kind = 9  // bytes that cannot be what they claim to be
	Kernel      Kind = 10 // the kernel refused a call that mosix relies on
	Unsupported Kind = 11 // this kernel or processor lacks a feature
	Undecided   Kind = 12 // Commit was sent and its answer is lost: the lease decides
	Aborted     Kind = 13 // the other side, or the user, called it off
	Shutdown    Kind = 14 // the agent is ending
	Injected    Kind = 15 // a fault point of a test
	Conflict    Kind = 16 // a number, name or address that is needed is taken
)

var kindNames = map[Kind]string{
	Other: "other", Gone: "gone", Unreachable: "unreachable", Timeout: "timeout", Stale: "stale", Version: "version",
	Denied: "denied", NoMemory: "no-memory", Busy: "busy", Corrupt: "corrupt", Kernel: "kernel", Unsupported: "unsupported",
	Undecided: "undecided", Aborted: "aborted", Shutdown: "shutdown", Injected: "injected", Conflict: "conflict",
}

// String gives the word that metrics and logs use.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind-%d", uint16(k))
}

func (k Kind) Error() string { return k.String() }

// Retry reports whether the same move may succeed when it is tried again later, without anybody doing anything.
func (k Kind) Retry() bool {
	switch k {
	case Unreachable, Timeout, NoMemory, Busy, Aborted, Stale:
		return true
	}
	return false
}

// Error says what failed. Op is a verb and its object ("read areas of 4711"), in the words of the user; Err is the cause.
type Error struct {
	Op    string
	Phase Phase
	Kind  Kind
	Err   error
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Phase != NoPhase {
		b.WriteString(e.Phase.String())
	}
	for _, s := range []string{e.Op, e.cause()} {
		if s == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(s)
	}
	return b.String()
}

// cause is the text of Err, or of the kind where there is no Err.
func (e *Error) cause() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return e.Kind.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the kind of e.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// KindOf returns the kind of the outermost Error in err's chain that has one, Other where there is none.
func KindOf(err error) Kind {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			break
		}
		if e.Kind != Other {
			return e.Kind
		}
		err = e.Err
	}
	var k Kind
	if err != nil && errors.As(err, &k) {
		return k
	}
	return Other
}

// PhaseOf returns the phase of the outermost Error in err's chain that has one.
func PhaseOf(err error) Phase {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			break
		}
		if e.Phase != NoPhase {
			return e.Phase
		}
		err = e.Err
	}
	return NoPhase
}

// maxText bounds each of the two texts of an error on the wire, in bytes.
const maxText = 4096

// remote is the cause of an error that came from another node: its words, without the types it had there.
type remote string

func (r remote) Error() string { return string(r) }

// AppendBinary appends the form in which e crosses the wire: phase, kind, length and text of Op, length and text of the
// cause, little-endian. Texts are cut at 4096 bytes. It never fails; the error is there for encoding.BinaryAppender.
func (e *Error) AppendBinary(b []byte) ([]byte, error) {
	b = binary.LittleEndian.AppendUint16(b, uint16(e.Phase))
	b = binary.LittleEndian.AppendUint16(b, uint16(KindOf(e)))
	text := ""
	if e.Err != nil {
		text = e.Err.Error()
	}
	for _, s := range []string{e.Op, text} {
		s = s[:min(len(s), maxText)]
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return b, nil
}

// MarshalBinary implements encoding.BinaryMarshaler.
func (e *Error) MarshalBinary() ([]byte, error) { return e.AppendBinary(nil) }

// UnmarshalBinary reads what AppendBinary wrote. Bytes after it are ignored: a later version may add some. A phase or kind
// that this version does not know keeps its number.
func (e *Error) UnmarshalBinary(b []byte) error {
	short := &Error{Op: "decode an error from another node", Kind: Corrupt, Err: errors.New("it ends in the middle")}
	if len(b) < 4 {
		return short
	}
	d := Error{Phase: Phase(binary.LittleEndian.Uint16(b)), Kind: Kind(binary.LittleEndian.Uint16(b[2:]))}
	b = b[4:]
	var texts [2]string
	for i := range texts {
		if len(b) < 2 {
			return short
		}
		n := int(binary.LittleEndian.Uint16(b))
		if n > maxText || len(b) < 2+n {
			return short
		}
		texts[i], b = string(b[2:2+n]), b[2+n:]
	}
	d.Op = texts[0]
	if texts[1] != "" {
		d.Err = remote(texts[1])
	}
	*e = d
	return nil
}

// From makes an Error of any error, to send it: err itself, or what it wraps, or a new one with err's words.
func From(err error) *Error {
	if e, ok := err.(*Error); ok {
		return e
	}
	return &Error{Phase: PhaseOf(err), Kind: KindOf(err), Err: err}
}
