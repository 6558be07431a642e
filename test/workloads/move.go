package workloads

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	"mosix/internal/id"
	"mosix/node/api"
	"mosix/test/cluster"
)

// between is the time between the end of a move and the wish for the next one.
const between = 300 * time.Millisecond

// Mover moves processes of one home about, as its ordinary user does, and counts.
type Mover struct {
	Cluster *cluster.Cluster
	Home    id.Node
	Others  []id.Node

	mu    sync.Mutex
	Count Count
}

// Count is what came of the moves that were asked for.
type Count struct {
	Moved, Refused, CameHome int // CameHome: it was at home already when it was asked to go there
	FreezeMS                 []float64
}

// Counted is a copy of what was counted up to now.
func (m *Mover) Counted() Count {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Count
}

// move asks until the process has moved to the node to. It returns false where it was there already.
func (m *Mover) move(w Workload, pid int, to id.Node) (bool, error) {
	target := string(to)
	if to == m.Home {
		target = api.ToHome
	}
	for try := 1; ; try++ {
		r, err := m.Cluster.Migrate(m.Home, cluster.User1, pid, target)
		if err != nil {
			return false, err
		}
		switch r.Result {
		case api.ResultMoved:
			if r.PID != id.HomePID(pid) || r.Home != m.Home || r.To != to {
				return false, fmt.Errorf("asked to move process %d of %s to %s, mosixctl tells of process %d of %s to %s", pid, m.Home, to, r.PID, r.Home, r.To)
			}
			m.mu.Lock()
			m.Count.Moved++
			m.Count.FreezeMS = append(m.Count.FreezeMS, r.FreezeMS)
			m.mu.Unlock()
			return true, nil
		case api.ResultRefused:
			m.mu.Lock()
			m.Count.Refused++
			m.mu.Unlock()
			if p, err := m.Cluster.Process(m.Home, pid); err == nil && p.Where == to && to == m.Home {
				m.mu.Lock()
				m.Count.CameHome++
				m.mu.Unlock()
				return false, nil
			}
			// One that is on its way by itself can be asked again, as a user would.
			onItsWay := len(r.Refusals) == 1 && r.Refusals[0].What == "moving"
			if !w.MayRefuse && !onItsWay || try == 100 {
				return false, fmt.Errorf("the move to %s was refused: %v", to, r.Refusals)
			}
			time.Sleep(50 * time.Millisecond)
		default:
			return false, fmt.Errorf("the move to %s: %s: %s", to, r.Result, r.Error)
		}
	}
}

// Once moves to another node and lets it work there.
func (m *Mover) Once(w Workload) func(pid int) error {
	return func(pid int) error {
		time.Sleep(between / 3)
		if _, err := m.move(w, pid, m.Others[0]); err != nil {
			return err
		}
		time.Sleep(between)
		p, err := m.Cluster.Process(m.Home, pid)
		if err != nil {
			return err
		}
		if p.Epoch >= 2 || p.State == api.ProcessMoving {
			return nil // it has come home for something that can be done there only, or is on its way
		}
		if p.Where != m.Others[0] || p.State != api.ProcessAway || p.Epoch != 1 {
			return fmt.Errorf("after a move to %s mosixctl ps has it %s at %s, epoch %d", m.Others[0], p.State, p.Where, p.Epoch)
		}
		return nil
	}
}

// comesHome: it does what it may have to come home for, so where it is at some moment proves nothing.
func (w Workload) comesHome() bool {
	switch w.Name {
	case "comehome", "maps", "goruntime", "shell", "ends-thread", "ends-main":
		return true
	}
	return false
}

// RoundTrip moves to another node and home again.
func (m *Mover) RoundTrip(w Workload) func(pid int) error {
	return func(pid int) error {
		time.Sleep(between / 3)
		for _, to := range []id.Node{m.Others[0], m.Home} {
			if _, err := m.move(w, pid, to); err != nil {
				return err
			}
			time.Sleep(between)
		}
		return nil
	}
}

// Again moves it between all nodes in turn, 300 ms after each move has ended, until moves were committed.
func (m *Mover) Again(w Workload, moves int) func(pid int) error {
	return func(pid int) error {
		time.Sleep(between / 3)
		round := append(append([]id.Node{}, m.Others...), m.Home)
		for done, i := 0, 0; done < moves; i++ {
			moved, err := m.move(w, pid, round[i%len(round)])
			if err != nil {
				return fmt.Errorf("move %d of %d: %w", done+1, moves, err)
			}
			if moved {
				done++
			}
			time.Sleep(between)
		}
		return nil
	}
}

// Storm stops and continues the processes of a run on this machine for a time: what is left of a move when everything else
// about it is taken away.
func Storm(group func() int, d time.Duration) func(pid int) error {
	return func(int) error {
		for began := time.Now(); time.Since(began) < d; {
			if err := syscall.Kill(-group(), syscall.SIGSTOP); err != nil {
				return err
			}
			time.Sleep(3 * time.Millisecond)
			if err := syscall.Kill(-group(), syscall.SIGCONT); err != nil {
				return err
			}
			time.Sleep(15 * time.Millisecond)
		}
		return nil
	}
}
