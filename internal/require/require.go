// Package require reads expressions that say which nodes a process may run on, and in which order they are preferred, in the spirit of LSF's
// resource requirements: cpus >= 4 && mem >= 8GiB && feature("avx512f") && tag("lab"). Its one invariant: an expression that was read can
// be evaluated; whatever is wrong with it, types included, is said when it is read, with the column.
//
// Numbers are compared with numbers and words with words; sizes have units (KiB to TiB). Names that stand for nothing that every node has
// are external indices: an expression that asks for one does not hold for a node without it.
package require

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
)

// Node is what expressions are about.
type Node struct {
	Name     string
	Numbers  map[string]float64 // by name: those of Names, and external indices
	Features []string           // of its processor
	Tags     []string
}

// Names are the numbers that every node has.
func Names() []string {
	return []string{"age", "away", "cpus", "guests", "load", "mem", "memtotal", "speed"}
}

// Error says what is wrong with an expression, and where.
type Error struct {
	Column int // from 1 on, in bytes
	Why    string
}

func (e *Error) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Why) }

// Expr is a condition.
type Expr struct {
	text  string
	holds func(Node) (value, bool)
	names []string
}

// String is the expression as it was written.
func (e *Expr) String() string { return e.text }

// Indices are the external indices that the expression asks for.
func (e *Expr) Indices() []string { return e.names }

// Holds tells whether n fits. A node that lacks an index which decides does not.
func (e *Expr) Holds(n Node) bool {
	v, ok := e.holds(n)
	return ok && v.yes
}

// value is of one of the three kinds.
type value struct {
	number float64
	word   string
	yes    bool
}

type kind int

const (
	isNumber kind = iota
	isWord
	isCondition
)

func (k kind) String() string { return [...]string{"a number", "a word", "a condition"}[k] }

// term is a part of an expression that was read. Its second result is false where the node lacks an index.
type term struct {
	kind kind
	at   int
	of   func(Node) (value, bool)
}

// Parse reads a condition.
func Parse(text string) (*Expr, error) {
	p := &parser{text: text}
	if err := p.scan(); err != nil {
		return nil, err
	}
	t, err := p.or()
	if err == nil && p.next().kind != end {
		err = p.fail(p.next(), "%q is not expected here", p.next().text)
	}
	if err == nil && t.kind != isCondition {
		err = &Error{t.at + 1, fmt.Sprintf("this is %v, and a condition is wanted, such as load < 1", t.kind)}
	}
	if err != nil {
		return nil, err
	}
	return &Expr{text: text, holds: t.of, names: p.indices()}, nil
}

// Order ranks nodes.
type Order struct {
	by    []term
	names []string
}

// ParseOrder reads numbers, separated by commas, the smallest of which is the best: load, -mem.
func ParseOrder(text string) (o Order, err error) {
	p := &parser{text: text}
	if err := p.scan(); err != nil {
		return o, err
	}
	for {
		t, err := p.sum()
		if err == nil && t.kind != isNumber {
			err = &Error{t.at + 1, fmt.Sprintf("this is %v, and nodes are ordered by numbers, such as load or -mem", t.kind)}
		}
		if err != nil {
			return o, err
		}
		o.by = append(o.by, t)
		if p.next().kind == end {
			o.names = p.indices()
			return o, nil
		}
		if !p.take(",") {
			return o, p.fail(p.next(), "%q is not expected here; numbers are separated by commas", p.next().text)
		}
	}
}

// Indices are the external indices that the order asks for.
func (o Order) Indices() []string { return o.names }

// Sort puts the best first; nodes that lack an index come last, and those that are equal stay as they are.
func (o Order) Sort(ns []Node) {
	sort.SliceStable(ns, func(i, k int) bool {
		for _, t := range o.by {
			a, okA := t.of(ns[i])
			b, okB := t.of(ns[k])
			if okA != okB {
				return okA
			}
			if okA && a.number != b.number {
				return a.number < b.number
			}
		}
		return false
	})
}

// ---- words

type tokenKind int

const (
	end tokenKind = iota
	number
	name
	word
	sign
)

type token struct {
	kind  tokenKind
	text  string
	at    int // in bytes
	value float64
}

type parser struct {
	text   string
	tokens []token
	pos    int
	asked  []string
	depth  int
}

func (p *parser) fail(t token, format string, args ...any) error {
	if t.kind == end {
		return &Error{t.at + 1, "the expression ends too early"}
	}
	return &Error{t.at + 1, fmt.Sprintf(format, args...)}
}

var units = map[string]float64{"": 1, "K": 1 << 10, "KiB": 1 << 10, "M": 1 << 20, "MiB": 1 << 20, "G": 1 << 30, "GiB": 1 << 30, "T": 1 << 40, "TiB": 1 << 40}

