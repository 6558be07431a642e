package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// humanBytes writes a size with three digits: 512B, 1.5KiB, 12.3MiB, 456GiB.
func humanBytes(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + "B"
	}
	v, unit := float64(n), 0
	for v >= 999.5 && unit < 6 {
		v, unit = v/1024, unit+1
	}
	format := "%.1f%ciB"
	if v >= 99.95 {
		format = "%.0f%ciB"
	}
	return fmt.Sprintf(format, v, "BKMGTPE"[unit])
}

// humanMS writes milliseconds: 0.42 ms, 5.5 ms, 210 ms, 1.25 s.
func humanMS(ms float64) string {
	switch {
	case ms < 1:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f s", ms/1000)
}

// humanSeconds writes an age: 0.3s, 12s, 3m20s, 4h5m, 2d3h.
func humanSeconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case s < 10:
		return fmt.Sprintf("%.1fs", s)
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", s)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// humanCPU writes CPU time as ps does, with tenths where they matter: 3.2s, 1:05, 2:03:20.
func humanCPU(s float64) string {
	n := int(s)
	switch {
	case s < 60:
		return fmt.Sprintf("%.1fs", s)
	case n < 3600:
		return fmt.Sprintf("%d:%02d", n/60, n%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
}

// count writes "1 reason", "2 reasons", "3 processes".
func count(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "s"):
		noun += "es"
	default:
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// number writes a float with at most two decimals and none that say nothing: 2, 0.5, 1.25.
func number(f float64) string {
	return strconv.FormatFloat(float64(int64(f*100+0.5))/100, 'f', -1, 64)
}
