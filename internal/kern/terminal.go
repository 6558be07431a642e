package kern

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := termios(f)
	return err == nil
}

// RawTerminal makes the terminal f hand over every byte as it comes, without echo, editing or signals (cfmakeraw), and
// returns what puts it back as it was.
func RawTerminal(f *os.File) (restore func() error, err error) {
	was, err := termios(f)
	if err != nil {
		return nil, fmt.Errorf("read the settings of terminal %s: %w", f.Name(), err)
	}
	raw := *was
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag &^= unix.CSIZE | unix.PARENB
	raw.Cflag |= unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := setTermios(f, &raw); err != nil {
		return nil, fmt.Errorf("make terminal %s raw: %w", f.Name(), err)
	}
	return func() error { return setTermios(f, was) }, nil
}

func termios(f *os.File) (t *unix.Termios, err error) {
	cerr := control(f, func(fd int) { t, err = unix.IoctlGetTermios(fd, unix.TCGETS) })
	if cerr != nil {
		return nil, cerr
	}
	return t, err
}

func setTermios(f *os.File, t *unix.Termios) (err error) {
	if cerr := control(f, func(fd int) { err = unix.IoctlSetTermios(fd, unix.TCSETS, t) }); cerr != nil {
		return cerr
	}
	return err
}

// control runs do with f's descriptor and leaves it as non-blocking as it was, which f.Fd would not.
func control(f *os.File, do func(fd int)) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return c.Control(func(fd uintptr) { do(int(fd)) })
}
