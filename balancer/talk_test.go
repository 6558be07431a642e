package balancer_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"mosix/balancer"
	"mosix/internal/id"
)

// A process that would wait for home goes last, and not at all where it would wait longer than it gains.
func TestTalkativeGoLast(t *testing.T) {
	tests := []struct {
		name string
		talk []float64 // of processes 101, 102, …; the first has used most
		want id.HomePID
	}{
		{"nobody talks: the second-heaviest goes", []float64{0, 0, 0}, 102},
		{"the heaviest talks: it stays in its place", []float64{0.9, 0, 0}, 102},
		{"the second talks: the heaviest goes", []float64{0, 0.9, 0}, 101},
		{"all talk too much", []float64{9, 9, 9}, 0},
		{"little does not matter", []float64{0.1, 0.2, 0.1}, 102},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := balancer.View{Costs: balancer.DefaultCosts(), Self: balancer.Node{Name: "n1", CPUs: 1, Speed: 1, Mean: 3, True: 3, Exported: 3},
				Nodes: []balancer.Node{{Name: "n2", CPUs: 1, Speed: 1}}}
			for i, talk := range tt.talk {
				v.Processes = append(v.Processes, balancer.Candidate{Process: id.Process{Home: "n1", PID: id.HomePID(101 + i)}, CPU: time.Duration(20-i) * time.Second,
					Ready: time.Minute, ReadyLast: 1, Residency: time.Minute, Talk: talk})
			}
			d := balancer.NewMosix().Decide(v, time.Hour, rand.New(rand.NewPCG(1, 2)))
			var got id.HomePID
			if len(d.Moves) > 0 {
				got = d.Moves[0].Process.PID
			}
			if got != tt.want {
				t.Errorf("%d goes (%s), want %d", got, d.Why, tt.want)
			}
		})
	}
}
