package sampler

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
)

// limits are the control groups that bound what guests can have: those of the configuration and all above them.
type limits struct{ dirs []string }

// findLimits lists the directories of control groups, from those that are given up to the roots of their hierarchies.
func findLimits(given []string) limits {
	var l limits
	seen := map[string]bool{}
	for _, dir := range given {
		for dir = filepath.Clean(dir); !seen[dir]; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
				break
			}
			seen[dir] = true
			l.dirs = append(l.dirs, dir)
		}
	}
	return l
}

// cpus is the number of processors that guests can have: as configured, or the least of what the quotas leave and what
// the machine has.
func (s *Sampler) cpus() float64 {
	if s.opt.Config.CPUs > 0 {
		return s.opt.Config.CPUs
	}
	n := float64(runtime.NumCPU())
	for _, dir := range s.limits.dirs {
		if q := s.quota(dir); q > 0 {
			n = math.Min(n, q)
		}
	}
	return n
}

// quota is the number of processors that a control group may use; 0: no limit.
func (s *Sampler) quota(dir string) float64 {
	if b, err := s.files.read(filepath.Join(dir, "cpu.max")); err == nil { // v2: "50000 100000", or "max 100000"
		if f := bytes.Fields(b); len(f) == 2 {
			return ratio(f[0], f[1])
		}
		return 0
	}
	b, err := s.files.read(filepath.Join(dir, "cpu.cfs_quota_us"))
	if err != nil {
		return 0
	}
	quota := bytes.Clone(bytes.TrimSpace(b)) // -1: no limit
	if b, err = s.files.read(filepath.Join(dir, "cpu.cfs_period_us")); err != nil {
		return 0
	}
	return ratio(quota, bytes.TrimSpace(b))
}

func ratio(quota, period []byte) float64 {
	q, err1 := strconv.ParseFloat(string(quota), 64)
	p, err2 := strconv.ParseFloat(string(period), 64)
	if err1 != nil || err2 != nil || q <= 0 || p <= 0 {
		return 0
	}
	return q / p
}

// memory is what there is in all, and what can be had without paging: of the machine, of each control group, and of what
// the configuration allows; the least of them. followed is what the followed processes hold: where the configuration
// names a limit that no control group accounts for, it stands for all that is used.
func (s *Sampler) memory(followed uint64) (total, free uint64, err error) {
	b, err := s.files.read(filepath.Join(s.opt.FS.Root, "meminfo"))
	if err != nil {
		return 0, 0, err
	}
	var ok1, ok2 bool
	total, ok1 = lineKiB(b, "MemTotal:")
	free, ok2 = lineKiB(b, "MemAvailable:")
	if !ok1 || !ok2 {
		return 0, 0, errors.New("meminfo: want MemTotal and MemAvailable")
	}
	used, accounted := followed, false
	for _, dir := range s.limits.dirs {
		limit, usage, err := s.group(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a group of another controller
		}
		if err != nil {
			return 0, 0, err
		}
		if !accounted { // the innermost group is listed first
			used, accounted = usage, true
		}
		total = min(total, limit)
		if limit != math.MaxUint64 {
			free = min(free, limit-min(limit, usage))
		}
	}
	if limit := uint64(s.opt.Config.Memory); limit > 0 {
		total = min(total, limit)
		free = min(free, limit-min(limit, used))
	}
	return total, min(free, total), nil
}

// group reads the limit of a control group, and what it uses and cannot give back at once, in bytes.
func (s *Sampler) group(dir string) (limit, usage uint64, err error) {
	names := [3]string{"memory.max", "memory.current", "inactive_file "}
	b, err := s.files.read(filepath.Join(dir, names[0]))
	if errors.Is(err, fs.ErrNotExist) {
		names = [3]string{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "}
		b, err = s.files.read(filepath.Join(dir, names[0]))
	}
	if err != nil {
		return 0, 0, err
	}
	limit = math.MaxUint64
	if v, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64); err == nil && v < 1<<60 { // else "max", or v1's nearly endless one
		limit = v
	}
	if b, err = s.files.read(filepath.Join(dir, names[1])); err != nil {
		return 0, 0, err
	}
	if usage, err = strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("%s in %s: %w", names[1], dir, err)
	}
	if b, err = s.files.read(filepath.Join(dir, "memory.stat")); err != nil {
		return 0, 0, err
	}
	cache, _ := line(b, names[2])
	return limit, usage - min(usage, cache), nil
}

// lineKiB finds a line such as "MemTotal: 8146120 kB" and returns its value in bytes.
func lineKiB(b []byte, key string) (uint64, bool) {
	v, ok := line(b, key)
	return v << 10, ok
}

// line finds the number that follows key at the beginning of a line.
func line(b []byte, key string) (uint64, bool) {
	for l := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(l, []byte(key)); ok {
			f := bytes.Fields(rest)
			if len(f) == 0 {
				return 0, false
			}
			v, err := strconv.ParseUint(string(f[0]), 10, 64)
			return v, err == nil
		}
	}
	return 0, false
}
