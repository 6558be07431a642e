//go:build linux && amd64

// Command mosixctl looks at a mosix cluster and moves processes in it. Its one invariant: it does nothing but call internal/cli.
package main

import (
	"os"

	"mosix/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
