package shadow

import (
	"fmt"
	"os"
	"strings"
	"time"

	"mosix/internal/abi"
	"mosix/internal/kern"
)

// left is what remains of the timeout that the socket of call j has, which was cut; 0 where there is none.
func (s *Shadow) left(j *job) time.Duration {
	form := abi.TimeoutOf(uint64(j.nr))
	fd := int(int32(uint32(j.args[0])))
	if form != abi.TimeoutReceive && form != abi.TimeoutSend {
		return 0
	}
	if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.PID, fd)); err != nil || !strings.HasPrefix(to, "socket:") {
		return 0
	}
	f, err := kern.PidfdGetfd(s.pidfd, fd, "socket")
	if err != nil {
		return 0
	}
	defer f.Close()
	d, send, err := kern.SocketTimeouts(f)
	if form == abi.TimeoutSend {
		d = send
	}
	if err != nil || d == 0 {
		return 0
	}
	return max(d-time.Since(j.started), time.Microsecond)
}
