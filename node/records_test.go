package node

import (
	"testing"

	"mosix/internal/id"
)

// TestTidyLeavesWhatMoves: who is refused a move of a process does not take its record from somebody who moves it.
func TestTidyLeavesWhatMoves(t *testing.T) {
	n := &Node{name: "n1", records: map[id.Process]*record{}}
	p := id.Process{Home: "n1", PID: 100, Start: 1}
	r := n.record(p)
	n.tidy(r)
	if n.records[p] != nil {
		t.Fatal("the record of a process that has never moved is kept")
	}
	if !n.claim(r) || n.records[p] != r {
		t.Fatal("who had the record before it was tidied cannot move its process")
	}
	n.tidy(n.record(p)) // somebody else was refused
	if n.records[p] != r {
		t.Fatal("the record of a process that moves is tidied away")
	}
	n.setMoving(r, false)
	n.tidy(r)
	if n.records[p] != nil {
		t.Error("it is kept after the move")
	}
	if other := n.record(p); n.claim(r) || n.records[p] != other {
		t.Error("two records of one process")
	}
}
