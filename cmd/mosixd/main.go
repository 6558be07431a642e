//go:build linux && amd64

// Command mosixd is the agent of a mosix node. Its one invariant: it does nothing but read its configuration and run package
// node until it is told to end.
package main

import (
	"os"

	"mosix/internal/cli"
)

func main() { os.Exit(cli.Daemon(os.Args[1:])) }
