// Goroutines is a program of hundreds of goroutines: they compute, wait for one another, sleep, use files, sockets and
// children. Its one invariant: what it prints depends on nothing but this text.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	workers = 400
	rounds  = 60
)

func main() {
	dir, err := os.MkdirTemp(".", "go-")
	if err == nil {
		err = work(dir)
	}
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func work(dir string) error {
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					fmt.Fprintf(c, "%x\n", sha256.Sum256(s.Bytes()))
				}
			}()
		}
	}()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		for ctx.Err() == nil {
			runtime.GC()
			time.Sleep(20 * time.Millisecond)
		}
	}()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		sums   [workers][32]byte
		failed error
		ticks  atomic.Int64
	)
	baton := make(chan int)
	for i := range workers {
		wg.Go(func() {
			var err error
			if sums[i], err = one(i, l.Addr().String(), dir, baton, &ticks); err != nil {
				mu.Lock()
				failed = fmt.Errorf("goroutine %d: %w", i, err)
				mu.Unlock()
			}
		})
	}
	wg.Go(func() { // every number that is sent is received
		sum := 0
		for range workers * rounds / 2 {
			sum += <-baton
		}
		fmt.Println("baton", sum)
	})
	wg.Wait()
	if failed != nil {
		return failed
	}
	for i := 0; i < workers; i += 20 {
		fmt.Printf("%d %x\n", i, sums[i])
	}
	fmt.Println("ticks", ticks.Load())
	return nil
}

func one(i int, addr, dir string, baton chan<- int, ticks *atomic.Int64) (sum [32]byte, err error) {
	c, err := net.Dial("unix", addr)
	if err != nil {
		return sum, err
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	var local []byte
	for r := range rounds {
		local = append(local[:0], fmt.Sprint(i, r)...)
		for range 1500 {
			h := sha256.Sum256(local)
			local = h[:]
		}
		sum = sha256.Sum256(append(sum[:], local...))
		if r%2 == 0 {
			baton <- i*r + 1
		}
		switch (i + r) % 20 {
		case 0:
			if _, err := fmt.Fprintf(c, "%x\n", sum); err != nil {
				return sum, err
			}
			answer, err := answers.ReadString('\n')
			if err != nil {
				return sum, err
			}
			if want := fmt.Sprintf("%x\n", sha256.Sum256(fmt.Appendf(nil, "%x", sum))); answer != want {
				return sum, fmt.Errorf("the socket gave %q instead of %q", answer, want)
			}
		case 5:
			<-time.After(time.Duration(1+i%7) * time.Millisecond)
			ticks.Add(1)
		case 10:
			name := filepath.Join(dir, fmt.Sprint(i))
			if err := os.WriteFile(name, sum[:], 0o600); err != nil {
				return sum, err
			}
			b, err := os.ReadFile(name)
			if err != nil || [32]byte(b) != sum {
				return sum, fmt.Errorf("the file has %x instead of %x: %v", b, sum, err)
			}
		case 15:
			if i%40 == 0 {
				out, err := exec.Command("echo", fmt.Sprint(r)).Output()
				if err != nil || string(out) != fmt.Sprintln(r) {
					return sum, fmt.Errorf("echo gave %q: %v", out, err)
				}
			}
		}
	}
	return sum, nil
}
