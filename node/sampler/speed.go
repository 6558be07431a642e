package sampler

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StandardRounds is the speed 1.0: a processor that does so many rounds of the kernel below in a second. One core of a
// server of 2021 at 2.6 GHz (AMD EPYC 7003) does about as many.
const StandardRounds = 170e6

// speedVersion changes with the kernel: values of different kernels cannot be compared.
const speedVersion = "1"

const (
	speedFile  = "speed"
	speedSet   = "set" // in place of a version: an administrator's word
	roundsOnce = 800_000
	// The fastest of several short runs counts: every disturbance, by another process or by a quota, only slows down.
	speedRuns   = 24
	speedBudget = 90 * time.Millisecond
)

// Speed returns the speed of a processor of this machine: what the administrator has set, or what was measured earlier, or
// what is measured now and kept in dir. The value is valid also when there is an error, which says why it is not kept.
func Speed(dir string) (float64, error) {
	path := filepath.Join(dir, speedFile)
	b, err := os.ReadFile(path)
	if err == nil {
		if v, ok := parseSpeed(string(b)); ok {
			return v, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Calibrate(), fmt.Errorf("read speed: %w", err)
	}
	v := Calibrate()
	return v, saveSpeed(dir, speedVersion, v)
}

// SetSpeed keeps a speed that the administrator gives. With 0 it is measured again at the next start.
func SetSpeed(dir string, v float64) error {
	if v == 0 {
		if err := os.Remove(filepath.Join(dir, speedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget speed: %w", err)
		}
		return nil
	}
	if !plausible(v) {
		return fmt.Errorf("speed %g: want a number from 0.01 to 100, 1 being the standard, or 0 to measure it", v)
	}
	return saveSpeed(dir, speedSet, v)
}

func saveSpeed(dir, version string, v float64) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep speed: %w", err)
	}
	path := filepath.Join(dir, speedFile)
	// Written beside and renamed, so that a crash leaves either the old value or the new one.
	if err := os.WriteFile(path+".new", fmt.Appendf(nil, "%s %.2f\n", version, v), 0o644); err != nil {
		return fmt.Errorf("keep speed: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("keep speed: %w", err)
	}
	return nil
}

func parseSpeed(s string) (float64, bool) {
	f := strings.Fields(s)
	if len(f) != 2 || f[0] != speedVersion && f[0] != speedSet {
		return 0, false
	}
	v, err := strconv.ParseFloat(f[1], 64)
	return v, err == nil && plausible(v)
}

func plausible(v float64) bool { return v >= 0.01 && v <= 100 }

// Calibrate measures the speed of the processor that it runs on, in about 100 ms. What counts is the CPU time of the thread:
// waiting for a busy processor says nothing of its speed.
func Calibrate() float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	best := time.Duration(math.MaxInt64)
	begin := time.Now()
	for i := range speedRuns {
		t := threadTime()
		runtime.KeepAlive(spin(roundsOnce))
		if took := threadTime() - t; took > 0 {
			best = min(best, took)
		}
		if i > 2 && time.Since(begin)+best > speedBudget {
			break
		}
	}
	v := roundsOnce / best.Seconds() / StandardRounds
	return math.Max(0.01, math.Min(100, math.Round(v*100)/100))
}

// threadTime is the CPU time that the calling thread has used.
func threadTime() time.Duration {
	const thread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	_ = syscall.Getrusage(thread, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spin is the kernel: in each round some dependent integer work, a multiplication and addition of floats, and a load and a
// store in the first-level cache, about as a compiler or an interpreter mixes them.
//
//go:noinline
func spin(rounds int) float64 {
	var table [1024]uint64
	x, y := uint64(88172645463325252), 1.0
	for i := range rounds {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		slot := &table[x%uint64(len(table))]
		*slot += bits.RotateLeft64(x, i&63)
		if *slot&1 == 0 {
			y = y*0.999 + 0.5
		} else {
			y = y*0.998 + 0.25
		}
	}
	return y + float64(x&1)
}
