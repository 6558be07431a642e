package cli

import (
	"bytes"
	"fmt"
	"os"

	"mosix/internal/kern"
	"mosix/internal/mem"
	"mosix/internal/procfs"
)

// The sizes of units in bytes: what their pipe holds, so that one is written when the one before has been read.
const (
	demoUnit = 64 << 10 // of the corpus
	demoLine = mem.PageSize
)

// demoFeeder writes units into the standard input of a program.
type demoFeeder struct {
	read, write *os.File
	corpus      []byte // nil: the units are lines
}

func newDemoFeeder(corpus string, data bool) (*demoFeeder, error) {
	f := &demoFeeder{}
	var err error
	if data {
		if f.corpus, err = os.ReadFile(corpus); err != nil {
			return nil, err
		}
		if len(f.corpus) < demoUnit {
			return nil, fmt.Errorf("%s has only %d bytes: less than a unit of work", corpus, len(f.corpus))
		}
	}
	if f.read, f.write, err = os.Pipe(); err != nil {
		return nil, err
	}
	if !data {
		err = kern.SetPipeSize(f.write, demoLine)
	}
	return f, err
}

// close ends a feeder whose program was not started.
func (f *demoFeeder) close() {
	f.read.Close()
	f.write.Close()
}

var demoAgain = append(bytes.Repeat([]byte{'.'}, demoLine-1), '\n')

func (f *demoFeeder) unit(i int) []byte {
	if f.corpus == nil {
		return demoAgain
	}
	at := i * demoUnit % (len(f.corpus) - demoUnit + 1)
	return f.corpus[at : at+demoUnit]
}

// feed writes rounds units; with 0, as many as it takes until enough says so, and returns how many these were.
func (f *demoFeeder) feed(rounds int, enough func() bool) (int, error) {
	f.read.Close() // the program has it
	n := 0
	for ; n < rounds || rounds == 0 && !enough(); n++ {
		if _, err := f.write.Write(f.unit(n)); err != nil {
			f.write.Close()
			return n, fmt.Errorf("feed round %d: %w", n+1, err)
		}
	}
	return n, f.write.Close()
}

// usedEnough tells when process pid has used cpu seconds of CPU time, or is no more.
func usedEnough(pid int, cpu float64) func() bool {
	return func() bool {
		s, err := procfs.Default.Stat(pid)
		return err != nil || float64(s.UTime+s.STime)/procfs.TicksPerSecond >= cpu
	}
}
