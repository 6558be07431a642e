package homeproxy

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// View says that a call has read a file of /proc that shows how much memory the process uses, and what it does with signals: what is
// so of the shadow stands in it, and the host puts in what is so of the guest.
type View uint8

// The files.
const (
	NoView View = iota
	ViewStatus
	ViewStat
	ViewStatm
	ViewThread // stat of a thread
)

// ViewOf tells which file of process pid path names, if it is one of them.
func ViewOf(path string, pid int) View {
	rest, ok := strings.CutPrefix(path, "/proc/"+strconv.Itoa(pid)+"/")
	if !ok {
		return NoView
	}
	task, ofThread := strings.CutPrefix(rest, "task/")
	if ofThread {
		_, rest, _ = strings.Cut(task, "/")
	}
	switch rest {
	case "status":
		return ViewStatus
	case "stat":
		if ofThread {
			return ViewThread
		}
		return ViewStat
	case "statm":
		return ViewStatm
	}
	return NoView
}

// Thread is the number of the thread, or process, of which text tells, as far as it does.
func (v View) Thread(text []byte) int {
	number := text
	if v == ViewStatus {
		_, number, _ = bytes.Cut(text, []byte("\nPid:\t"))
	}
	if i := bytes.IndexFunc(number, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		number = number[:i]
	}
	n, _ := strconv.Atoi(string(number))
	return n
}

// Amend puts into text, what home has read of such a file, the amounts of memory from guest, the same file of the guest as its host
// sees it, less what is mosix's own there: extra bytes, of which code bytes are code. What is not the beginning of the file stays
// as it is.
func (v View) Amend(text, guest []byte, extra, code uint64) []byte {
	switch v {
	case ViewStatus:
		return amendStatus(text, guest, extra>>10, code>>10)
	case ViewStat, ViewThread:
		return amendStat(text, guest, extra)
	case ViewStatm:
		return amendStatm(text, guest, extra>>12)
	}
	return text
}

func amendStatus(text, guest []byte, extra, code uint64) []byte {
	if !bytes.HasPrefix(text, []byte("Name:")) {
		return text
	}
	here, masks := map[string]uint64{}, map[string]string{}
	for line := range strings.Lines(string(guest)) {
		if key, _, _ := strings.Cut(line, ":"); signalLine(key) || key == "SigQ" {
			masks[key] = line
		}
		if key, kb, ok := amount(line); ok {
			here[key] = kb
		}
	}
	if here["VmSize"] == 0 {
		return text
	}
	var out []byte
	for line := range strings.Lines(string(text)) {
		if key, _, _ := strings.Cut(line, ":"); key == "SigQ" {
			out = append(out, queued(line, masks[key])...)
			continue
		}
		if key, _, _ := strings.Cut(line, ":"); signalLine(key) && masks[key] != "" {
			out = append(out, masks[key]...)
			continue
		}
		key, home, ok := amount(line)
		n, there := here[key]
		if !ok || !there {
			out = append(out, line...)
			continue
		}
		switch key {
		case "VmSize":
			n = less(n, extra)
		case "VmPeak":
			n = max(less(n, extra), less(home, extra))
		case "VmHWM":
			n = max(n, home)
		case "VmLib":
			n = less(n, code)
		case "RssFile":
			n += here["RssShmem"] // stand-ins for files
		case "RssShmem":
			n = home
		}
		out = append(out, key+":\t"+strings.Repeat(" ", max(0, 8-len(strconv.FormatUint(n, 10))))+strconv.FormatUint(n, 10)+" kB\n"...)
	}
	return out
}

// signalLine reports whether a line of /proc/PID/status says what the process does with signals: that is its guest's business.
func signalLine(key string) bool {
	switch key {
	case "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt":
		return true
	}
	return false
}

// queued puts into the line SigQ, which counts what waits for the user's processes, what waits away.
func queued(line, away string) string {
	number := func(line string) (int, string) {
		_, rest, _ := strings.Cut(line, ":\t")
		n, limit, _ := strings.Cut(rest, "/")
		x, _ := strconv.Atoi(n)
		return x, limit
	}
	n, limit := number(line)
	more, _ := number(away)
	return "SigQ:\t" + strconv.Itoa(n+more) + "/" + limit
}

// amount reads a line of /proc/PID/status that says how much memory there is of something.
func amount(line string) (key string, kb uint64, ok bool) {
	key, value, ok := strings.Cut(line, ":")
	if !ok || !strings.HasPrefix(key, "Vm") && !strings.HasPrefix(key, "Rss") {
		return "", 0, false
	}
	value, ok = strings.CutSuffix(strings.TrimSpace(value), " kB")
	kb, err := strconv.ParseUint(value, 10, 64)
	return key, kb, ok && err == nil
}

func less(a, b uint64) uint64 { return a - min(a, b) }

