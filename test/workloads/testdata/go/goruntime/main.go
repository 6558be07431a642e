// Goruntime is a workload of the Go runtime's own kind: goroutines on all processors, a collector that runs all the time,
// timers, channels, a loopback connection, files, and a child at the end. Its arguments and its output are those of work.h.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"time"
)

var (
	bad  int
	mu   sync.Mutex
	seen = map[string]string{}
	out  = bufio.NewWriter(os.Stdout)
)

func check(err error, what string, args ...any) {
	if err != nil {
		mu.Lock()
		defer mu.Unlock()
		bad++
		fmt.Fprintf(os.Stderr, "bad: %s: %v\n", fmt.Sprintf(what, args...), err)
	}
}

// report prints in the first round and holds later rounds to it.
func report(name, value string) {
	mu.Lock()
	defer mu.Unlock()
	if was, ok := seen[name]; !ok {
		seen[name] = value
		fmt.Fprintln(out, name, value)
	} else if was != value {
		bad++
		fmt.Fprintf(os.Stderr, "bad: %s is %s, was %s\n", name, value, was)
	}
}

// pipeline sends numbers through a ring of goroutines that meet on unbuffered channels.
func pipeline() string {
	const stages, items = 20, 200
	first := make(chan uint64)
	in := first
	for range stages {
		next := make(chan uint64)
		go func(in <-chan uint64, next chan<- uint64) {
			for v := range in {
				next <- v*6364136223846793005 + 1442695040888963407
			}
			close(next)
		}(in, next)
		in = next
	}
	go func() {
		for i := range uint64(items) {
			first <- i
		}
		close(first)
	}()
	var sum uint64
	for v := range in {
		sum = sum*31 + v
	}
	return strconv.FormatUint(sum, 16)
}

// garbage builds and drops trees, and collects in between.
func garbage(round int) string {
	type tree struct{ left, right *tree }
	var build func(d int) *tree
	build = func(d int) *tree {
		if d == 0 {
			return &tree{}
		}
		return &tree{build(d - 1), build(d - 1)}
	}
	var count func(t *tree) int
	count = func(t *tree) int {
		if t.left == nil {
			return 1
		}
		return 1 + count(t.left) + count(t.right)
	}
	n := 0
	for range 4 {
		n += count(build(12))
	}
	if round%5 == 0 {
		runtime.GC()
	}
	return strconv.Itoa(n)
}

func hashes() string {
	var wg sync.WaitGroup
	sums := make([]string, 8)
	for i := range sums {
		wg.Go(func() {
			h := sha256.New()
			var b [8]byte
			for j := range 5000 {
				binary.LittleEndian.PutUint64(b[:], uint64(i*j))
				h.Write(b[:])
			}
			sums[i] = fmt.Sprintf("%x", h.Sum(nil)[:4])
		})
	}
	wg.Wait()
	return fmt.Sprint(sums)
}

func numbers() string {
	f := big.NewInt(1)
	for i := int64(2); i < 400; i++ {
		f.Mul(f, big.NewInt(i))
	}
	m := map[string]int{}
	for i := range 2000 {
		m[strconv.Itoa(i*i%997)] += i
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	b, err := json.Marshal(m)
	check(err, "marshal")
	return fmt.Sprintf("%x %d", sha256.Sum256(append([]byte(f.String()), b...)), len(keys))
}

// timers holds several kinds to the time that they were set to.
func timers() {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Millisecond)
	defer cancel()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	// A program that did not run for a while finds both due at once, and select may take the end first: the tick comes then.
	ticks := 0
	for end := ctx.Done(); end != nil || ticks == 0; {
		select {
		case <-tick.C:
			ticks++
		case <-end:
			end = nil
		}
	}
	took := time.Since(began)
	if took < 14*time.Millisecond || took > 10*time.Second {
		check(fmt.Errorf("took %v, %d ticks", took, ticks), "timers")
	}
	if wall := time.Now().Round(0).Sub(began.Round(0)); wall < 0 || wall-took > time.Second || took-wall > time.Second {
		check(fmt.Errorf("wall clock says %v, monotonic clock %v", wall, took), "clocks")
	}
}

// echo is a server and its client, both in this process.
func echo(l net.Listener, kept net.Conn) string {
	one, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		check(err, "dial")
		return ""
	}
	defer one.Close()
	h := sha256.New()
	for i := range 10 {
		for _, c := range []net.Conn{one, kept} {
			msg := bytes.Repeat([]byte{byte(i + 1)}, 1+i*3000)
			check(binary.Write(c, binary.LittleEndian, uint32(len(msg))), "write a length")
			_, err := c.Write(msg)
			check(err, "write")
			got := make([]byte, len(msg))
			check(c.SetReadDeadline(time.Now().Add(30*time.Second)), "deadline")
			_, err = io.ReadFull(c, got)
			check(err, "read")
			h.Write(got)
		}
	}
	check(one.SetReadDeadline(time.Now().Add(10*time.Millisecond)), "deadline")
	if _, err := one.Read(make([]byte, 1)); err == nil || !err.(net.Error).Timeout() {
		check(fmt.Errorf("got %v", err), "a deadline that passes")
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for {
				var n uint32
				if binary.Read(c, binary.LittleEndian, &n) != nil {
					return
				}
				b := make([]byte, n)
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				for i := range b {
					b[i] ^= 0x55
				}
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}()
	}
}

func files(name string) string {
	b := bytes.Repeat([]byte("sixteen bytes ..\n"), 5000)
	check(os.WriteFile(name, b, 0o600), "write a file")
	f, err := os.Open(name)
	check(err, "open")
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	check(err, "copy")
	return fmt.Sprintf("%d %x", n, h.Sum(nil)[:8])
}

func main() {
	seconds, stop := 0.0, "-"
	if len(os.Args) > 2 {
		seconds, _ = strconv.ParseFloat(os.Args[1], 64)
		stop = os.Args[2]
	}
	pid := os.Getpid()
	fmt.Fprintln(os.Stderr, "pid", pid)
	began := time.Now()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bad:", err)
		os.Exit(2)
	}
	go serve(l)
	kept, err := net.Dial("tcp", l.Addr().String())
	check(err, "dial")
	name := fmt.Sprintf("goruntime.%d", pid)
	rounds := 0
	for more := true; more && bad < 20; {
		rounds++
		report("pipeline", pipeline())
		report("garbage", garbage(rounds))
		report("hashes", hashes())
		report("numbers", numbers())
		timers()
		report("echo", echo(l, kept))
		report("files", files(name))
		if os.Getpid() != pid {
			check(fmt.Errorf("now %d, was %d", os.Getpid(), pid), "process number")
		}
		time.Sleep(5 * time.Millisecond)
		since := time.Since(began).Seconds()
		_, err := os.Stat(stop)
		more = since < seconds || stop != "-" && err != nil && since < 240
	}
	check(os.Remove(name), "remove")
	b, err := exec.Command("/bin/sh", "-c", "echo child").Output()
	check(err, "child")
	report("child", string(bytes.TrimSpace(b)))
	if bad > 0 {
		fmt.Fprintln(out, "BAD")
	} else {
		fmt.Fprintln(out, "good")
	}
	out.Flush()
	fmt.Fprintf(os.Stderr, "end %d after %d rounds\n", os.Getpid(), rounds)
	if bad > 0 {
		os.Exit(1)
	}
}
