//go:build !(linux && amd64)

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "mosixd: mosix works on Linux on amd64 processors only, and this is %s on %s.\n", runtime.GOOS, runtime.GOARCH)
	os.Exit(1)
}
