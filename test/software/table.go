package software

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed testdata
var scripts embed.FS

// Script is one of testdata.
type Script struct {
	Name     string
	What     string
	Needs    []string // absolute paths, or names that are looked up in PATH
	Packages []string
	Patience time.Duration // for one run
	Fetch    [2]string     // address and SHA-256 of a file that it needs beside it; empty: none
	Text     string
}

// Table lists the scripts by name.
func Table() ([]Script, error) {
	entries, err := scripts.ReadDir("testdata")
	if err != nil {
		return nil, err
	}
	var list []Script
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".sh")
		if !ok {
			continue
		}
		b, err := scripts.ReadFile("testdata/" + e.Name())
		if err != nil {
			return nil, err
		}
		s, err := parse(name, string(b))
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func parse(name, text string) (Script, error) {
	s := Script{Name: name, Text: text, Patience: 5 * time.Minute}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# "), ": ")
		if !ok || !strings.HasPrefix(line, "# ") {
			break
		}
		switch key {
		case "what":
			s.What = value
		case "needs":
			s.Needs = strings.Fields(value)
		case "packages":
			s.Packages = strings.Fields(value)
		case "fetch":
			f := strings.Fields(value)
			if len(f) != 2 {
				return s, fmt.Errorf("%s.sh: fetch: an address and a SHA-256 are due, not %q", name, value)
			}
			s.Fetch = [2]string(f)
		case "seconds":
			n, err := strconv.Atoi(value)
			if err != nil {
				return s, fmt.Errorf("%s.sh: seconds: %w", name, err)
			}
			s.Patience = time.Duration(n) * time.Second
		default:
			return s, fmt.Errorf("%s.sh: nobody knows what %q means", name, key)
		}
	}
	if s.What == "" || len(s.Needs) == 0 || len(s.Packages) == 0 {
		return s, fmt.Errorf("%s.sh: it must begin with lines that say what, needs and packages", name)
	}
	return s, nil
}

// Missing says what this machine lacks to run the script.
func (s Script) Missing() (files []string) {
	for _, need := range s.Needs {
		var err error
		if strings.HasPrefix(need, "/") {
			_, err = os.Stat(need)
		} else {
			_, err = exec.LookPath(need)
		}
		if err != nil {
			files = append(files, need)
		}
	}
	return files
}

// Prepare gets what the script wants to have beside it in dir.
func (s Script) Prepare(dir string) error {
	if s.Fetch[0] == "" {
		return nil
	}
	c := http.Client{Timeout: 2 * time.Minute}
	r, err := c.Get(s.Fetch[0])
	if err != nil {
		return fmt.Errorf("what %s works on: %w", s.Name, err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if sum := sha256.Sum256(b); err == nil && (r.StatusCode != http.StatusOK || hex.EncodeToString(sum[:]) != s.Fetch[1]) {
		err = fmt.Errorf("%s gave %s and %d bytes that are not those that are due", s.Fetch[0], r.Status, len(b))
	}
	if err != nil {
		return fmt.Errorf("what %s works on: %w", s.Name, err)
	}
	return os.WriteFile(filepath.Join(dir, path.Base(s.Fetch[0])), b, 0o644)
}

// Unpack writes the scripts, and what they use, into dir, for everybody to read.
func Unpack(dir string) error {
	entries, err := scripts.ReadDir("testdata")
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, err := scripts.ReadFile("testdata/" + e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), b, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}
