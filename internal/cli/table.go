package cli

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// column of a table. The last one is neither padded nor, where it is text, wider than what is left of the terminal.
type column struct {
	title string
	right bool // numbers
}

// table prints rows in columns that are as wide as their widest cell, two blanks apart.
type table struct {
	columns []column
	rows    [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table. width is that of the terminal, or 0 for no limit.
func (t *table) print(w io.Writer, width int) error {
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c.title)
	}
	for _, r := range t.rows {
		for i, cell := range r {
			r[i] = printable(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
		}
	}
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = c.title
	}
	var b strings.Builder
	for _, r := range append([][]string{titles}, t.rows...) {
		var line strings.Builder
		for i, cell := range r {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			switch {
			case t.columns[i].right:
				line.WriteString(pad + cell)
			case i == len(r)-1:
				line.WriteString(cell)
			default:
				line.WriteString(cell + pad)
			}
			if i < len(r)-1 {
				line.WriteString("  ")
			}
		}
		b.WriteString(strings.TrimRight(cut(line.String(), width), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cut shortens s to width columns; 0 is no limit.
func cut(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + "…"
}

// printable replaces what could move the cursor or set colours: command lines are chosen by other users.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
