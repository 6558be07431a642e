package cli

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mosix/internal/config"
)

const pageBytes = 4096

func (a *app) benchLoadCommand() *cobra.Command {
	var size, dirty string
	c := &cobra.Command{
		Use:    "bench-load --size SIZE --dirty PERCENT",
		Short:  "Hold memory and write a share of its pages every second (used by bench)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			n, err := config.ParseBytes(size)
			if err != nil {
				return exitWith(ExitUsage, err)
			}
			percent, err := parsePercent(dirty)
			if err != nil {
				return exitWith(ExitUsage, err)
			}
			return a.benchLoad(n, percent)
		},
	}
	c.Flags().StringVar(&size, "size", "64MiB", "memory to hold")
	c.Flags().StringVar(&dirty, "dirty", "0%", "share of its pages to write per second")
	return c
}

func parsePercent(s string) (float64, error) {
	f, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || f < 0 || f > 1000 {
		return 0, fmt.Errorf("%q is not a share: want a number such as 10%%", s)
	}
	return f, nil
}

// benchLoad maps and fills memory, says "ready", and dirties it until it is killed or its standard input ends.
func (a *app) benchLoad(size uint64, percent float64) error {
	debug.SetGCPercent(-1) // only the mapping shall be written
	m, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map %s: %w", humanBytes(size), err)
	}
	rng := rand.NewPCG(1, size) // no page is equal to another, and none can be compressed
	for i := 0; i+8 <= len(m); i += 8 {
		binary.LittleEndian.PutUint64(m[i:], rng.Uint64())
	}
	if _, err := fmt.Fprintln(a.out, "ready"); err != nil {
		return err
	}
	if f, ok := a.in.(*os.File); ok && percent == 0 {
		_, err := f.Read(make([]byte, 1))
		_ = err // the end of it, one way or the other, ends the load
		return nil
	}
	const tick = 20 * time.Millisecond
	for w := (writer{memory: m}); ; {
		time.Sleep(tick)
		w.write(float64(size/pageBytes) * percent / 100 * tick.Seconds())
	}
}

// writer writes to one page after the other, each once before any a second time.
type writer struct {
	memory []byte
	page   int
	due    float64 // pages, of which a part is carried over
}

// write writes to n more pages.
func (w *writer) write(n float64) {
	for w.due += n; w.due >= 1; w.due-- {
		w.memory[w.page*pageBytes]++
		w.page = (w.page + 1) % (len(w.memory) / pageBytes)
	}
}
