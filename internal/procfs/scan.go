package procfs

import (
	"bytes"
	"errors"
	"fmt"
)

var (
	errShort  = errors.New("ends too early")
	errNumber = errors.New("a number is expected")
)

// scanner walks over one line without allocating. The first error stays; later reads return zero.
type scanner struct {
	b   []byte
	err error
}

func (s *scanner) spaces() {
	i := 0
	for i < len(s.b) && (s.b[i] == ' ' || s.b[i] == '\t') {
		i++
	}
	s.b = s.b[i:]
}

// token returns the bytes up to the next blank.
func (s *scanner) token() []byte {
	s.spaces()
	i := 0
	for i < len(s.b) && s.b[i] != ' ' && s.b[i] != '\t' {
		i++
	}
	t := s.b[:i]
	s.b = s.b[i:]
	if i == 0 && s.err == nil {
		s.err = errShort
	}
	return t
}

// want takes one byte, which must be c.
func (s *scanner) want(c byte) {
	if s.err != nil {
		return
	}
	if len(s.b) == 0 {
		s.err = errShort
		return
	}
	if s.b[0] != c {
		s.err = fmt.Errorf("%q is expected, not %q", c, s.b[0])
		return
	}
	s.b = s.b[1:]
}

// hex reads a hexadecimal number of at most 64 bits, up to the first byte that is no digit of it.
func (s *scanner) hex() uint64 {
	var v uint64
	i := 0
	for ; i < len(s.b); i++ {
		d, ok := hexDigit(s.b[i])
		if !ok {
			break
		}
		if i == 16 && s.err == nil {
			s.err = errNumber
		}
		v = v<<4 | uint64(d)
	}
	if i == 0 && s.err == nil {
		s.err = errNumber
	}
	s.b = s.b[i:]
	return v
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// uint reads a blank, and a decimal number. One that does not fit in 64 bits is an error.
func (s *scanner) uint() uint64 {
	s.spaces()
	var v uint64
	i := 0
	for ; i < len(s.b) && s.b[i] >= '0' && s.b[i] <= '9'; i++ {
		d := uint64(s.b[i] - '0')
		if v > (1<<64-1-d)/10 {
			if s.err == nil {
				s.err = errNumber
			}
			return 0
		}
		v = v*10 + d
	}
	if i == 0 && s.err == nil {
		s.err = errNumber
	}
	s.b = s.b[i:]
	return v
}

// int reads a blank and a signed decimal number.
func (s *scanner) int() int64 {
	s.spaces()
	if len(s.b) > 0 && s.b[0] == '-' {
		s.b = s.b[1:]
		v := s.uint()
		if v > 1<<63 && s.err == nil {
			s.err = errNumber
		}
		return -int64(v)
	}
	v := s.uint()
	if v > 1<<63-1 && s.err == nil {
		s.err = errNumber
		return 0
	}
	return int64(v)
}

// octal reads a blank and an octal number.
func (s *scanner) octal() uint64 {
	s.spaces()
	var v uint64
	i := 0
	for ; i < len(s.b) && s.b[i] >= '0' && s.b[i] <= '7'; i++ {
		if v>>61 != 0 && s.err == nil {
			s.err = errNumber
		}
		v = v<<3 | uint64(s.b[i]-'0')
	}
	if i == 0 && s.err == nil {
		s.err = errNumber
	}
	s.b = s.b[i:]
	return v
}

// rest returns what is left, without leading blanks.
func (s *scanner) rest() []byte {
	s.spaces()
	return s.b
}

// end reports the first error, or that something is left over.
func (s *scanner) end() error {
	s.spaces()
	if s.err == nil && len(s.b) > 0 {
		return fmt.Errorf("%q is left over", s.b)
	}
	return s.err
}

// cutLine splits off the first line.
func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// ParseInts reads decimal numbers between blanks.
func ParseInts(b []byte) ([]int, error) {
	var out []int
	s := scanner{b: bytes.TrimRight(b, " \n")}
	for s.err == nil && len(s.rest()) > 0 {
		out = append(out, int(s.int()))
		if s.err == nil && len(s.b) > 0 && s.b[0] != ' ' && s.b[0] != '\t' {
			return nil, errNumber
		}
	}
	return out, s.err
}
