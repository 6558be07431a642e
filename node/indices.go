package node

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mosix/internal/require"
)

// indices are what a command of the administrator's says of this node: numbers by name, which requirements may ask for.
type indices struct {
	mu  sync.Mutex
	now map[string]float64
}

const (
	mostIndices = 32
	indexTime   = 30 * time.Second // for the command
)

func (x *indices) values() map[string]float64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.now)
}

// watchIndices runs the command again and again. Where it fails there are no indices, rather than old ones.
func (n *Node) watchIndices() {
	if n.conf.Indices == "" {
		return
	}
	failed := ""
	for {
		now, err := readIndices(n.ctx, n.conf.Indices)
		n.indices.mu.Lock()
		n.indices.now = now
		n.indices.mu.Unlock()
		if err != nil && n.ctx.Err() == nil && err.Error() != failed {
			n.log.Warn("external indices cannot be had; see indices in the configuration", "command", n.conf.Indices, "err", err)
		}
		if failed = ""; err != nil {
			failed = err.Error()
		}
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(time.Duration(n.conf.IndexEvery)):
		}
	}
}

func readIndices(ctx context.Context, command string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, indexTime)
	defer cancel()
	var complaint bytes.Buffer
	c := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	c.Stderr = &complaint
	c.WaitDelay = time.Second
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return parseIndices(out)
}

var indexName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,31}$`)

// parseIndices reads lines of a name and a number; one that begins with # says nothing.
func parseIndices(out []byte) (map[string]float64, error) {
	got := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for i := 1; lines.Scan(); i++ {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		if len(f) != 2 || !indexName.MatchString(f[0]) {
			return nil, fmt.Errorf("line %d: %q is not a name and a number", i, lines.Text())
		}
		if slices.Contains(append(require.Names(), "name", "true", "false"), f[0]) {
			return nil, fmt.Errorf("line %d: %s means something already; choose another name", i, f[0])
		}
		v, err := strconv.ParseFloat(f[1], 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("line %d: %q is no number", i, f[1])
		}
		if got[f[0]] = v; len(got) > mostIndices {
			return nil, fmt.Errorf("more than %d indices", mostIndices)
		}
	}
	return got, lines.Err()
}
