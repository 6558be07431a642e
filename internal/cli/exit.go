package cli

import (
	"errors"
	"fmt"

	"mosix/node/control"
)

// Exit statuses of mosixctl. Programs rely on them: they are never renumbered.
const (
	ExitOK          = 0
	ExitFailed      = 1 // something went wrong; the message says what
	ExitUsage       = 2 // the command line makes no sense
	ExitRefused     = 3 // the process may not move; it is well and stays where it is
	ExitUnreachable = 4 // no agent answers on the control socket

	// Of run and lab exec, before the command runs; afterwards its own status is passed on, or 128 plus the signal that ended it.
	ExitNotStarted    = 125 // mosixctl itself failed
	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// exitError ends mosixctl with a status. A nil err says that everything was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitWith ends mosixctl with a status and, where err is not nil, a message.
func exitWith(code int, err error) error { return &exitError{code, err} }

// usagef is an error of the command line.
func usagef(format string, args ...any) error {
	return &exitError{ExitUsage, fmt.Errorf(format, args...)}
}

// runError marks an error of a command that ran, as opposed to one of cobra about the command line.
type runError struct{ err error }

func (e runError) Error() string { return e.err.Error() }
func (e runError) Unwrap() error { return e.err }

// status gives the exit status for what a command returned.
func status(err error) int {
	var exit *exitError
	var run runError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.code
	case !errors.As(err, &run):
		return ExitUsage
	case errors.Is(err, control.ErrUnreachable):
		return ExitUnreachable
	}
	return ExitFailed
}