func (p *parser) scan() error {
	s := p.text
	letter := func(c byte) bool { return c == '_' || c < 0x80 && unicode.IsLetter(rune(c)) }
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	for i := 0; i < len(s); {
		c, from := s[i], i
		switch {
		case c == ' ' || c == '\t' || c == '\n':
			i++
		case digit(c) || c == '.' && i+1 < len(s) && digit(s[i+1]):
			for i < len(s) && (digit(s[i]) || s[i] == '.') {
				i++
			}
			v, err := strconv.ParseFloat(s[from:i], 64)
			if err != nil {
				return &Error{from + 1, fmt.Sprintf("%q is no number", s[from:i])}
			}
			unit := i
			for i < len(s) && (letter(s[i]) || digit(s[i])) {
				i++
			}
			f, ok := units[s[unit:i]]
			if !ok {
				return &Error{unit + 1, fmt.Sprintf("%q is no unit: want KiB, MiB, GiB or TiB", s[unit:i])}
			}
			p.tokens = append(p.tokens, token{number, s[from:i], from, v * f})
		case letter(c):
			for i < len(s) && (letter(s[i]) || digit(s[i])) {
				i++
			}
			p.tokens = append(p.tokens, token{name, s[from:i], from, 0})
		case c == '"' || c == '\'':
			to := strings.IndexByte(s[i+1:], c)
			if to < 0 {
				return &Error{from + 1, "a word begins here and does not end"}
			}
			i += to + 2
			p.tokens = append(p.tokens, token{word, s[from+1 : i-1], from, 0})
		default:
			two := s[i:min(i+2, len(s))]
			if slices.Contains([]string{"&&", "||", ">=", "<=", "==", "!="}, two) {
				i += 2
			} else if strings.IndexByte("()<>!+-*/,", c) >= 0 {
				i++
			} else {
				hint := ""
				if c == '=' || c == '&' || c == '|' {
					hint = fmt.Sprintf("; did you mean %c%c?", c, c)
				}
				return &Error{from + 1, fmt.Sprintf("%q means nothing here%s", s[i:i+1], hint)}
			}
			p.tokens = append(p.tokens, token{sign, s[from:i], from, 0})
		}
	}
	p.tokens = append(p.tokens, token{end, "", len(s), 0})
	return nil
}

func (p *parser) next() token { return p.tokens[p.pos] }

// take takes the sign s, if it is next.
func (p *parser) take(s string) bool {
	if t := p.next(); t.kind == sign && t.text == s {
		p.pos++
		return true
	}
	return false
}

// indices lists the external indices that were asked for, each once.
func (p *parser) indices() []string {
	slices.Sort(p.asked)
	return slices.Compact(p.asked)
}

// ---- grammar, from what binds least

func (p *parser) or() (term, error)  { return p.joined("||", p.and) }
func (p *parser) and() (term, error) { return p.joined("&&", p.not) }

func (p *parser) joined(op string, part func() (term, error)) (term, error) {
	left, err := part()
	for err == nil && p.take(op) {
		at := p.tokens[p.pos-1]
		var right term
		if right, err = part(); err != nil {
			break
		}
		for _, t := range []term{left, right} {
			if t.kind != isCondition {
				return left, &Error{t.at + 1, fmt.Sprintf("this is %v; %s joins conditions", t.kind, at.text)}
			}
		}
		a, b, all := left.of, right.of, op == "&&"
		left = term{isCondition, left.at, func(n Node) (value, bool) {
			x, okX := a(n)
			y, okY := b(n)
			switch {
			case okX && x.yes != all:
				return x, true
			case okY && y.yes != all:
				return y, true
			}
			return value{yes: all}, okX && okY
		}}
	}
	return left, err
}

func (p *parser) not() (term, error) {
	at := p.next()
	if !p.take("!") {
		return p.comparison()
	}
	if p.depth++; p.depth > maxDepth {
		return term{}, p.fail(at, "too deep")
	}
	t, err := p.not()
	p.depth--
	if err == nil && t.kind != isCondition {
		err = &Error{t.at + 1, fmt.Sprintf("this is %v; ! denies a condition", t.kind)}
	}
	of := t.of
	return term{isCondition, at.at, func(n Node) (value, bool) {
		v, ok := of(n)
		return value{yes: !v.yes}, ok
	}}, err
}

func (p *parser) comparison() (term, error) {
	left, err := p.sum()
	if err != nil {
		return left, err
	}
	for _, op := range []string{">=", "<=", "==", "!=", "<", ">"} {
		at := p.next()
		if !p.take(op) {
			continue
		}
		right, err := p.sum()
		switch {
		case err != nil:
			return left, err
		case left.kind != right.kind:
			return left, p.fail(at, "%v cannot be compared with %v", left.kind, right.kind)
		case left.kind == isCondition, left.kind == isWord && op != "==" && op != "!=":
			return left, p.fail(at, "%v cannot be compared with %s", left.kind, op)
		}
		a, b := left.of, right.of
		return term{isCondition, left.at, func(n Node) (value, bool) {
			x, okX := a(n)
			y, okY := b(n)
			return value{yes: compare(x, y, op)}, okX && okY
		}}, nil
	}
	return left, nil
}

