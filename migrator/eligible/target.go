package eligible

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// Target is what a process must find on the node that it moves to. It travels with the node's offer; fields are only added.
type Target struct {
	Name        string `json:"name"`
	CPU         CPU    `json:"cpu"`
	VDSOBuildID string `json:"vdso_build_id"`
	PIDMax      int    `json:"pid_max"` // the first number that is not given any more

	Tags    []string           `json:"tags,omitempty"`
	Indices map[string]float64 `json:"indices,omitempty"` // external ones
}

// LocalTarget describes this machine, under the name that its node has.
func LocalTarget(name string) (*Target, error) {
	id, err := LocalVDSO()
	if err != nil {
		return nil, fmt.Errorf("build id of this kernel's vDSO: %w", err)
	}
	const path = "/proc/sys/kernel/pid_max"
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Target{Name: name, CPU: LocalCPU(), VDSOBuildID: id, PIDMax: n}, nil
}
