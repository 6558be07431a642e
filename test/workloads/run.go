package workloads

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience bounds a run, beyond what its steps take: one of thirty on two processors, moved again and again, is slow and not hung.
const patience = 3 * time.Minute

// Result is what a run came to.
type Result struct {
	Out        []byte // standard output, and what stood in files afterwards
	Status     int
	PID        int
	Complaints string // standard error
}

// Do runs w in p. Without steps it runs natively, for one round. With steps it runs until they are done: they get the
// process's number, and its end must not come before theirs. The name run is unique in p.
func Do(p Place, w Workload, run string, steps func(pid int) error) (r Result, err error) {
	stop, seconds := "-", 0.0
	if steps != nil {
		stop = "stop." + run
		defer func() { _, _ = p.Output("rm", "-f", stop) }() // a lab's files end with the lab
	}
	var out, complaints sharedBuffer
	proc, err := p.Start(w.Command(run, seconds, stop), w.Talk, &out, &complaints)
	if err != nil {
		return r, err
	}
	ended := make(chan struct{})
	var werr error
	go func() {
		defer close(ended)
		r.Status, werr = proc.Wait()
	}()
	finish := func(cause error) (Result, error) {
		if cause != nil {
			_ = proc.Signal(syscall.SIGKILL) // it may have ended
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				return Result{Complaints: complaints.String()}, fmt.Errorf("%w; and it does not die of SIGKILL", cause)
			}
		}
		r.Out, r.Complaints = out.bytes(), complaints.String()
		return r, cause
	}

	var talk *talk
	if w.Talk {
		talk = startTalk(proc.Terminal(), &complaints)
	}
	if r.PID, err = awaitPID(&complaints, ended); err != nil {
		return finish(err)
	}
	if steps != nil {
		done := make(chan error, 1)
		go func() { done <- steps(r.PID) }()
		select {
		case err := <-done:
			if err != nil {
				return finish(err)
			}
		case <-ended:
			serr := <-done
			if werr == nil {
				werr = fmt.Errorf("it ended with status %d before its moves did (%v); it says:\n%s", r.Status, serr, complaints.String())
			}
			return finish(werr)
		}
		if _, err := p.Output("touch", stop); err != nil {
			return finish(fmt.Errorf("tell it to end: %w", err))
		}
	}
	if talk != nil {
		text, err := talk.end()
		if err != nil {
			return finish(err)
		}
		out.Write(text)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		return finish(fmt.Errorf("it did not end within %v of being told to; it says:\n%s%s", patience, complaints.String(), standstill(p, r.PID)))
	}
	if werr != nil {
		return finish(werr)
	}
	if after := w.EndCommand(run); after != nil {
		b, err := p.Output(after...)
		if err != nil {
			return finish(fmt.Errorf("look at its files: %w", err))
		}
		out.Write(bytes.ReplaceAll(b, []byte(run), []byte("RUN")))
	}
	return finish(nil)
}

// standstill is what there is to be seen of a process that does not end: where it runs, and twice, a second apart, what its threads
// at home, and those of its children and theirs, wait for.
func standstill(p Place, pid int) string {
	look := fmt.Sprintf(`mosixctl ps 2>&1
kids() { for k in $(pgrep -P $1); do echo $k; kids $k; done; }
for i in 1 2; do
	for p in %d $(kids %d); do
		for t in /proc/$p/task/*; do
			cat $t/stat $t/syscall
			grep -E '^(State|Sig|Shd|Tracer)' $t/status
		done
	done
	sleep 1
done`, pid, pid)
	b, err := p.Output("sh", "-c", look)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Check holds r to what every run must be: the status of the table, the same number from start to end, no complaint.
func (w Workload) Check(r Result) error {
	if r.Status != w.Status {
		return fmt.Errorf("exit status %d, want %d; it says:\n%s", r.Status, w.Status, r.Complaints)
	}
	if strings.Contains(r.Complaints, "bad:") || bytes.Contains(r.Out, []byte("bad:")) || bytes.Contains(r.Out, []byte("BAD")) {
		return fmt.Errorf("it found something wrong:\n%s%s", r.Complaints, r.Out)
	}
	m := endLine.FindStringSubmatch(r.Complaints)
	if m == nil {
		return fmt.Errorf("it did not come to its end; it says:\n%s", r.Complaints)
	}
	if end, _ := strconv.Atoi(m[1]); end != r.PID {
		return fmt.Errorf("its number was %d at the start, %d at the end", r.PID, end)
	}
	return nil
}

var (
	pidLine = regexp.MustCompile(`(?m)^pid (\d+)\r?$`)
	endLine = regexp.MustCompile(`(?m)^end (\d+)`)
)

func awaitPID(complaints *sharedBuffer, ended <-chan struct{}) (int, error) {
	for began := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		over := false
		select {
		case <-ended:
			over = true
		default:
		}
		if m := pidLine.FindStringSubmatch(complaints.String()); m != nil {
			return strconv.Atoi(m[1])
		}
		if over || time.Since(began) > 20*time.Second {
			return 0, fmt.Errorf("it did not tell its number; it says:\n%s", complaints.String())
		}
	}
}

// sharedBuffer is a buffer that one side writes while others look.
type sharedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *sharedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *sharedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

func (b *sharedBuffer) String() string { return string(b.bytes()) }
