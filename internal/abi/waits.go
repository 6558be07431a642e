package abi

// Timeout says where a call that a mere stop ends with EINTR has its relative timeout.
type Timeout uint8

// The places.
const (
	TimeoutNone    Timeout = iota // it is not such a call
	TimeoutMillis                 // the fourth argument, in milliseconds
	TimeoutThird                  // the third points to a timespec
	TimeoutFourth                 // the fourth
	TimeoutFifth                  // the fifth
	TimeoutReceive                // SO_RCVTIMEO of the socket that is the first argument
	TimeoutSend                   // SO_SNDTIMEO
	TimeoutNever                  // it has none
)

// TimeoutOf says it of call nr. Only for sockets with a timeout are read, write and their kin such calls.
func TimeoutOf(nr uint64) Timeout {
	switch nr {
	case SysEpollWait, SysEpollPwait:
		return TimeoutMillis
	case SysRtSigtimedwait:
		return TimeoutThird
	case SysEpollPwait2, 220: // semtimedop
		return TimeoutFourth
	case 208, 333: // io_getevents, io_pgetevents
		return TimeoutFifth
	case 0, 19, 43, 45, 47, 288, 299: // read, readv, accept, recvfrom, recvmsg, accept4, recvmmsg
		return TimeoutReceive
	case 1, 20, 40, 42, 44, 46, 307: // write, writev, sendfile, connect, sendto, sendmsg, sendmmsg
		return TimeoutSend
	case 65: // semop
		return TimeoutNever
	}
	return TimeoutNone
}