// statFields divides a line of /proc/PID/stat into what stands up to the name, and the fields behind it: the first is number 3 of the
// manual page. f is nil where it is no whole line.
func statFields(b []byte) (head []byte, f [][]byte) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 || !bytes.HasSuffix(b, []byte("\n")) {
		return nil, nil
	}
	if f = bytes.Fields(b[i+1:]); len(f) < 50 {
		f = nil
	}
	return b[:i+1], f
}

func joinStat(head []byte, f [][]byte) []byte {
	return append(append(append(bytes.Clone(head), ' '), bytes.Join(f, []byte(" "))...), '\n')
}

// AddTime adds the ticks of processor time that used says of the process, or thread, to its line of /proc/PID/stat.
func AddTime(text []byte, used func(tid int) (user, sys uint64)) []byte {
	head, f := statFields(text)
	number, _, _ := bytes.Cut(head, []byte(" "))
	tid, err := strconv.Atoi(string(number))
	if f == nil || err != nil {
		return text
	}
	user, sys := used(tid)
	for i, more := range []uint64{14 - 3: user, 15 - 3: sys} {
		if n, err := strconv.ParseUint(string(f[i]), 10, 64); err == nil && more > 0 {
			f[i] = strconv.AppendUint(nil, n+more, 10)
		}
	}
	return joinStat(head, f)
}

// AddChildTime adds ticks to what the line of /proc/PID/stat says that its children have used which it has waited for.
func AddChildTime(text []byte, user, sys uint64) []byte {
	head, f := statFields(text)
	if f == nil {
		return text
	}
	for i, more := range []uint64{16 - 3: user, 17 - 3: sys} {
		if n, err := strconv.ParseUint(string(f[i]), 10, 64); err == nil && more > 0 {
			f[i] = strconv.AppendUint(nil, n+more, 10)
		}
	}
	return joinStat(head, f)
}

// Running makes text say that the thread of which it tells runs.
func Running(v View, text []byte) []byte {
	switch v {
	case ViewStatus:
		if before, rest, ok := bytes.Cut(text, []byte("\nState:\t")); ok {
			if _, after, ok := bytes.Cut(rest, []byte("\n")); ok {
				return slices.Concat(before, []byte("\nState:\tR (running)\n"), after)
			}
		}
	case ViewStat, ViewThread:
		if head, f := statFields(text); f != nil {
			f[0] = []byte("R")
			return joinStat(head, f)
		}
	}
	return text
}

// Uncaught makes text, of a guest as its host sees it, say that it does not catch the signals of set.
func (v View) Uncaught(text []byte, set uint64) []byte {
	if set == 0 {
		return text
	}
	switch v {
	case ViewStatus:
		const key, digits = "\nSigCgt:\t", 16
		if i := bytes.Index(text, []byte(key)); i >= 0 && i+len(key)+digits <= len(text) {
			at := text[i+len(key) : i+len(key)+digits]
			if n, err := strconv.ParseUint(string(at), 16, 64); err == nil {
				copy(at, fmt.Sprintf("%016x", n&^set))
			}
		}
	case ViewStat, ViewThread:
		const caught = 34 - 3
		if head, f := statFields(text); f != nil {
			if n, err := strconv.ParseUint(string(f[caught]), 10, 64); err == nil {
				f[caught] = strconv.AppendUint(nil, n&^set, 10)
			}
			return joinStat(head, f)
		}
	}
	return text
}

// amendStat puts in the fields 23 and 24 of the manual page: bytes of address space and pages in use.
func amendStat(text, guest []byte, extra uint64) []byte {
	head, f := statFields(text)
	_, here := statFields(guest)
	const size, pages = 23 - 3, 24 - 3
	if f == nil || here == nil {
		return text
	}
	n, err := strconv.ParseUint(string(here[size]), 10, 64)
	if err != nil {
		return text
	}
	f[size], f[pages] = strconv.AppendUint(nil, less(n, extra), 10), here[pages]
	for _, i := range []int{10 - 3, 12 - 3} { // faults, of which the home has had those before
		a, err1 := strconv.ParseUint(string(f[i]), 10, 64)
		b, err2 := strconv.ParseUint(string(here[i]), 10, 64)
		if err1 == nil && err2 == nil {
			f[i] = strconv.AppendUint(nil, a+b, 10)
		}
	}
	copy(f[31-3:34-3+1], here[31-3:34-3+1]) // signals: pending, blocked, ignored, caught
	return joinStat(head, f)
}

func amendStatm(text, guest []byte, extra uint64) []byte {
	f, here := bytes.Fields(text), bytes.Fields(guest)
	if len(f) != 7 || len(here) != 7 || !bytes.HasSuffix(text, []byte("\n")) {
		return text
	}
	n, err := strconv.ParseUint(string(here[0]), 10, 64)
	if err != nil {
		return text
	}
	here[0] = strconv.AppendUint(nil, less(n, extra), 10)
	return append(bytes.Join(here, []byte(" ")), '\n')
}
