package lab

import (
	"errors"
	"fmt"
	"os"
	"time"

	"mosix/internal/id"
)

// Down ends the lab and everything in it. It goes by what is written down and by names alone, so it works as well for a lab
// whose making was broken off or whose inits were killed.
func (l *Lab) Down() error { return Down(l.rec.Name) }

// Down ends the lab called name, whole or left over.
func Down(name string) error {
	if err := checkRoot(); err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		return err
	}
	dir, err := os.ReadDir(labDir(name))
	if errors.Is(err, os.ErrNotExist) {
		return noSuchLab(name)
	}
	if err != nil {
		return err
	}
	var inits []initRecord
	for _, e := range dir {
		if !e.IsDir() {
			continue
		}
		r, ok, err := readInit(name, id.Node(e.Name()))
		if err != nil {
			return fmt.Errorf("lab down: cannot tell which process is the init of %s: %w", e.Name(), err)
		}
		if !ok {
			continue // the authority, or a node that was not started
		}
		if err := r.kill(); err != nil {
			return fmt.Errorf("lab down: node %s: %w", e.Name(), err)
		}
		inits = append(inits, r)
	}
	// With its init the kernel ends everything in a PID namespace, then its mounts, its network and its end of the cable.
	if err := waitGone(inits, 20*time.Second); err != nil {
		return fmt.Errorf("lab down: %w", err)
	}
	h, err := findHierarchies()
	if err != nil {
		return fmt.Errorf("lab down: %w", err)
	}
	if err := h.removeCgroups(name); err != nil {
		return fmt.Errorf("lab down: %w", err)
	}
	// Last, because it says what is left to do. Nothing is mounted in it but in namespaces that are gone.
	if err := os.RemoveAll(labDir(name)); err != nil {
		return fmt.Errorf("lab down: %w", err)
	}
	_ = os.Remove(Root) // stays where there is another lab
	return nil
}

func waitGone(inits []initRecord, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for _, r := range inits {
		for r.alive() {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d and its namespace still end after %s: something in it waits in the kernel (state D in ps); call lab down again later", r.PID, limit)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}
