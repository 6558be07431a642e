package vm

import (
	"encoding/json"
	"io"
	"sync"
)

// Request is what the machine is asked for, over its second serial line, one JSON object per line.
type Request struct {
	ID     int
	Args   []string // a program is started with them
	UID    int      // by this user, who is alone in a group of the same number
	Dir    string
	Env    []string
	Signal int // or the group of the program that ID names is sent this signal
}

// Reply is what comes back of a program: some of its output, or its end.
type Reply struct {
	ID       int // 0: the machine is ready, or, with Error, never will be
	Out, Err []byte
	Ended    bool
	Status   int // as a shell's $?
	Error    string
}

// Line sends and receives the objects of one serial line.
type Line struct {
	mu  sync.Mutex
	out *json.Encoder
	in  *json.Decoder
}

// NewLine speaks over rw, which hands on every byte as it is.
func NewLine(rw io.ReadWriter) *Line {
	return &Line{out: json.NewEncoder(rw), in: json.NewDecoder(rw)}
}

// Send sends a Request or a Reply.
func (l *Line) Send(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Encode(v)
}

// Receive waits for the next object.
func (l *Line) Receive(v any) error { return l.in.Decode(v) }

// Setup is what the init finds in SetupFile.
type Setup struct {
	Hostname string
	Address  string // of eth0, with its prefix: 10.0.0.3/24
	Modules  []string
	Start    []Request // programs that run from the beginning
}

// SetupFile, ModuleDir and ControlTTY are where init finds what it needs.
const (
	SetupFile  = "/etc/vm.json"
	ModuleDir  = "/lib/modules"
	ControlTTY = "/dev/ttyS1"
)