func compare(x, y value, op string) bool {
	switch op {
	case ">=":
		return x.number >= y.number
	case "<=":
		return x.number <= y.number
	case "<":
		return x.number < y.number
	case ">":
		return x.number > y.number
	case "!=":
		return x != y
	}
	return x == y
}

func (p *parser) sum() (term, error)     { return p.arithmetic([]string{"+", "-"}, p.product) }
func (p *parser) product() (term, error) { return p.arithmetic([]string{"*", "/"}, p.unary) }

func (p *parser) arithmetic(ops []string, part func() (term, error)) (term, error) {
	left, err := part()
	for err == nil {
		at := p.next()
		if at.kind != sign || !slices.Contains(ops, at.text) {
			return left, nil
		}
		p.pos++
		right, err := part()
		if err != nil {
			return left, err
		}
		if left.kind != isNumber || right.kind != isNumber {
			return left, p.fail(at, "%s wants numbers on both sides", at.text)
		}
		a, b, op := left.of, right.of, at.text
		left = term{isNumber, left.at, func(n Node) (value, bool) {
			x, okX := a(n)
			y, okY := b(n)
			switch op {
			case "+":
				x.number += y.number
			case "-":
				x.number -= y.number
			case "*":
				x.number *= y.number
			case "/":
				x.number /= y.number
			}
			return x, okX && okY
		}}
	}
	return left, err
}

func (p *parser) unary() (term, error) {
	at := p.next()
	if !p.take("-") {
		return p.primary()
	}
	if p.depth++; p.depth > maxDepth {
		return term{}, p.fail(at, "too deep")
	}
	t, err := p.unary()
	p.depth--
	if err == nil && t.kind != isNumber {
		err = &Error{t.at + 1, fmt.Sprintf("this is %v; - wants a number", t.kind)}
	}
	of := t.of
	return term{isNumber, at.at, func(n Node) (value, bool) {
		v, ok := of(n)
		return value{number: -v.number}, ok
	}}, err
}

const maxDepth = 100

func (p *parser) primary() (term, error) {
	t := p.next()
	p.pos = min(p.pos+1, len(p.tokens)-1)
	fixed := func(k kind, v value) (term, error) {
		return term{k, t.at, func(Node) (value, bool) { return v, true }}, nil
	}
	switch {
	case t.kind == number:
		return fixed(isNumber, value{number: t.value})
	case t.kind == word:
		return fixed(isWord, value{word: t.text})
	case t.kind == name && p.take("("):
		return p.call(t)
	case t.kind == name && t.text == "name":
		return term{isWord, t.at, func(n Node) (value, bool) { return value{word: n.Name}, true }}, nil
	case t.kind == name && (t.text == "true" || t.text == "false"):
		return fixed(isCondition, value{yes: t.text == "true"})
	case t.kind == name:
		if !slices.Contains(Names(), t.text) {
			p.asked = append(p.asked, t.text)
		}
		return term{isNumber, t.at, func(n Node) (value, bool) {
			v, ok := n.Numbers[t.text]
			return value{number: v}, ok
		}}, nil
	case t.kind == sign && t.text == "(":
		if p.depth++; p.depth > maxDepth {
			return term{}, p.fail(t, "too deep")
		}
		in, err := p.or()
		p.depth--
		if err == nil && !p.take(")") {
			err = p.fail(p.next(), "%q is not expected here; a ) is missing", p.next().text)
		}
		return in, err
	}
	return term{}, p.fail(t, "%q is not expected here: want a number, a name, a word in quotes or (", t.text)
}

// call reads what follows name( .
func (p *parser) call(f token) (term, error) {
	has := map[string]func(Node) []string{
		"feature": func(n Node) []string { return n.Features },
		"tag":     func(n Node) []string { return n.Tags },
	}[f.text]
	if has == nil {
		return term{}, p.fail(f, "there is no %s(): want feature(\"...\") or tag(\"...\")", f.text)
	}
	arg := p.next()
	if arg.kind != word {
		return term{}, p.fail(arg, "%s() wants a word in quotes", f.text)
	}
	p.pos++
	if !p.take(")") {
		return term{}, p.fail(p.next(), "%q is not expected here; a ) is missing", p.next().text)
	}
	return term{isCondition, f.at, func(n Node) (value, bool) { return value{yes: slices.Contains(has(n), arg.text)}, true }}, nil
}
