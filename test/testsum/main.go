// Command testsum reads what "go test -json" prints and tells people what happened: a line for each package, the output of
// tests that failed, the reasons of those that were skipped, and the totals.
//
//	go test -json ./... | testsum [-name unit] [-save FILE]
//	testsum -total FILE…
//
// The last line is always "N passed, N failed, N skipped". It exits 1 when a test failed, a package did not build, or
// nothing ran at all.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	name := flag.String("name", "tests", "what this run is called in the summary")
	save := flag.String("save", "", "write the summary to this file, for -total")
	total := flag.Bool("total", false, "add up the summaries in the files that are named")
	flag.Parse()

	var err error
	if *total {
		err = printTotal(os.Stdout, flag.Args())
	} else {
		err = run(os.Stdin, os.Stdout, *name, *save)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, name, save string) error {
	s, err := summarize(in, out, name)
	if err != nil {
		return err
	}
	s.print(out)
	if save != "" {
		b, err := json.MarshalIndent(s, "", "  ")
		if err == nil {
			err = os.WriteFile(save, b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return s.verdict()
}

func printTotal(out io.Writer, files []string) error {
	sum := summary{Name: "total"}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		var s summary
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("read %s: %w", f, err)
		}
		fmt.Fprintf(out, "%-8s %6d run  %6d passed  %4d failed  %4d skipped  %7.1f s\n",
			s.Name, s.ran(), s.Passed, len(s.Failed), len(s.Skipped), s.Seconds)
		sum.add(s)
	}
	sum.print(out)
	return sum.verdict()
}

// verdict is the error that the program ends with.
func (s *summary) verdict() error {
	switch {
	case len(s.Failed) > 0:
		return fmt.Errorf("%d failed", len(s.Failed))
	case s.ran() == 0:
		return errors.New("no test ran")
	}
	return nil
}
