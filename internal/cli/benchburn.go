package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// burnPlan is what bench-jobs is to do: work in CPU seconds, at seconds from now.
type burnPlan struct {
	Speed  float64   `json:"speed"`  // turns in a CPU second
	Memory uint64    `json:"memory"` // of a job, bytes
	At     []float64 `json:"at"`
	Work   []float64 `json:"work"`
}

// burnt is a job that has ended.
type burnt struct {
	PID     int     `json:"pid"`
	Seconds float64 `json:"seconds"` // from its start to its end
}

func (a *app) benchJobsCommand() *cobra.Command {
	var words string
	c := &cobra.Command{
		Use:    "bench-jobs --plan PLAN",
		Short:  "Run jobs that compute, and tell how long each took (used by bench balance)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var plan burnPlan
			if err := json.Unmarshal([]byte(words), &plan); err != nil || len(plan.At) != len(plan.Work) || !(plan.Speed > 0) {
				return usagef("--plan %s: not what bench balance writes (%v)", words, err)
			}
			out, err := plan.run()
			if err != nil {
				return err
			}
			return json.NewEncoder(a.out).Encode(out)
		},
	}
	c.Flags().StringVar(&words, "plan", "", "the jobs")
	return c
}

// run plays the jobs, and returns when all have ended.
func (plan burnPlan) run() ([]burnt, error) {
	dir, err := os.MkdirTemp("", "burn")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmds := make([]*exec.Cmd, len(plan.Work))
	for i, w := range plan.Work {
		if cmds[i], err = burner(dir, uint64(w*plan.Speed), plan.Memory); err != nil {
			return nil, err
		}
	}
	out := make([]burnt, len(cmds))
	errs := make([]error, len(cmds))
	began := time.Now()
	var wg sync.WaitGroup
	for i, c := range cmds {
		time.Sleep(time.Until(began.Add(time.Duration(plan.At[i] * 1e9))))
		start := time.Now()
		if errs[i] = c.Start(); errs[i] != nil {
			break
		}
		wg.Go(func() {
			errs[i] = c.Wait()
			out[i] = burnt{c.Process.Pid, time.Since(start).Seconds()}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// burner makes a process that fills its memory and computes for so many turns of a xorshift generator (Marsaglia 2003). It is a program of
// a page, without any library, so that nothing else is measured.
func burner(dir string, turns, memory uint64) (*exec.Cmd, error) {
	const (
		code, data = 0x400000, 0x10000000
		head       = 64 + 2*56
		page       = 4096
	)
	le := binary.LittleEndian
	var b bytes.Buffer
	move := func(register byte, v uint64) { b.Write(le.AppendUint64([]byte{0x48, 0xb8 + register}, v)) } // movabs
	const rax, rcx, rdi = 0, 1, 7
	if pages := memory / page; pages > 0 {
		move(rdi, data)
		move(rcx, pages)
		b.Write([]byte{0xc6, 0x07, 0x01, 0x48, 0x81, 0xc7, 0x00, 0x10, 0, 0, 0x48, 0xff, 0xc9, 0x75, 0xf1}) // 1: movb $1, (%rdi); add $4096, %rdi; dec %rcx; jnz 1b
	}
	move(rcx, max(turns, 1))
	move(rax, 88172645463325252)
	for _, shift := range [][]byte{{0xe2, 13}, {0xea, 7}, {0xe2, 17}} { // 1: mov %rax, %rdx; shift %rdx; xor %rdx, %rax
		b.Write([]byte{0x48, 0x89, 0xc2, 0x48, 0xc1, shift[0], shift[1], 0x48, 0x31, 0xd0})
	}
	b.Write([]byte{0x48, 0xff, 0xc9, 0x75, 0xdd})               // dec %rcx; jnz 1b
	b.Write([]byte{0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05}) // exit_group(0)
	elf := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0}
	for _, v := range []uint64{code + head, 64, 0} { // entry, program headers, sections
		elf = le.AppendUint64(elf, v)
	}
	elf = le.AppendUint32(elf, 0)
	for _, v := range []uint16{64, 56, 2, 64, 0, 0} {
		elf = le.AppendUint16(elf, v)
	}
	segment := func(flags uint32, at, inFile, inMemory uint64) {
		elf = le.AppendUint32(le.AppendUint32(elf, 1), flags)
		for _, v := range []uint64{0, at, at, inFile, inMemory, page} {
			elf = le.AppendUint64(elf, v)
		}
	}
	size := uint64(head + b.Len())
	segment(5, code, size, size)
	segment(6, data, 0, max(memory, page))
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("burn-%d-%d", turns, memory)), os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(append(elf, b.Bytes()...))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	c := exec.Command(f.Name())
	c.Stderr = os.Stderr
	return c, nil
}

// burnSpeed measures how many turns a job makes in a CPU second: the best of a few tries, for others can only slow it down.
func burnSpeed(ctx context.Context) (best float64, err error) {
	dir, err := os.MkdirTemp("", "burn")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	const turns = 400_000_000
	for range 3 {
		c, err := burner(dir, turns, 0)
		if err == nil {
			err = c.Run()
		}
		if err != nil {
			return 0, err
		}
		used := c.ProcessState.SysUsage().(*syscall.Rusage)
		best = max(best, turns/time.Duration(used.Utime.Nano()+used.Stime.Nano()).Seconds())
		if err := ctx.Err(); err != nil {
			return 0, context.Cause(ctx)
		}
	}
	return best, nil
}
