package shadow

import (
	"fmt"
	"os"
	"strconv"

	"mosix/homeproxy"
	"mosix/internal/kern"
)

// deviceOf is the device behind the descriptor of a call that came to ret, where the host has asked and the process has its table
// of descriptors to itself: of another's close its host would not know. The caller holds mu.
func (s *Shadow) deviceOf(j *job, ret int64) homeproxy.Device {
	if !j.device || ret < 0 {
		return homeproxy.NoDevice
	}
	f, err := kern.Cached(fmt.Sprintf("/proc/%d/fd/%d", s.PID, int32(j.args[0])))
	if err != nil || f.Mode&modeType != modeChar {
		return homeproxy.NoDevice
	}
	is := homeproxy.DeviceOf(f.RdevMajor, f.RdevMinor)
	if is != homeproxy.NoDevice && s.alone == unknown {
		s.alone = isShared
		if s.sharesNoDescriptors() {
			s.alone = isAlone
		}
	}
	if s.alone != isAlone {
		return homeproxy.NoDevice
	}
	return is
}

const (
	modeType = 0xf000
	modeChar = 0x2000
)

// Whether a process has its table of descriptors to itself. When its guest begins to share it, home makes that birth and knows.
const (
	unknown = iota
	isAlone
	isShared
)

func (s *Shadow) sharesNoDescriptors() bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == s.PID {
			continue
		}
		if same, err := kern.SameDescriptors(s.PID, pid); same || err != nil && !kern.IsGone(err) {
			return false
		}
	}
	return true
}
